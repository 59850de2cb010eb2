//! Training the models of a classifier, each kind in its own way.

use std::path::Path;

use burn::tensor::Device;
use cai_data::hash;
use cai_data::seed::Seed;
use cai_train::{RunDir, TrainArgs};
use serde_json::{Value, json};

use crate::config::{Architecture, ClassifierConfig};
use crate::data::{Dataset, Sample};
use crate::decoder::{DecoderClassifier, DecoderConfig, DecoderHead};
use crate::ensemble::{EncoderModel, Ensemble, prepare};
use crate::error::Result;
use crate::model::{Encoder, EncoderShape};
use crate::network::{Network, Noise};
use crate::ngrams::{Bag, BagShape, LinearModel, Ngrams};
use crate::objective::{CrossEntropy, Labelled, Targets, text_weights};
use crate::outputs::Outputs;
use crate::report::NetworkTraining;
use crate::tokenizer::TextTokenizer;
use crate::train::seed;
use crate::warm_start::{GuessTokens, Guesser, WarmStart};

/// Where the training loop keeps its checkpoints and metrics, below the classifier's folder.
const TRAINING: &str = "training";

/// Texts as the models read them, with their classes.
pub(crate) struct Prepared {
    train: Vec<String>,
    /// The labels of each training text.
    train_classes: Vec<Vec<usize>>,
    outputs: Outputs,
    /// The right outputs of each training text.
    train_targets: Vec<Vec<usize>>,
    /// How much each training text counts.
    train_weights: Vec<f64>,
    held_out: Vec<String>,
    /// The labels of each held-out text.
    pub held_out_classes: Vec<Vec<usize>>,
}

impl Prepared {
    /// Folds the texts and says which outputs of the models they stand for.
    pub fn new(dataset: &Dataset, config: &ClassifierConfig) -> Self {
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
            train_weights: text_weights(&dataset.train, config),
            held_out: texts(&dataset.held_out),
            held_out_classes: classes(&dataset.held_out),
        }
    }

    fn targets(&self) -> Targets<'_> {
        Targets {
            outputs: &self.outputs,
            of_text: &self.train_targets,
            weights: &self.train_weights,
        }
    }

    /// A hash of all texts, classes and weights.
    fn fingerprint(&self) -> String {
        let train = [json!(self.train), json!(self.train_targets), json!(self.train_weights)];
        let all = json!([train, self.held_out, self.held_out_classes]);
        hash::bytes(all.to_string().as_bytes())
    }
}

/// Trains the models that `config.architecture` names, and says how the networks were trained.
///
/// # Errors
/// Those of the loop, of tokenizers, of a base model.
pub(crate) fn train_members(
    texts: &Prepared,
    config: &ClassifierConfig,
    device: &Device,
    out_dir: &Path,
) -> Result<(Ensemble, Vec<NetworkTraining>)> {
    let outputs = texts.outputs.clone();
    let mut models = Ensemble { fold: config.fold, outputs, ..Ensemble::default() };
    let mut networks = Vec::new();
    if config.architecture.has_ngrams() {
        networks.extend(train_ngram_models(&mut models, texts, config, device, out_dir)?);
    }
    if config.architecture.has_encoder() {
        networks.extend(train_encoders(&mut models, texts, config, device, out_dir)?);
    }
    if config.architecture == Architecture::Decoder {
        networks.extend(train_decoder(&mut models, texts, config, device, out_dir)?);
    }
    Ok((models, networks))
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
    let weights: Vec<f32> = texts.train_weights.iter().map(|&weight| weight as f32).collect();
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

/// Trains a head and an adapter on a decoder.
fn train_decoder(
    models: &mut Ensemble,
    texts: &Prepared,
    config: &ClassifierConfig,
    device: &Device,
    out_dir: &Path,
) -> Result<Vec<NetworkTraining>> {
    let seeds = seed(config);
    let n_outputs = texts.outputs.len();
    let new = DecoderClassifier::new(&config.decoder, n_outputs, seeds.derive("weights"), device)?;
    let encode = |texts: &[String]| -> Result<Vec<Vec<u32>>> {
        texts.iter().map(|text| Ok(new.encode(text)?.0)).collect()
    };
    let (train, held_out) = (encode(&texts.train)?, encode(&texts.held_out)?);
    let noise = noise(config.decoder.dropout, 0.0);
    let objective = token_objective::<DecoderHead>(&train, &held_out, texts, noise, config);
    let DecoderConfig { lora, max_length, dropout, train: args, .. } = &config.decoder;
    let base = &new.language.base_fingerprint;
    let members = Members {
        name: "decoder",
        args,
        config,
        out_dir,
        decides: json!([base, lora, max_length, dropout, texts.fingerprint()]),
        weights: seeds.derive("weights"),
        training: config.train.seed,
    };
    let (mut networks, reports) = members.each(1, &objective, |_| new.network.clone())?;
    models.decoder = networks.pop().map(|network| new.clone().trained(network));
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
