//! A classifier on disk.
//!
//! The folder holds `config.json` (labels and sizes), `calibration.json`, and the models. A network's
//! file has one f32 tensor per parameter, named by its path in the network; linear weights are
//! `[in, out]`.
//!
//! | file | holds |
//! |---|---|
//! | `ngrams.safetensors` | hashes, idf and ratios of the n-grams that the linear path and the bags read |
//! | `linear.safetensors` | weights of the linear path |
//! | `bag.safetensors`, `bag-2.safetensors`, … | the networks over n-grams ([`Bag`]) |
//! | `tokenizer.json` | the tokenizer of the encoders |
//! | `model.safetensors`, `model-2.safetensors`, … | the encoders ([`Encoder`]) |
//! | `adapter/`, `head.safetensors` | LoRA adapter (PEFT) and head on a decoder, whose base `config.json` names |

use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::Device;
use cai_data::atomic;
use cai_data::seed::Seed;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::calibrate::Calibration;
use crate::config::Task;
use crate::decoder::{DecoderBase, DecoderClassifier};
use crate::ensemble::{EncoderModel, Ensemble};
use crate::error::{Error, Result};
use crate::model::{Encoder, EncoderShape};
use crate::ngrams::{Bag, BagShape, LinearModel, Ngrams};
use crate::outputs::Outputs;
use crate::tokenizer::TextTokenizer;
use crate::weights;

const MODEL_TYPE: &str = "safety_classifier";
const CONFIG: &str = "config.json";
const NGRAMS: &str = "ngrams.safetensors";
const LINEAR: &str = "linear.safetensors";
const TOKENIZER: &str = "tokenizer.json";
const CALIBRATION: &str = "calibration.json";

/// `config.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FolderConfig {
    /// Always `safety_classifier`.
    pub model_type: String,
    /// The classes, in the order of the models' outputs.
    pub labels: Vec<String>,
    /// The label that means "no harm".
    pub safe_label: String,
    /// Whether labels exclude each other.
    #[serde(default)]
    pub task: Task,
    /// The label of each output of the models.
    pub outputs: Outputs,
    /// Whether texts are folded first.
    #[serde(default)]
    pub fold: bool,
    /// Whether there is a linear path.
    #[serde(default)]
    pub linear: bool,
    /// Number of networks over n-grams.
    #[serde(default)]
    pub bags: usize,
    /// Width of their n-grams' vectors; absent without them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bag_width: Option<usize>,
    /// Number of encoders.
    #[serde(default)]
    pub encoders: usize,
    /// The sizes of the encoders; absent without encoders.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoder: Option<EncoderShape>,
    /// The base of the head on a decoder; absent without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decoder: Option<DecoderBase>,
}

/// All parts of a classifier.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// Sizes and labels.
    pub config: FolderConfig,
    /// The models.
    pub models: Ensemble,
    /// From their scores to probabilities.
    pub calibration: Calibration,
}

/// The files in a classifier's folder that decide what it answers.
///
/// # Errors
/// A `config.json` that is missing or damaged, or another file that is missing.
pub fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let config: FolderConfig = read_json(&dir.join(CONFIG))?;
    let paths: Vec<PathBuf> = config.files().iter().map(|name| dir.join(name)).collect();
    match paths.iter().find(|path| !path.is_file()) {
        Some(path) => Err(Error::Checkpoint { path: path.clone(), problem: "is missing".into() }),
        None => Ok(paths),
    }
}

impl FolderConfig {
    /// The contents of `config.json` for these labels and models.
    pub fn new(labels: Vec<String>, safe_label: String, task: Task, models: &Ensemble) -> Self {
        Self {
            model_type: MODEL_TYPE.into(),
            labels,
            safe_label,
            task,
            outputs: models.outputs.clone(),
            fold: models.fold,
            linear: models.linear.is_some(),
            bags: models.bags.len(),
            bag_width: models.bags.first().map(|bag| bag.shape().width),
            encoders: models.encoders.len(),
            encoder: models.encoders.first().map(|model| model.shape.clone()),
            decoder: models.decoder.as_ref().map(DecoderClassifier::base),
        }
    }

    /// The files that decide what the classifier answers.
    pub(crate) fn files(&self) -> Vec<String> {
        let mut files = vec![CONFIG.to_string(), CALIBRATION.into()];
        files.extend(self.has_ngrams().then(|| NGRAMS.into()));
        files.extend(self.linear.then(|| LINEAR.into()));
        files.extend((0..self.bags).map(|i| numbered("bag", i)));
        files.extend((self.encoders > 0).then(|| TOKENIZER.into()));
        files.extend((0..self.encoders).map(|i| numbered("model", i)));
        files.extend(self.decoder.iter().flat_map(|_| DecoderClassifier::files()));
        files
    }

    fn has_ngrams(&self) -> bool {
        self.linear || self.bags > 0
    }

