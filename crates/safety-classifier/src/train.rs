//! Training a classifier, from records to a folder.

use std::path::Path;

use burn::tensor::Device;
use cai_data::hash;
use cai_data::record::LabelledText;
use cai_data::seed::Seed;
use cai_train::RunDir;
use serde_json::json;

use crate::calibrate::{Calibration, probabilities};
use crate::checkpoint::{Checkpoint, FolderConfig};
use crate::config::ClassifierConfig;
use crate::data::{Dataset, Sample};
use crate::error::Result;
use crate::metrics::{Evaluation, Outcome};
use crate::model::{Encoder, EncoderShape};
use crate::objective::{CrossEntropy, Tokens};
use crate::predict::logits;
use crate::report::Report;
use crate::tokenizer::TextTokenizer;

/// Where the training loop keeps its checkpoints and metrics, below the classifier's folder.
const TRAINING: &str = "training";

/// Trains a tokenizer and a classifier on `records`, calibrates it on held-out ones, and writes the
/// classifier's folder with `report.json` and `report.md`.
///
/// Resumes from `out_dir/training` if an earlier call with the same config and records was
/// interrupted. The same config and records give the same files on the same machine.
///
/// # Errors
/// A setting that makes no sense, an unknown label, no usable record, a class without a training
/// text, or a failure of training or of a file; nothing but checkpoints is then written.
pub fn train(
    config: &ClassifierConfig,
    records: &[LabelledText],
    device: &Device,
    out_dir: &Path,
) -> Result<Report> {
    config.validate()?;
    let safe = config.safe_index()?;
    let seed = Seed(config.train.seed).derive("safety classifier");
    let dataset = Dataset::new(records, config, seed)?;
    let tokenizer = train_tokenizer(&dataset.train, config)?;
    tracing::info!(
        train = dataset.train.len(),
        held_out = dataset.held_out.len(),
        left_out = ?dataset.counts.left_out,
        vocab_size = tokenizer.vocab_size(),
        "labelled texts"
    );

    let shape = encoder_shape(config, tokenizer.vocab_size());
    let objective = CrossEntropy::new(
        Tokens::new(&dataset.train, &tokenizer)?,
        Tokens::new(&dataset.held_out, &tokenizer)?,
        config,
        tokenizer.pad(),
    );
    let fingerprint = fingerprint(&objective, &shape, config);
    let run = RunDir::new(out_dir.join(TRAINING), fingerprint).label("classifier");
    let encoder = Encoder::new(&shape, seed.derive("weights"), device);
    let (encoder, training) = cai_train::train(encoder, &objective, &config.train, &run)?;

    let rows: Vec<&[u32]> = objective.held_out.ids.iter().map(Vec::as_slice).collect();
    let logits = logits(&encoder, &rows, tokenizer.pad())?;
    let calibration = Calibration::fit(&logits, &objective.held_out.classes);
    let held_out = evaluation(&logits, &dataset.held_out, &calibration, config, safe);

    let folder = FolderConfig::new(config.labels.clone(), config.safe_label.clone(), shape);
    let vocab_size = tokenizer.vocab_size();
    let checkpoint =
        Checkpoint { config: folder, encoder, tokenizer, calibration: calibration.clone() };
    checkpoint.save(out_dir)?;
    let report = Report {
        data: dataset.counts,
        vocab_size,
        parameters: training.trainable_parameters,
        steps: training.steps,
        tokens: training.tokens,
        training: training.metrics,
        log_history: training.log_history,
        calibration,
        held_out,
    };
    report.save(out_dir)?;
    Ok(report)
}

fn train_tokenizer(samples: &[Sample], config: &ClassifierConfig) -> Result<TextTokenizer> {
    let texts: Vec<&str> = samples.iter().map(|sample| sample.text.as_str()).collect();
    TextTokenizer::train(&texts, config.vocab_size, config.lowercase, config.max_length)
}

fn encoder_shape(config: &ClassifierConfig, vocab_size: usize) -> EncoderShape {
    EncoderShape {
        vocab_size,
        max_length: config.max_length,
        d_model: config.d_model,
        n_layers: config.n_layers,
        n_heads: config.n_heads,
        d_ff: config.d_ff,
        n_labels: config.labels.len(),
    }
}

/// A hash of what decides the result beside the training settings, which the loop compares itself.
fn fingerprint(
    objective: &CrossEntropy,
    shape: &EncoderShape,
    config: &ClassifierConfig,
) -> String {
    let decides = json!({
        "encoder": shape,
        "labels": config.labels,
        "dropout": config.dropout,
        "class_weights": config.class_weights,
        "train": [json!(objective.train.ids), json!(objective.train.classes)],
        "held_out": [json!(objective.held_out.ids), json!(objective.held_out.classes)],
    });
    hash::bytes(decides.to_string().as_bytes())
}

fn evaluation(
    logits: &[Vec<f32>],
    samples: &[Sample],
    calibration: &Calibration,
    config: &ClassifierConfig,
    safe: usize,
) -> Evaluation {
    let outcomes: Vec<Outcome> = logits
        .iter()
        .zip(samples)
        .map(|(row, sample)| Outcome {
            probabilities: probabilities(row, calibration.temperature),
            class: sample.class,
            group: sample.group.as_deref(),
        })
        .collect();
    Evaluation::new(&outcomes, &config.labels, safe, config.min_group_size)
}
