//! `results.json` and `results.md` of benchmark tasks.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use cai_data::atomic;
use serde::{Deserialize, Serialize};

use super::spec::Metric;
use crate::config::EvaluatorConfig;
use crate::error::Result;
use crate::stats::Estimate;

/// The version of `results.json` of tasks that this code writes.
pub const VERSION: u32 = 1;

/// All tasks of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskResults {
    /// The version of this file's form.
    pub version: u32,
    /// The settings.
    pub settings: EvaluatorConfig,
    /// The tasks, in the order given.
    pub tasks: Vec<TaskResult>,
}

/// One task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskResult {
    /// Its name.
    pub task: String,
    /// What it measures.
    pub description: String,
    /// The hash of its files.
    pub data_sha256: String,
    /// Questions asked of every model.
    pub items: usize,
    /// Questions left out because they are longer than a model's context.
    pub too_long: usize,
    /// What guessing would come to.
    pub chance: BTreeMap<Metric, f64>,
    /// The models, in the order given.
    pub models: Vec<ModelScores>,
    /// Every later model minus every earlier one, on the same questions.
    pub differences: Vec<TaskDifference>,
}

/// One model's metrics.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelScores {
    /// Its name.
    pub model: String,
    /// Over the whole task.
    pub metrics: BTreeMap<Metric, Estimate>,
    /// Over each of its parts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub groups: BTreeMap<String, BTreeMap<Metric, Estimate>>,
}

/// One model minus another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskDifference {
    /// What is measured.
    pub metric: Metric,
    /// The model.
    pub model: String,
    /// The model that is subtracted.
    pub minus: String,
    /// Questions on which the two differ; with fewer than ten the difference has no interval.
    pub differ: usize,
    /// The difference.
    #[serde(flatten)]
    pub estimate: Estimate,
}

impl TaskResults {
    /// Writes `results.json` and `results.md`.
    ///
    /// # Errors
    /// [`crate::Error::Data`] when a file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        atomic::write_json(&folder.join("results.json"), self)?;
        Ok(atomic::write(&folder.join("results.md"), self.markdown().as_bytes())?)
    }

    /// The numbers for people.
    pub fn markdown(&self) -> String {
        let percent = self.settings.confidence * 100.0;
        let mut text = String::from("# Benchmark tasks\n");
        for task in &self.tasks {
            let metrics: Vec<Metric> = task.chance.keys().copied().collect();
            let _ = write!(
                text,
                "\n## {}\n\n{}\n{} questions",
                task.task, task.description, task.items
            );
            if task.too_long > 0 {
                let _ = write!(text, ", {} longer than a context left out", task.too_long);
            }
            let _ = writeln!(text, "; {percent:.0} % intervals.\n");
            text += &heading("model", &metrics);
            let chance = |metric| format!("{:.3}", task.chance[metric]);
            text += &line("(guessing)", metrics.iter().map(chance));
            for model in &task.models {
                text += &line(&model.model, metrics.iter().map(|m| cell(model.metrics.get(m))));
            }
            if let Some(last) = task.models.last().filter(|_| task.models.len() > 1) {
                text.push('\n');
                text += &heading(&format!("{} minus", last.model), &metrics);
                for other in task.models.iter().filter(|other| other.model != last.model) {
                    let difference = |metric: &Metric| {
                        let same = |d: &&TaskDifference| {
                            d.metric == *metric && d.model == last.model && d.minus == other.model
                        };
                        match task.differences.iter().find(same) {
                            Some(d) if d.estimate.low.is_none() => {
                                format!("{:.3} ({} questions differ)", d.estimate.mean, d.differ)
                            }
                            found => cell(found.map(|d| &d.estimate)),
                        }
                    };
                    text += &line(&other.model, metrics.iter().map(difference));
                }
            }
            if let Some(groups) = task.models.first().map(|m| &m.groups).filter(|g| !g.is_empty()) {
                text.push('\n');
                text += &heading("part, model", &metrics);
                for group in groups.keys() {
                    for model in &task.models {
                        let of = |m| cell(model.groups.get(group).and_then(|of| of.get(m)));
                        text += &line(&format!("{group}, {}", model.model), metrics.iter().map(of));
                    }
                }
            }
        }
        text
    }
}

fn heading(first: &str, metrics: &[Metric]) -> String {
    let names = metrics.iter().map(|metric| metric.key().to_owned());
    let rule = format!("|--|{}\n", "--:|".repeat(metrics.len()));
    line(first, names) + &rule
}

fn line(first: &str, cells: impl Iterator<Item = String>) -> String {
    let cells: Vec<String> = cells.collect();
    format!("| {first} | {} |\n", cells.join(" | "))
}

fn cell(estimate: Option<&Estimate>) -> String {
    match estimate {
        None => "–".into(),
        Some(Estimate { mean, low: Some(low), high: Some(high), .. }) => {
            format!("{mean:.3} [{low:.3}, {high:.3}]")
        }
        Some(Estimate { mean, .. }) => format!("{mean:.3} (too few for an interval)"),
    }
}
