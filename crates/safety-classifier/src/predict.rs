//! Classifying texts with a trained classifier.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::Device;
use cai_data::hash;
use serde::{Deserialize, Serialize};

use crate::calibrate::{argmax, called};
use crate::checkpoint::Checkpoint;
use crate::config::Task;
use crate::error::{Error, Result};

/// What the classifier says about a text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// The most probable label.
    pub label: String,
    /// Every label with a probability of 1/2 or more where a text can have several; else that one.
    pub labels: Vec<String>,
    /// Calibrated probability of every label; they sum to 1 where labels exclude each other.
    pub probabilities: BTreeMap<String, f64>,
    /// Probability that the text is not safe: 1 − P(safe).
    pub harm: f64,
    /// Whether the text was longer than the classifier reads, so that its end was not judged.
    pub truncated: bool,
}

/// A trained classifier, ready to use.
#[derive(Clone, Debug)]
pub struct SafetyClassifier {
    checkpoint: Checkpoint,
    safe: usize,
    fingerprint: String,
}

impl SafetyClassifier {
    /// Loads a classifier folder.
    ///
    /// # Errors
    /// Names the file that is missing, damaged or does not fit the others.
    pub fn load(dir: &Path, device: &Device) -> Result<Self> {
        let checkpoint = Checkpoint::load(dir, device)?;
        let mut hashes = String::new();
        for file in checkpoint.config.files() {
            hashes += &hash::file(&dir.join(file))?;
        }
        let config = &checkpoint.config;
        let safe = config.labels.iter().position(|label| *label == config.safe_label).ok_or_else(
            || Error::Checkpoint { path: dir.into(), problem: "no safe label".into() },
        )?;
        Ok(Self { checkpoint, safe, fingerprint: hash::bytes(hashes.as_bytes()) })
    }

    /// Classifies `texts`; one prediction for each, in order.
    ///
    /// The same list of texts always gives the same numbers; a text in another list can differ in
    /// the last digits, because matrix products depend on the shape of the batch.
    ///
    /// # Errors
    /// When the tokenizer or the device fails.
    pub fn predict(&self, texts: &[&str]) -> Result<Vec<Prediction>> {
        let Checkpoint { models, calibration, .. } = &self.checkpoint;
        let scores = models.scores(texts)?;
        let rows = calibration.probabilities(&scores.members);
        let prediction = |(row, truncated): (&Vec<f64>, &bool)| self.prediction(row, *truncated);
        Ok(rows.iter().zip(&scores.truncated).map(prediction).collect())
    }

    /// The labels, in the order of the head's outputs.
    pub fn labels(&self) -> &[String] {
        &self.checkpoint.config.labels
    }

    /// The label that means "no harm".
    pub fn safe_label(&self) -> &str {
        &self.checkpoint.config.safe_label
    }

    /// Whether labels exclude each other.
    pub fn task(&self) -> Task {
        self.checkpoint.config.task
    }

    /// SHA-256 over the folder's files: equal for classifiers that answer the same.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    pub(crate) fn safe(&self) -> usize {
        self.safe
    }

    /// Calibrated class probabilities of each text, in the order of the labels.
    ///
    /// # Errors
    /// When the tokenizer or the device fails.
    pub fn probabilities(&self, texts: &[&str]) -> Result<Vec<Vec<f64>>> {
        let Checkpoint { models, calibration, .. } = &self.checkpoint;
        Ok(calibration.probabilities(&models.scores(texts)?.members))
    }

    pub(crate) fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    fn prediction(&self, row: &[f64], truncated: bool) -> Prediction {
        let labels = self.labels();
        Prediction {
            label: labels[argmax(row)].clone(),
            labels: called(row, self.task()).into_iter().map(|i| labels[i].clone()).collect(),
            probabilities: labels.iter().cloned().zip(row.iter().copied()).collect(),
            // The sum keeps small probabilities that 1 − P(safe) would round away.
            harm: match self.task() {
                Task::SingleLabel => {
                    (0..row.len()).filter(|&i| i != self.safe).map(|i| row[i]).sum()
                }
                Task::MultiLabel => 1.0 - row[self.safe],
            },
            truncated,
        }
    }
}