    fn problem(&self) -> Option<String> {
        if self.model_type != MODEL_TYPE {
            return Some(format!("model_type is {:?}, not {MODEL_TYPE:?}", self.model_type));
        }
        if self.labels.len() < 2 {
            return Some(format!("{} labels; at least two are needed", self.labels.len()));
        }
        if !self.labels.contains(&self.safe_label) {
            return Some(format!("safe_label {:?} is not one of the labels", self.safe_label));
        }
        if self.outputs.n_labels() != self.labels.len() {
            let (outputs, labels) = (self.outputs.n_labels(), self.labels.len());
            return Some(format!("outputs for {outputs} labels, but there are {labels}"));
        }
        if (self.bags > 0) != self.bag_width.is_some_and(|width| width > 0) {
            return Some(format!("bag_width {:?} for {} bags", self.bag_width, self.bags));
        }
        if (self.encoders > 0) != self.encoder.is_some() {
            return Some(format!("sizes {:?} for {} encoders", self.encoder, self.encoders));
        }
        let Some(shape) = &self.encoder else {
            let nothing = !self.has_ngrams() && self.decoder.is_none();
            return nothing.then(|| "there is no model".into());
        };
        if self.outputs.len() != shape.n_outputs {
            let (found, sizes) = (self.outputs.len(), shape.n_outputs);
            return Some(format!("{found} outputs, but the encoder has {sizes}"));
        }
        let heads = shape.n_heads > 0 && shape.d_model.is_multiple_of(shape.n_heads);
        (!heads || shape.max_length < 2).then(|| format!("impossible sizes {shape:?}"))
    }
}

/// The file of the network number `i`.
fn numbered(name: &str, i: usize) -> String {
    if i == 0 { format!("{name}.safetensors") } else { format!("{name}-{}.safetensors", i + 1) }
}

impl Checkpoint {
    /// Writes the files, each whole or not at all.
    ///
    /// # Errors
    /// When a weight cannot be read from the device or a file cannot be written.
    pub fn save(&self, dir: &Path) -> Result<()> {
        let Ensemble { ngrams, linear, bags, encoders, decoder, .. } = &self.models;
        if let Some(decoder) = decoder {
            decoder.save(dir)?;
        }
        if let Some(ngrams) = ngrams {
            ngrams.save(&dir.join(NGRAMS))?;
        }
        if let Some(linear) = linear {
            linear.save(&dir.join(LINEAR))?;
        }
        for (i, bag) in bags.iter().enumerate() {
            atomic::write(&dir.join(numbered("bag", i)), &weights::to_bytes(bag)?)?;
        }
        for (i, EncoderModel { encoder, tokenizer, .. }) in encoders.iter().enumerate() {
            atomic::write(&dir.join(numbered("model", i)), &weights::to_bytes(encoder)?)?;
            atomic::write(&dir.join(TOKENIZER), tokenizer.to_json()?.as_bytes())?;
        }
        atomic::write_json(&dir.join(CALIBRATION), &self.calibration)?;
        atomic::write_json(&dir.join(CONFIG), &self.config)?;
        Ok(())
    }

    /// Reads a folder and checks that its files fit each other.
    ///
    /// # Errors
    /// Names the file that is missing, damaged or does not fit, and why.
    pub fn load(dir: &Path, device: &Device) -> Result<Self> {
        let config: FolderConfig = read_json(&dir.join(CONFIG))?;
        if let Some(problem) = config.problem() {
            return Err(wrong(&dir.join(CONFIG), problem));
        }
        let (n_labels, n_outputs) = (config.labels.len(), config.outputs.len());
        let mut models =
            Ensemble { fold: config.fold, outputs: config.outputs.clone(), ..Ensemble::default() };
        if config.has_ngrams() {
            let ngrams = Ngrams::load(&dir.join(NGRAMS))?;
            if config.linear {
                let path = dir.join(LINEAR);
                models.linear = Some(LinearModel::load(&path, ngrams.len(), n_outputs)?);
            }
            let width = config.bag_width.unwrap_or_default();
            let shape = BagShape { ngrams: ngrams.len(), width, n_outputs };
            let bag = |i| network(&dir.join(numbered("bag", i)), Bag::new(&shape, Seed(0), device));
            models.bags = (0..config.bags).map(bag).collect::<Result<_>>()?;
            models.ngrams = Some(ngrams);
        }
        if let Some(shape) = &config.encoder {
            models.encoders = load_encoders(dir, shape, config.encoders, device)?;
        }
        if let Some(base) = &config.decoder {
            models.decoder = Some(DecoderClassifier::load(dir, base, n_outputs, device)?);
        }

        let path = dir.join(CALIBRATION);
        let calibration: Calibration = read_json(&path)?;
        if let Some(problem) = calibration.problem(models.len(), n_labels, config.task) {
            return Err(wrong(&path, problem));
        }
        Ok(Self { config, models, calibration })
    }
}

fn load_encoders(
    dir: &Path,
    shape: &EncoderShape,
    number: usize,
    device: &Device,
) -> Result<Vec<EncoderModel>> {
    let path = dir.join(TOKENIZER);
    let tokenizer = TextTokenizer::load(&path, shape.max_length)?;
    if tokenizer.vocab_size() != shape.vocab_size {
        let found = tokenizer.vocab_size();
        let problem = format!("{found} tokens, but the model has {}", shape.vocab_size);
        return Err(wrong(&path, problem));
    }
    let encoder = |i: usize| {
        let path = dir.join(numbered("model", i));
        let encoder = network(&path, Encoder::new(shape, Seed(0), device))?;
        EncoderModel::new(tokenizer.clone(), shape.clone(), encoder)
    };
    (0..number).map(encoder).collect()
}

/// `new` with the weights of a file. Every one is replaced: its seed does not matter.
fn network<M: Module>(path: &Path, new: M) -> Result<M> {
    let bytes = std::fs::read(path).map_err(cai_data::Error::read(path))?;
    weights::from_bytes(&bytes, new).map_err(|problem| wrong(path, problem))
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes = std::fs::read(path).map_err(cai_data::Error::read(path))?;
    serde_json::from_slice(&bytes).map_err(|error| wrong(path, error.to_string()))
}

fn wrong(path: &Path, problem: String) -> Error {
    Error::Checkpoint { path: path.to_path_buf(), problem }
}
