//! Training a classifier, from records to a folder.

use std::path::Path;

use burn::tensor::Device;
use cai_data::hash;
use cai_data::record::LabelledText;
use cai_data::seed::Seed;
use cai_train::{RunDir, TrainArgs};
use serde_json::{Value, json};

use crate::calibrate::{Calibration, Fit, called, probabilities};
use crate::checkpoint::{Checkpoint, FolderConfig};
use crate::config::{Architecture, ClassifierConfig, Task};
use crate::data::{Dataset, Sample};
use crate::ensemble::{EncoderModel, Ensemble, prepare};
use crate::error::Result;
use crate::gemma::{GemmaClassifier, GemmaConfig, GemmaHead};
use crate::metrics::{Evaluation, Outcome};
use crate::model::{Encoder, EncoderShape};
use crate::network::{Network, Noise};
use crate::ngrams::{Bag, BagShape, LinearModel, Ngrams};
use crate::objective::{CrossEntropy, Labelled, Targets, text_weights};
use crate::outputs::Outputs;
use crate::report::{Crossed, Member, NetworkTraining, Report};
use crate::tokenizer::TextTokenizer;
use crate::warm_start::{GuessTokens, Guesser, WarmStart};

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
    let outputs = texts.outputs.clone();
    let mut models = Ensemble { fold: config.fold, outputs, ..Ensemble::default() };
    let mut networks = Vec::new();
    if config.architecture.has_ngrams() {
        networks.extend(train_ngram_models(&mut models, &texts, config, device, out_dir)?);
    }
    if config.architecture.has_encoder() {
        networks.extend(train_encoders(&mut models, &texts, config, device, out_dir)?);
    }
    if config.architecture == Architecture::Gemma {
        networks.extend(train_gemma(&mut models, &texts, config, device, out_dir)?);
    }

    let held_out: Vec<&str> = dataset.held_out.iter().map(|sample| sample.text.as_str()).collect();
    let scores = models.scores(&held_out)?.members;
    let truth = &texts.held_out_classes;
    let offsets = prior_offsets(&texts.train_classes, config);
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

/// Texts as the models read them, with their classes.
struct Prepared {
    train: Vec<String>,
    train_classes: Vec<Vec<usize>>,
    outputs: Outputs,
    /// The right outputs of each training text.
    train_targets: Vec<Vec<usize>>,
    held_out: Vec<String>,
    held_out_classes: Vec<Vec<usize>>,
}

impl Prepared {
    fn new(dataset: &Dataset, config: &ClassifierConfig) -> Self {
        let texts = |samples: &[Sample]| {
            samples.iter().map(|sample| prepare(&sample.text, config.fold)).collect()
        };
        let classes =
            |samples: &[Sample]| samples.iter().map(|sample| sample.classes.clone()).collect();
        let (outputs, train_targets) = match config.by_source {
            true => Outputs::by_source(&dataset.train),
            false => (Outputs::plain(config.labels.len()), classes(&dataset.train)),
        };
        Self {
            train: texts(&dataset.train),
            train_classes: classes(&dataset.train),
            outputs,
            train_targets,
            held_out: texts(&dataset.held_out),
            held_out_classes: classes(&dataset.held_out),
        }
    }

    fn targets(&self) -> Targets<'_> {
        Targets { outputs: &self.outputs, of_text: &self.train_targets }
    }

    /// A hash of all texts and classes.
    fn fingerprint(&self) -> String {
        let all = json!([self.train, self.train_targets, self.held_out, self.held_out_classes]);
        hash::bytes(all.to_string().as_bytes())
    }
}

/// What softens the prior: minus the logarithm of each class's share of the training texts, times
/// `prior_softening`. Every class occurs.
fn prior_offsets(truth: &[Vec<usize>], config: &ClassifierConfig) -> Vec<f64> {
    if config.prior_softening == 0.0 {
        return Vec::new();
    }
    let texts = |class| truth.iter().filter(|classes| classes.contains(&class)).count() as f64;
    let offset = |class| config.prior_softening * (truth.len() as f64 / texts(class)).ln();
    (0..config.labels.len()).map(offset).collect()
}

