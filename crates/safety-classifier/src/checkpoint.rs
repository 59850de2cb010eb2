//! A classifier on disk.
//!
//! The folder holds `config.json` (labels and sizes), `calibration.json`, and the models: for the
//! encoders `tokenizer.json` and `model.safetensors`, `model-2.safetensors`, … (one f32 tensor per
//! parameter, named by its path in [`Encoder`]; linear weights are `[in, out]`), for the linear path
//! `linear.safetensors` (hashes, idf and weights of its n-grams).

use std::collections::BTreeMap;
use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, TensorData};
use cai_data::atomic;
use cai_data::seed::Seed;
use cai_train::params;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::calibrate::Calibration;
use crate::ensemble::{EncoderModel, Ensemble};
use crate::error::{Error, Result};
use crate::linear::LinearModel;
use crate::model::{Encoder, EncoderShape};
use crate::tokenizer::TextTokenizer;

const MODEL_TYPE: &str = "safety_classifier";
const CONFIG: &str = "config.json";
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
    /// Whether texts are folded first.
    #[serde(default)]
    pub fold: bool,
    /// Whether there is a linear path.
    #[serde(default)]
    pub linear: bool,
    /// Number of encoders.
    #[serde(default = "one")]
    pub encoders: usize,
    /// The sizes of the encoders; absent without encoders.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoder: Option<EncoderShape>,
}

fn one() -> usize {
    1
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

impl FolderConfig {
    /// The contents of `config.json` for these labels and models; `shape` is that of the encoders.
    pub fn new(
        labels: Vec<String>,
        safe_label: String,
        models: &Ensemble,
        shape: Option<EncoderShape>,
    ) -> Self {
        Self {
            model_type: MODEL_TYPE.into(),
            labels,
            safe_label,
            fold: models.fold,
            linear: models.linear.is_some(),
            encoders: models.encoders.len(),
            encoder: shape.filter(|_| !models.encoders.is_empty()),
        }
    }

    /// The files that decide what the classifier answers.
    pub(crate) fn files(&self) -> Vec<String> {
        let mut files = vec![CONFIG.to_string(), CALIBRATION.into()];
        files.extend(self.linear.then(|| LINEAR.into()));
        files.extend((self.encoders > 0).then(|| TOKENIZER.into()));
        files.extend((0..self.encoders).map(weights_file));
        files
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
        let Some(shape) = &self.encoder else {
            let nothing = !self.linear || self.encoders > 0;
            return nothing.then(|| "there is neither an encoder nor a linear path".into());
        };
        if self.labels.len() != shape.n_labels {
            return Some(format!("{} labels for {} outputs", self.labels.len(), shape.n_labels));
        }
        let heads = shape.n_heads > 0 && shape.d_model.is_multiple_of(shape.n_heads);
        (!heads || shape.max_length < 2).then(|| format!("impossible sizes {shape:?}"))
    }
}

fn weights_file(i: usize) -> String {
    if i == 0 { "model.safetensors".into() } else { format!("model-{}.safetensors", i + 1) }
}

impl Checkpoint {
    /// Writes the files, each whole or not at all.
    ///
    /// # Errors
    /// When a weight cannot be read from the device or a file cannot be written.
    pub fn save(&self, dir: &Path) -> Result<()> {
        if let Some(linear) = &self.models.linear {
            linear.save(&dir.join(LINEAR))?;
        }
        for (i, EncoderModel { encoder, tokenizer }) in self.models.encoders.iter().enumerate() {
            atomic::write(&dir.join(weights_file(i)), &weights_to_bytes(encoder)?)?;
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
        let linear = match config.linear {
            true => Some(LinearModel::load(&dir.join(LINEAR), config.labels.len())?),
            false => None,
        };
        let encoders = match &config.encoder {
            Some(shape) => load_encoders(dir, shape, config.encoders, device)?,
            None => Vec::new(),
        };
        let models = Ensemble { linear, encoders, fold: config.fold };

        let path = dir.join(CALIBRATION);
        let calibration: Calibration = read_json(&path)?;
        if let Some(problem) = calibration.problem(models.len(), config.labels.len()) {
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
        let path = dir.join(weights_file(i));
        let bytes = std::fs::read(&path).map_err(cai_data::Error::read(&path))?;
        let encoder =
            weights_from_bytes(&bytes, shape, device).map_err(|problem| wrong(&path, problem))?;
        Ok(EncoderModel { tokenizer: tokenizer.clone(), encoder })
    };
    (0..number).map(encoder).collect()
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes = std::fs::read(path).map_err(cai_data::Error::read(path))?;
    serde_json::from_slice(&bytes).map_err(|error| wrong(path, error.to_string()))
}

fn wrong(path: &Path, problem: String) -> Error {
    Error::Checkpoint { path: path.to_path_buf(), problem }
}

fn weights_to_bytes(encoder: &Encoder) -> Result<Vec<u8>> {
    let failed = |problem: String| Error::Device { what: "the weights", problem };
    // `params` sees what a training model would train: here, all weights.
    let values = params::values(&encoder.clone().train())?;
    let views = values
        .iter()
        .map(|(name, data)| {
            let shape = data.shape().as_slice().to_vec();
            let view = TensorView::new(Dtype::F32, shape, data.as_bytes());
            Ok((name, view.map_err(|error| failed(error.to_string()))?))
        })
        .collect::<Result<Vec<_>>>()?;
    safetensors::serialize(views, None).map_err(|error| failed(error.to_string()))
}

fn weights_from_bytes(
    bytes: &[u8],
    shape: &EncoderShape,
    device: &Device,
) -> std::result::Result<Encoder, String> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
    let mut tensors = BTreeMap::new();
    for (name, view) in file.iter() {
        if view.dtype() != Dtype::F32 {
            return Err(format!("{name} is {:?}, not F32", view.dtype()));
        }
        let (numbers, _) = view.data().as_chunks::<4>();
        let values: Vec<f32> = numbers.iter().map(|number| f32::from_le_bytes(*number)).collect();
        if values.iter().any(|value| !value.is_finite()) {
            return Err(format!("{name} holds a number that is not finite"));
        }
        tensors.insert(name.to_owned(), TensorData::new(values, view.shape().to_vec()));
    }
    // Every weight is replaced, or the load fails: the seed does not matter.
    let encoder = Encoder::new(shape, Seed(0), device).train();
    Ok(params::load(encoder, tensors)?.valid())
}
