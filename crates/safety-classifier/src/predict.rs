//! Classifying texts with a trained classifier.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::Device;
use cai_data::hash;
use serde::{Deserialize, Serialize};

use crate::batch::TextBatch;
use crate::calibrate::{argmax, probabilities};
use crate::checkpoint::{Checkpoint, FILES};
use crate::error::{Error, Result};
use crate::model::Encoder;
use crate::tokenizer::Encoded;

/// Texts per batch. Fixed: with other sizes, matrix products differ in the last digits.
const BATCH_SIZE: usize = 64;

/// What the classifier says about a text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// The most probable label.
    pub label: String,
    /// Calibrated probability of every label; they sum to 1.
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
        for file in FILES {
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
        let encoded = self.encode(texts)?;
        let rows = self.probabilities(&encoded)?;
        Ok(rows.iter().zip(&encoded).map(|(row, text)| self.prediction(row, text)).collect())
    }

    /// The labels, in the order of the head's outputs.
    pub fn labels(&self) -> &[String] {
        &self.checkpoint.config.labels
    }

    /// The label that means "no harm".
    pub fn safe_label(&self) -> &str {
        &self.checkpoint.config.safe_label
    }

    /// SHA-256 over the folder's files: equal for classifiers that answer the same.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    pub(crate) fn safe(&self) -> usize {
        self.safe
    }

    pub(crate) fn encode(&self, texts: &[&str]) -> Result<Vec<Encoded>> {
        texts.iter().map(|text| self.checkpoint.tokenizer.encode(text)).collect()
    }

    /// Calibrated class probabilities of each text, in the order of the labels.
    pub(crate) fn probabilities(&self, texts: &[Encoded]) -> Result<Vec<Vec<f64>>> {
        let rows: Vec<&[u32]> = texts.iter().map(|text| text.ids.as_slice()).collect();
        let Checkpoint { encoder, tokenizer, calibration, .. } = &self.checkpoint;
        let logits = logits(encoder, &rows, tokenizer.pad())?;
        Ok(logits.iter().map(|row| probabilities(row, calibration.temperature)).collect())
    }

    fn prediction(&self, row: &[f64], text: &Encoded) -> Prediction {
        let labels = self.labels();
        Prediction {
            label: labels[argmax(row)].clone(),
            probabilities: labels.iter().cloned().zip(row.iter().copied()).collect(),
            // The sum keeps small probabilities that 1 − P(safe) would round away.
            harm: (0..row.len()).filter(|&i| i != self.safe).map(|i| row[i]).sum(),
            truncated: text.truncated,
        }
    }
}

/// Class scores of each row of token ids, in order. Rows of similar length share a batch.
///
/// # Errors
/// When the scores cannot be read from the device.
pub(crate) fn logits(encoder: &Encoder, rows: &[&[u32]], pad: u32) -> Result<Vec<Vec<f32>>> {
    let device = encoder.device();
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(|&i| rows[i].len());
    let mut logits = vec![Vec::new(); rows.len()];
    for block in order.chunks(BATCH_SIZE) {
        let block_rows: Vec<&[u32]> = block.iter().map(|&i| rows[i]).collect();
        let scores = encoder.forward(&TextBatch::new(&block_rows, pad, &device), None);
        let [_, n_labels] = scores.dims();
        let scores: Vec<f32> = scores
            .try_into_vec_as()
            .map_err(|error| Error::Device { what: "class scores", problem: error.to_string() })?;
        for (&i, row) in block.iter().zip(scores.chunks(n_labels)) {
            logits[i] = row.to_vec();
        }
    }
    Ok(logits)
}
