//! Training a classifier, from records to a folder.

use std::path::Path;

use burn::tensor::Device;
use cai_data::hash;
use cai_data::record::LabelledText;
use cai_data::seed::Seed;
use cai_train::{RunDir, TrainReport};
use serde_json::json;

use crate::calibrate::Calibration;
use crate::checkpoint::{Checkpoint, FolderConfig};
use crate::config::ClassifierConfig;
use crate::data::{Dataset, Sample};
use crate::ensemble::{EncoderModel, Ensemble, prepare};
use crate::error::Result;
use crate::linear::LinearModel;
use crate::metrics::{Evaluation, Outcome};
use crate::model::{Encoder, EncoderShape};
use crate::objective::{CrossEntropy, Tokens, class_weights};
use crate::report::Report;
use crate::tokenizer::TextTokenizer;

/// Where the training loop keeps its checkpoints and metrics, below the classifier's folder.
const TRAINING: &str = "training";

/// Trains a classifier on `records`, calibrates it on held-out ones, and writes the classifier's
/// folder with `report.json` and `report.md`. See [`train_on`].
///
/// # Errors
/// Those of [`Dataset::new`] and [`train_on`].
pub fn train(
    config: &ClassifierConfig,
    records: &[LabelledText],
    device: &Device,
    out_dir: &Path,
) -> Result<Report> {
    config.validate()?;
    let dataset = Dataset::new(records, config, seed(config))?;
    let dataset = dataset.with_written(config, seed(config))?;
    train_on(config, dataset, device, out_dir)
}

/// Trains the models that `config.architecture` names on the dataset's training texts, calibrates
/// them on the held-out ones, and writes the classifier's folder with `report.json` and
/// `report.md`.
///
/// Resumes from `out_dir/training` if an earlier call with the same config and records was
/// interrupted. The same config and records give the same files on the same machine.
///
/// # Errors
/// A setting that makes no sense, or a failure of training or of a file; nothing but checkpoints is
/// then written.
pub fn train_on(
    config: &ClassifierConfig,
    dataset: Dataset,
    device: &Device,
    out_dir: &Path,
) -> Result<Report> {
    config.validate()?;
    let safe = config.safe_index()?;
    tracing::info!(
        train = dataset.train.len(),
        held_out = dataset.held_out.len(),
        left_out = ?dataset.counts.left_out,
        "labelled texts"
    );
    let texts = Prepared::new(&dataset, config);
    let mut models = Ensemble { fold: config.fold, ..Ensemble::default() };
    if config.architecture.has_linear() {
        models.linear = Some(fit_linear(&texts, config));
    }
    let mut training = None;
    let mut shape = None;
    if config.architecture.has_encoder() {
        let trained = train_encoders(&texts, config, device, out_dir)?;
        (models.encoders, training, shape) = (trained.encoders, trained.last, Some(trained.shape));
    }

    let held_out: Vec<&str> = dataset.held_out.iter().map(|sample| sample.text.as_str()).collect();
    let scores = models.scores(&held_out)?.members;
    let offsets = prior_offsets(&texts.train_classes, config);
    let calibration =
        Calibration::fit(&scores, &texts.held_out_classes, config.calibration, &offsets);
    let rows = calibration.probabilities(&scores);
    let evaluation = evaluation(rows, &dataset.held_out, config, safe);
    let mut members = Vec::new();
    for (i, member) in scores.iter().enumerate() {
        let hits = member.iter().zip(&texts.held_out_classes);
        let hits = hits.filter(|(row, class)| crate::calibrate::argmax(row) == **class).count();
        let name = match (i, models.linear.is_some()) {
            (0, true) => "linear".to_string(),
            (i, linear) => format!("encoder {}", i + 1 - usize::from(linear)),
        };
        members.push((name, hits as f64 / held_out.len() as f64));
    }

    let config_json =
        FolderConfig::new(config.labels.clone(), config.safe_label.clone(), &models, shape.clone());
    let ngrams = models.linear.as_ref().map(LinearModel::features);
    let checkpoint = Checkpoint { config: config_json, models, calibration: calibration.clone() };
    checkpoint.save(out_dir)?;
    let report = Report {
        data: dataset.counts,
        vocab_size: shape.map(|shape| shape.vocab_size),
        ngrams,
        encoder: training.map(Into::into),
        members: members.into_iter().collect(),
        calibration,
        held_out: evaluation,
    };
    report.save(out_dir)?;
    Ok(report)
}

/// The seed of everything in this crate.
pub fn seed(config: &ClassifierConfig) -> Seed {
    Seed(config.train.seed).derive("safety classifier")
}

