//! A safety classifier of random weights.

use anyhow::Result;
use safety_classifier::{
    ClassifierConfig, SafetyClassifier,
    calibrate::{Calibration, CalibrationMethod},
    checkpoint::{Checkpoint, FolderConfig},
    ensemble::{EncoderModel, Ensemble},
    model::{Encoder, EncoderShape},
    outputs::Outputs,
    tokenizer::TextTokenizer,
};

use crate::{SEED, device};

/// A classifier of the default sizes with random weights, whose tokenizer was trained on `texts`.
///
/// # Errors
///
/// Those of training the tokenizer, and of the temporary folder that the classifier is read from.
pub fn classifier(texts: &[&str]) -> Result<SafetyClassifier> {
    let config = ClassifierConfig::default();
    let tokenizer =
        TextTokenizer::train(texts, config.vocab_size, config.lowercase, config.max_length)?;
    let shape = EncoderShape {
        vocab_size: tokenizer.vocab_size(),
        max_length: config.max_length,
        d_model: config.d_model,
        n_layers: config.n_layers,
        n_heads: config.n_heads,
        d_ff: config.d_ff,
        n_outputs: config.labels.len(),
        pooling: config.pooling,
    };
    let encoder = Encoder::new(&shape, SEED, &device());
    let scores = [vec![vec![0.0; shape.n_outputs]]];
    let encoders = vec![EncoderModel::new(tokenizer, shape, encoder)?];
    let outputs = Outputs::plain(config.labels.len());
    let models = Ensemble { encoders, outputs, ..Ensemble::default() };
    let (task, method) = (config.task, CalibrationMethod::Temperature);
    let checkpoint = Checkpoint {
        calibration: Calibration::fit(&scores, &[vec![0]], task, method, &[]),
        config: FolderConfig::new(config.labels, config.safe_label, task, &models),
        models,
    };
    let dir = tempfile::tempdir()?;
    checkpoint.save(dir.path())?;
    Ok(SafetyClassifier::load(dir.path(), &device())?)
}
