//! Training a classifier, from records to a folder.

use std::path::Path;

use burn::tensor::Device;
use cai_data::record::LabelledText;
use cai_data::seed::Seed;

use crate::calibrate::{Calibration, Fit, called, probabilities};
use crate::checkpoint::{Checkpoint, FolderConfig};
use crate::config::{ClassifierConfig, Task};
use crate::data::{Dataset, Sample};
use crate::error::Result;
use crate::members::{Prepared, train_members};
use crate::metrics::{Evaluation, Outcome};
use crate::ngrams::Ngrams;
use crate::report::{Crossed, Member, Report};

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
    let (models, networks) = train_members(&texts, config, device, out_dir)?;

    let held_out: Vec<&str> = dataset.held_out.iter().map(|sample| sample.text.as_str()).collect();
    let scores = models.scores(&held_out)?.members;
    let truth = &texts.held_out_classes;
    let offsets = prior_offsets(&dataset.train, config);
    let calibration = Calibration::fit(&scores, truth, config.task, config.calibration, &offsets);
    let crossed = crossed(&scores, truth, &offsets, config);
    let evaluation =
        evaluation(calibration.probabilities(&scores), &dataset.held_out, config, safe);
    let member = |((name, _), (rows, weight)): ((String, _), (&Vec<Vec<f32>>, &f64))| Member {
        name,
        weight: *weight,
        accuracy: accuracy(rows, truth, config.task),
    };
    let members =
        models.members().into_iter().zip(scores.iter().zip(&calibration.weights)).map(member);
    let report = Report {
        data: dataset.counts,
        vocab_size: models.encoders.first().map(|model| model.shape.vocab_size),
        ngrams: models.ngrams.as_ref().map(Ngrams::len),
        members: members.collect(),
        networks,
        calibration: calibration.clone(),
        crossed,
        held_out: evaluation,
    };
    let (labels, safe_label) = (config.labels.clone(), config.safe_label.clone());
    let config = FolderConfig::new(labels, safe_label, config.task, &models);
    Checkpoint { config, models, calibration }.save(out_dir)?;
    report.save(out_dir)?;
    Ok(report)
}

/// Share of texts that a model alone gets right.
fn accuracy(rows: &[Vec<f32>], truth: &[Vec<usize>], task: Task) -> f64 {
    let rows: Vec<Vec<f64>> = rows.iter().map(|row| probabilities(row, 1.0, task)).collect();
    share_right(&rows, truth, task)
}

fn share_right(rows: &[Vec<f64>], truth: &[Vec<usize>], task: Task) -> f64 {
    let right =
        |(row, classes): (&Vec<f64>, &Vec<usize>)| usize::from(called(row, task) == *classes);
    rows.iter().zip(truth).map(right).sum::<usize>() as f64 / truth.len().max(1) as f64
}

/// The measures with weights and map fitted on one half of the held-out texts and used on the other,
/// both ways: what is fitted to the texts that it is measured on looks too good.
fn crossed(
    members: &[Vec<Vec<f32>>],
    truth: &[Vec<usize>],
    offsets: &[f64],
    config: &ClassifierConfig,
) -> Crossed {
    let half = |odd: usize| -> (Vec<Vec<Vec<f32>>>, Vec<Vec<usize>>) {
        fn of<T: Clone>(all: &[T], odd: usize) -> Vec<T> {
            all.iter().skip(odd).step_by(2).cloned().collect()
        }
        (members.iter().map(|member| of(member, odd)).collect(), of(truth, odd))
    };
    let (mut rows, mut of_rows) = (Vec::new(), Vec::new());
    for odd in [0, 1] {
        let ((fit_members, fit_truth), (members, truth)) = (half(odd), half(1 - odd));
        if fit_truth.is_empty() {
            continue;
        }
        let (task, method) = (config.task, config.calibration);
        let fitted = Calibration::fit(&fit_members, &fit_truth, task, method, offsets);
        rows.extend(fitted.probabilities(&members));
        of_rows.extend(truth);
    }
    Crossed {
        accuracy: share_right(&rows, &of_rows, config.task),
        fit: Fit::new(&rows, &of_rows, config.task),
    }
}

/// The seed of everything in this crate.
pub fn seed(config: &ClassifierConfig) -> Seed {
    Seed(config.train.seed).derive("safety classifier")
}

/// What softens the prior: minus the logarithm of each class's share of the training texts, times
/// `prior_softening`. Every class occurs.
fn prior_offsets(samples: &[Sample], config: &ClassifierConfig) -> Vec<f64> {
    if config.prior_softening == 0.0 {
        return Vec::new();
    }
    let of = |class| samples.iter().filter(move |sample| sample.classes.contains(&class));
    let weight = |class| of(class).map(|sample| sample.weight).sum::<f64>();
    let all: f64 = samples.iter().map(|sample| sample.weight).sum();
    let offset = |class| config.prior_softening * (all / weight(class)).ln();
    (0..config.labels.len()).map(offset).collect()
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
            classes: sample.classes.clone(),
            group: sample.group.as_deref(),
            source: sample.source.as_deref(),
        })
        .collect();
    Evaluation::new(&outcomes, &config.labels, safe, config.task, config.min_group_size)
}