/// Texts as the models read them, with their classes.
struct Prepared {
    train: Vec<String>,
    train_classes: Vec<usize>,
    held_out: Vec<String>,
    held_out_classes: Vec<usize>,
}

impl Prepared {
    fn new(dataset: &Dataset, config: &ClassifierConfig) -> Self {
        let texts = |samples: &[Sample]| {
            samples.iter().map(|sample| prepare(&sample.text, config.fold)).collect()
        };
        let classes = |samples: &[Sample]| samples.iter().map(|sample| sample.class).collect();
        Self {
            train: texts(&dataset.train),
            train_classes: classes(&dataset.train),
            held_out: texts(&dataset.held_out),
            held_out_classes: classes(&dataset.held_out),
        }
    }
}

/// What softens the prior: minus the logarithm of each class's share of the training texts, times
/// `prior_softening`. Every class occurs.
fn prior_offsets(classes: &[usize], config: &ClassifierConfig) -> Vec<f64> {
    if config.prior_softening == 0.0 {
        return Vec::new();
    }
    let texts = |class| classes.iter().filter(|&&other| other == class).count() as f64;
    let offset = |class| config.prior_softening * (classes.len() as f64 / texts(class)).ln();
    (0..config.labels.len()).map(offset).collect()
}

fn fit_linear(texts: &Prepared, config: &ClassifierConfig) -> LinearModel {
    let by_class = class_weights(&texts.train_classes, config);
    let weights: Vec<f32> = texts.train_classes.iter().map(|&c| by_class[c] as f32).collect();
    let classes = &texts.train_classes;
    let model =
        LinearModel::fit(&texts.train, classes, &weights, config.labels.len(), &config.linear);
    tracing::info!(ngrams = model.features(), "linear path fitted");
    model
}

struct TrainedEncoders {
    encoders: Vec<EncoderModel>,
    shape: EncoderShape,
    /// Of the last encoder: the others are trained alike.
    last: Option<TrainReport>,
}

fn train_encoders(
    texts: &Prepared,
    config: &ClassifierConfig,
    device: &Device,
    out_dir: &Path,
) -> Result<TrainedEncoders> {
    let all: Vec<&str> = texts.train.iter().map(String::as_str).collect();
    let tokenizer =
        TextTokenizer::train(&all, config.vocab_size, config.lowercase, config.max_length)?;
    let shape = encoder_shape(config, tokenizer.vocab_size());
    let objective = CrossEntropy::new(
        Tokens::new(&texts.train, texts.train_classes.clone(), &tokenizer)?,
        Tokens::new(&texts.held_out, texts.held_out_classes.clone(), &tokenizer)?,
        config,
        tokenizer.pad(),
    );
    let fingerprint = fingerprint(&objective, &shape, config);
    let mut trained = TrainedEncoders { encoders: Vec::new(), shape, last: None };
    for i in 0..config.encoders {
        let seeds = seed(config);
        // The first is what it would be alone.
        let (weights, name) = match i {
            0 => (seeds.derive("weights"), TRAINING.to_string()),
            i => (seeds.derive("weights").index(i as u64), format!("{TRAINING}-{}", i + 1)),
        };
        let mut args = config.train.clone();
        if i > 0 {
            args.seed = seeds.derive("encoder").index(i as u64).0 >> 1;
        }
        let run = RunDir::new(out_dir.join(name), fingerprint.clone()).label("classifier");
        let encoder = Encoder::new(&trained.shape, weights, device);
        let (encoder, report) = cai_train::train(encoder, &objective, &args, &run)?;
        trained.encoders.push(EncoderModel { tokenizer: tokenizer.clone(), encoder });
        trained.last = Some(report);
    }
    Ok(trained)
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
        pooling: config.pooling,
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
        "token_dropout": config.token_dropout,
        "label_smoothing": config.label_smoothing,
        "class_weights": config.class_weights,
        "train": [json!(objective.train.ids), json!(objective.train.classes)],
        "held_out": [json!(objective.held_out.ids), json!(objective.held_out.classes)],
    });
    hash::bytes(decides.to_string().as_bytes())
}

fn evaluation(
    rows: Vec<Vec<f64>>,
    samples: &[Sample],
    config: &ClassifierConfig,
    safe: usize,
) -> Evaluation {
    let outcomes: Vec<Outcome> = rows
        .into_iter()
        .zip(samples)
        .map(|(probabilities, sample)| Outcome {
            probabilities,
            class: sample.class,
            group: sample.group.as_deref(),
            source: sample.source.as_deref(),
        })
        .collect();
    Evaluation::new(&outcomes, &config.labels, safe, config.min_group_size)
}