/// Fits the n-grams, the linear path and the bags.
fn train_ngram_models(
    models: &mut Ensemble,
    texts: &Prepared,
    config: &ClassifierConfig,
    device: &Device,
    out_dir: &Path,
) -> Result<Vec<NetworkTraining>> {
    let n_outputs = texts.outputs.len();
    let ngrams = Ngrams::fit(&texts.train, &texts.train_targets, n_outputs, &config.ngrams);
    let rows = ngrams.rows(&texts.train);
    let weights: Vec<f32> =
        text_weights(&texts.train_classes, config).iter().map(|&weight| weight as f32).collect();
    let targets: Vec<usize> = texts.train_targets.iter().map(|right| right[0]).collect();
    models.linear =
        Some(LinearModel::fit(&rows, ngrams.len(), &targets, &weights, n_outputs, &config.linear));
    tracing::info!(ngrams = ngrams.len(), "linear path fitted");

    let held_out = ngrams.rows(&texts.held_out);
    let shape = BagShape { ngrams: ngrams.len(), width: config.bag.width, n_outputs };
    models.ngrams = Some(ngrams);
    let objective = CrossEntropy::<Bag>::new(
        Labelled { texts: rows.each(), classes: &texts.train_classes },
        Labelled { texts: held_out.each(), classes: &texts.held_out_classes },
        texts.targets(),
        noise(config.bag.dropout, config.bag.ngram_dropout),
        config,
    );
    let decides = json!({
        "bag": shape,
        "dropout": [config.bag.dropout, config.bag.ngram_dropout],
        "texts": texts.fingerprint(),
        "ngrams": config.ngrams,
    });
    let seeds = seed(config).derive("bag");
    let members = Members {
        name: "bag",
        args: &config.bag.train,
        config,
        out_dir,
        decides,
        weights: seeds.derive("weights"),
        training: seeds.derive("training").0 >> 1,
    };
    let (bags, reports) =
        members.each(config.bags, &objective, |seed| Bag::new(&shape, seed, device))?;
    models.bags = bags;
    Ok(reports)
}

/// Trains the tokenizer and the encoders.
fn train_encoders(
    models: &mut Ensemble,
    texts: &Prepared,
    config: &ClassifierConfig,
    device: &Device,
    out_dir: &Path,
) -> Result<Vec<NetworkTraining>> {
    let all: Vec<&str> = texts.train.iter().map(String::as_str).collect();
    let tokenizer =
        TextTokenizer::train(&all, config.vocab_size, config.lowercase, config.max_length)?;
    let shape = encoder_shape(config, tokenizer.vocab_size(), texts.outputs.len());
    let encode = |texts: &[String]| -> Result<Vec<Vec<u32>>> {
        texts.iter().map(|text| Ok(tokenizer.encode(text)?.ids)).collect()
    };
    let (train, held_out) = (encode(&texts.train)?, encode(&texts.held_out)?);
    let noise = noise(config.dropout, config.token_dropout);
    let objective = token_objective::<Encoder>(&train, &held_out, texts, noise, config);
    let decides = json!({
        "encoder": shape,
        "dropout": [config.dropout, config.token_dropout],
        "warm_start": config.warm_start,
        "texts": texts.fingerprint(),
    });
    let members = Members {
        name: "encoder",
        args: &config.train,
        config,
        out_dir,
        decides,
        weights: seed(config).derive("weights"),
        training: config.train.seed,
    };
    let warm = match config.warm_start.is_wanted() {
        true => Some(warm_start(&train, &shape, texts, config, device, out_dir)?),
        false => None,
    };
    let new = |seed| match &warm {
        Some(warm) => warm.clone().with_new_head(&shape, seed, device),
        None => Encoder::new(&shape, seed, device),
    };
    let (encoders, reports) = members.each(config.encoders, &objective, new)?;
    let model = |encoder| EncoderModel::new(tokenizer.clone(), shape.clone(), encoder);
    models.encoders = encoders.into_iter().map(model).collect::<Result<_>>()?;
    Ok(reports)
}

/// Trains a head and an adapter on Gemma.
fn train_gemma(
    models: &mut Ensemble,
    texts: &Prepared,
    config: &ClassifierConfig,
    device: &Device,
    out_dir: &Path,
) -> Result<Vec<NetworkTraining>> {
    let seeds = seed(config);
    let n_outputs = texts.outputs.len();
    let new = GemmaClassifier::new(&config.gemma, n_outputs, seeds.derive("weights"), device)?;
    let encode = |texts: &[String]| -> Result<Vec<Vec<u32>>> {
        texts.iter().map(|text| Ok(new.encode(text)?.0)).collect()
    };
    let (train, held_out) = (encode(&texts.train)?, encode(&texts.held_out)?);
    let noise = noise(config.gemma.dropout, 0.0);
    let objective = token_objective::<GemmaHead>(&train, &held_out, texts, noise, config);
    let GemmaConfig { lora, max_length, dropout, train: args, .. } = &config.gemma;
    let base = &new.language.base_fingerprint;
    let members = Members {
        name: "gemma",
        args,
        config,
        out_dir,
        decides: json!([base, lora, max_length, dropout, texts.fingerprint()]),
        weights: seeds.derive("weights"),
        training: config.train.seed,
    };
    let (mut networks, reports) = members.each(1, &objective, |_| new.network.clone())?;
    models.gemma = networks.pop().map(|network| new.clone().trained(network));
    Ok(reports)
}

