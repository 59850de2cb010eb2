//! A safety classifier of random weights.

use anyhow::Result;
use safety_classifier::{
    ClassifierConfig, SafetyClassifier,
    calibrate::{Calibration, CalibrationMethod},
    checkpoint::{Checkpoint, FolderConfig},
    ensemble::{EncoderModel, Ensemble},
    model::{Encoder, EncoderShape},
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
        n_labels: config.labels.len(),
        pooling: config.pooling,
    };
    let encoder = Encoder::new(&shape, SEED, &device());
    let encoders = vec![EncoderModel { tokenizer, encoder }];
    let models = Ensemble { encoders, ..Ensemble::default() };
    let scores = [vec![vec![0.0; shape.n_labels]]];
    let checkpoint = Checkpoint {
        calibration: Calibration::fit(&scores, &[0], CalibrationMethod::Temperature, &[]),
        config: FolderConfig::new(config.labels, config.safe_label, &models, Some(shape)),
        models,
    };
    let dir = tempfile::tempdir()?;
    checkpoint.save(dir.path())?;
    Ok(SafetyClassifier::load(dir.path(), &device())?)
}
