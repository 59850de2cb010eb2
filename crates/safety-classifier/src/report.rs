//! What training a classifier came to, as JSON and as Markdown.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use cai_data::atomic;
use cai_train::{LogEntry, TrainReport};
use serde::{Deserialize, Serialize};

use crate::calibrate::Calibration;
use crate::data::Counts;
use crate::error::Result;
use crate::metrics::Evaluation;

/// What training came to. The same for the same config, records and machine: it holds no times.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// What became of every record.
    pub data: Counts,
    /// Tokens of the tokenizer; none without an encoder.
    pub vocab_size: Option<usize>,
    /// N-grams of the linear path; none without one.
    pub ngrams: Option<usize>,
    /// How the encoder was trained (the last one, of several); none without one.
    pub encoder: Option<EncoderTraining>,
    /// Held-out accuracy of each model alone.
    pub members: BTreeMap<String, f64>,
    /// How the models are weighed and calibrated, fitted to the held-out texts.
    pub calibration: Calibration,
    /// Measures on the held-out texts, with calibrated probabilities.
    pub held_out: Evaluation,
}

/// How an encoder was trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EncoderTraining {
    /// Number of weights.
    pub parameters: usize,
    /// Optimiser steps.
    pub steps: usize,
    /// Tokens seen in training, padding not counted.
    pub tokens: u64,
    /// Last value of every training metric.
    pub metrics: BTreeMap<String, f64>,
    /// Training metrics over time.
    pub log_history: Vec<LogEntry>,
}

impl From<TrainReport> for EncoderTraining {
    fn from(report: TrainReport) -> Self {
        let TrainReport { trainable_parameters: parameters, steps, tokens, metrics, .. } = report;
        Self { parameters, steps, tokens, metrics, log_history: report.log_history }
    }
}

impl Report {
    /// Writes `report.json` and `report.md`.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn save(&self, dir: &Path) -> Result<()> {
        atomic::write(&dir.join("report.md"), self.markdown().as_bytes())?;
        atomic::write_json(&dir.join("report.json"), self)?;
        Ok(())
    }

    /// The report as a page of Markdown.
    pub fn markdown(&self) -> String {
        let data = &self.data;
        let (train, held_out) = (data.train.values().sum(), data.held_out.values().sum());
        let mut page = String::from("# Safety classifier\n\n");
        line(&mut page, format_args!("{}", self.sizes(train, held_out)));
        for (reason, number) in &data.left_out {
            line(&mut page, format_args!("- left out: {number} ({reason})"));
        }
        page.push_str("\n## Held-out texts\n\n");
        page.push_str(&evaluation_markdown(&self.held_out));
        let Calibration { map, before, after, .. } = &self.calibration;
        line(
            &mut page,
            format_args!(
                "\nCalibration ({}): negative log-likelihood {:.4} → {:.4}, calibration error \
                 {:.4} → {:.4}, largest of a bin {:.4} → {:.4}, Brier score {:.4} → {:.4}.",
                map.describe(),
                before.nll,
                after.nll,
                before.ece,
                after.ece,
                before.mce,
                after.mce,
                before.brier,
                after.brier
            ),
        );
        for ((name, accuracy), weight) in self.members.iter().zip(self.weights()) {
            line(
                &mut page,
                format_args!("- {name} alone: accuracy {accuracy:.4}, weight {weight:.3}"),
            );
        }
        page
    }

    /// The weights in the order of `members`' names: encoders before the linear path.
    fn weights(&self) -> Vec<f64> {
        let mut weights = self.calibration.weights.clone();
        if self.ngrams.is_some() && !weights.is_empty() {
            weights.rotate_left(1);
        }
        weights
    }

    fn sizes(&self, train: usize, held_out: usize) -> String {
        let encoder = self.encoder.as_ref().map(|encoder| {
            let vocabulary = self.vocab_size.unwrap_or_default();
            let EncoderTraining { parameters, steps, .. } = encoder;
            format!("{parameters} weights, {vocabulary} tokens in the vocabulary, {steps} steps")
        });
        let linear = self.ngrams.map(|ngrams| format!("{ngrams} n-grams"));
        let models: Vec<String> = encoder.into_iter().chain(linear).collect();
        format!(
            "{}.\n\n- records: {}\n- trained on: {train}\n- held out: {held_out}",
            models.join("; "),
            self.data.total
        )
    }
}

/// An evaluation as Markdown: totals, a table of classes, the confusion matrix, groups.
pub fn evaluation_markdown(evaluation: &Evaluation) -> String {
    let mut page = String::new();
    line(
        &mut page,
        format_args!(
            "{} texts: accuracy {:.3}, macro-F1 {:.3}, ROC-AUC harmful/safe {}, safe texts called \
             harmful {}, harmful texts called safe {}, calibration error {:.4}.\n",
            evaluation.examples,
            evaluation.accuracy,
            evaluation.macro_f1,
            optional(evaluation.roc_auc),
            optional(evaluation.false_positive_rate),
            optional(evaluation.false_negative_rate),
            evaluation.ece,
        ),
    );
    let labels: Vec<&str> = evaluation.per_class.iter().map(|class| class.label.as_str()).collect();
    let predicted = labels.join(" | ");
    line(&mut page, format_args!("| class | texts | precision | recall | F1 | {predicted} |"));
    line(&mut page, format_args!("|---|{}", "---:|".repeat(4 + labels.len())));
    for (class, row) in evaluation.per_class.iter().zip(&evaluation.confusion) {
        let cells: Vec<String> = row.iter().map(usize::to_string).collect();
        line(
            &mut page,
            format_args!(
                "| {} | {} | {:.3} | {:.3} | {:.3} | {} |",
                class.label,
                class.support,
                class.precision,
                class.recall,
                class.f1,
                cells.join(" | ")
            ),
        );
    }
    page.push_str("\nThe last columns count the predicted classes.\n");
    if let Some(groups) = &evaluation.groups {
        let gap = optional(groups.false_positive_gap);
        line(&mut page, format_args!("\nFalse-positive gap between groups: {gap}.\n"));
        page.push_str("| group | safe texts | called harmful | rate |\n|---|---:|---:|---:|\n");
        for (group, rate) in &groups.groups {
            let (safe, wrong) = (rate.safe, rate.false_positives);
            let rate = rate.false_positive_rate;
            line(&mut page, format_args!("| {group} | {safe} | {wrong} | {rate:.3} |"));
        }
    }
    page
}

fn optional(value: Option<f64>) -> String {
    value.map_or("–".into(), |value| format!("{value:.3}"))
}

fn line(page: &mut String, text: std::fmt::Arguments) {
    // Writing to a string cannot fail.
    let _ = writeln!(page, "{text}");
}