/// An encoder that has learnt to guess hidden tokens of the training texts.
fn warm_start(
    train: &[Vec<u32>],
    shape: &EncoderShape,
    texts: &Prepared,
    config: &ClassifierConfig,
    device: &Device,
    out_dir: &Path,
) -> Result<Encoder> {
    let seeds = seed(config).derive("warm start");
    let WarmStart { hidden, train: args } = &config.warm_start;
    let objective = GuessTokens { texts: train, hidden: *hidden, dropout: config.dropout };
    let args = TrainArgs { seed: seeds.derive("training").0 >> 1, ..args.clone() };
    let decides = json!([shape, hidden, config.dropout, texts.fingerprint()]);
    let fingerprint = hash::bytes(decides.to_string().as_bytes());
    let run = RunDir::new(out_dir.join(TRAINING).join("warm-start"), fingerprint);
    let guesser = Guesser::new(shape, seeds.derive("weights"), device);
    let (guesser, _) = cai_train::train(guesser, &objective, &args, &run.label("warm start"))?;
    Ok(guesser.encoder)
}

/// The objective of a network that reads token ids.
fn token_objective<'a, N: Network<Text = [u32]>>(
    train: &'a [Vec<u32>],
    held_out: &'a [Vec<u32>],
    texts: &'a Prepared,
    noise: Noise,
    config: &ClassifierConfig,
) -> CrossEntropy<'a, N> {
    let rows = |texts: &'a [Vec<u32>]| texts.iter().map(Vec::as_slice).collect();
    CrossEntropy::new(
        Labelled { texts: rows(train), classes: &texts.train_classes },
        Labelled { texts: rows(held_out), classes: &texts.held_out_classes },
        texts.targets(),
        noise,
        config,
    )
}

/// What training disturbs; the loop gives the seed.
fn noise(dropout: f64, input_dropout: f64) -> Noise {
    Noise { dropout, input_dropout, seed: Seed(0) }
}

/// Networks of one kind that differ by their seeds.
struct Members<'a> {
    name: &'static str,
    args: &'a TrainArgs,
    config: &'a ClassifierConfig,
    out_dir: &'a Path,
    /// What decides the result beside the training settings, which the loop compares itself.
    decides: Value,
    /// Of the first network's weights.
    weights: Seed,
    /// Of the first network's training.
    training: u64,
}

impl Members<'_> {
    /// Trains `number` networks, each in a folder of its own.
    fn each<N: Network>(
        &self,
        number: usize,
        objective: &CrossEntropy<N>,
        new: impl Fn(Seed) -> N,
    ) -> Result<(Vec<N>, Vec<NetworkTraining>)> {
        let ClassifierConfig { labels, task, label_smoothing, class_weights, .. } = self.config;
        let decides = json!([self.decides, labels, task, label_smoothing, class_weights]);
        let fingerprint = hash::bytes(decides.to_string().as_bytes());
        let (mut networks, mut reports) = (Vec::new(), Vec::new());
        for i in 0..number {
            // The first is what it would be alone.
            let (weights, training) = match i {
                0 => (self.weights, self.training),
                i => (self.weights.index(i as u64), Seed(self.training).index(i as u64).0 >> 1),
            };
            let args = TrainArgs { seed: training, ..self.args.clone() };
            let name = format!("{} {}", self.name, i + 1);
            let dir = self.out_dir.join(TRAINING).join(name.replace(' ', "-"));
            let run = RunDir::new(dir, fingerprint.clone()).label(name.clone());
            let (network, report) = cai_train::train(new(weights), objective, &args, &run)?;
            networks.push(network);
            reports.push(NetworkTraining::new(name, report));
        }
        Ok((networks, reports))
    }
}

fn encoder_shape(config: &ClassifierConfig, vocab_size: usize, n_outputs: usize) -> EncoderShape {
    EncoderShape {
        vocab_size,
        max_length: config.max_length,
        d_model: config.d_model,
        n_layers: config.n_layers,
        n_heads: config.n_heads,
        d_ff: config.d_ff,
        n_outputs,
        pooling: config.pooling,
    }
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
