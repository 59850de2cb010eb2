//! What training a classifier came to, as JSON and as Markdown.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use cai_data::atomic;
use cai_train::{LogEntry, TrainReport};
use serde::{Deserialize, Serialize};

use crate::calibrate::{Calibration, Fit};
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
    /// N-grams of the linear path and the bags; none without one.
    pub ngrams: Option<usize>,
    /// Each model alone.
    pub members: Vec<Member>,
    /// How each network was trained.
    pub networks: Vec<NetworkTraining>,
    /// How the models are weighed and calibrated, fitted to the held-out texts.
    pub calibration: Calibration,
    /// The same fitted on one half of the held-out texts and measured on the other, both ways.
    pub crossed: Crossed,
    /// Measures on the held-out texts, with calibrated probabilities.
    pub held_out: Evaluation,
}

/// Measures on texts that calibration was not fitted to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Crossed {
    /// Share of texts that are right.
    pub accuracy: f64,
    /// How well the probabilities fit.
    pub fit: Fit,
}

/// A model of the classifier.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// Its kind and number.
    pub name: String,
    /// How much its log-probabilities count.
    pub weight: f64,
    /// Its accuracy on the held-out texts, alone and not calibrated.
    pub accuracy: f64,
}

/// How a network was trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NetworkTraining {
    /// Its kind and number.
    pub name: String,
    /// Number of weights.
    pub parameters: usize,
    /// Optimiser steps.
    pub steps: usize,
    /// Tokens, or n-grams, seen in training, padding not counted.
    pub tokens: u64,
    /// Last value of every training metric.
    pub metrics: BTreeMap<String, f64>,
    /// Training metrics over time.
    pub log_history: Vec<LogEntry>,
}

impl NetworkTraining {
    /// What the loop reports, without times.
    pub(crate) fn new(name: String, report: TrainReport) -> Self {
        let TrainReport { trainable_parameters: parameters, steps, tokens, metrics, .. } = report;
        Self { name, parameters, steps, tokens, metrics, log_history: report.log_history }
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
        if data.copies > 0 {
            let copies = data.copies;
            line(
                &mut page,
                format_args!("- training texts copied with other people in them: {copies}"),
            );
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
        line(
            &mut page,
            format_args!(
                "Fitted on one half of these texts and measured on the other, both ways: accuracy {:.4}, \
                 calibration error {:.4}.\n",
                self.crossed.accuracy, self.crossed.fit.ece
            ),
        );
        for Member { name, weight, accuracy } in &self.members {
            line(
                &mut page,
                format_args!("- {name} alone: accuracy {accuracy:.4}, weight {weight:.3}"),
            );
        }
        page
    }

    fn sizes(&self, train: usize, held_out: usize) -> String {
        let network = |network: &NetworkTraining| {
            format!("{}: {} weights, {} steps", network.name, network.parameters, network.steps)
        };
        let vocabulary = self.vocab_size.map(|size| format!("{size} tokens in the vocabulary"));
        let ngrams = self.ngrams.map(|ngrams| format!("{ngrams} n-grams"));
        let networks = self.networks.iter().map(network);
        let models: Vec<String> = vocabulary.into_iter().chain(ngrams).chain(networks).collect();
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
    let predicted: &[&str] = if evaluation.confusion.is_empty() { &[] } else { &labels };
    let columns: String = predicted.iter().map(|label| format!(" {label} |")).collect();
    line(&mut page, format_args!("| class | texts | precision | recall | F1 |{columns}"));
    line(&mut page, format_args!("|---|{}", "---:|".repeat(4 + predicted.len())));
    for (i, class) in evaluation.per_class.iter().enumerate() {
        let cells: Vec<String> = match evaluation.confusion.get(i) {
            Some(row) => row.iter().map(usize::to_string).collect(),
            None => Vec::new(),
        };
        line(
            &mut page,
            format_args!(
                "| {} | {} | {:.3} | {:.3} | {:.3} | {}",
                class.label,
                class.support,
                class.precision,
                class.recall,
                class.f1,
                cells.iter().map(|cell| format!("{cell} | ")).collect::<String>().trim_end()
            ),
        );
    }
    if !evaluation.confusion.is_empty() {
        page.push_str("\nThe last columns count the predicted classes.\n");
    }
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
