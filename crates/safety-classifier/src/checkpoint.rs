//! A classifier on disk.
//!
//! The folder holds `config.json` (sizes and labels), `model.safetensors` (one f32 tensor per
//! parameter, named by its path in [`Encoder`]; linear weights are `[in, out]`), `tokenizer.json`
//! and `calibration.json`.

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
use crate::error::{Error, Result};
use crate::model::{Encoder, EncoderShape};
use crate::tokenizer::TextTokenizer;

const MODEL_TYPE: &str = "safety_classifier";
const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";
const TOKENIZER: &str = "tokenizer.json";
const CALIBRATION: &str = "calibration.json";
/// The files that decide what a classifier answers.
pub(crate) const FILES: [&str; 4] = [CONFIG, WEIGHTS, TOKENIZER, CALIBRATION];

/// `config.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FolderConfig {
    /// Always `safety_classifier`.
    pub model_type: String,
    /// The classes, in the order of the head's outputs.
    pub labels: Vec<String>,
    /// The label that means "no harm".
    pub safe_label: String,
    /// The sizes of the encoder.
    pub encoder: EncoderShape,
}

/// All parts of a classifier.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// Sizes and labels.
    pub config: FolderConfig,
    /// The weights.
    pub encoder: Encoder,
    /// The tokenizer.
    pub tokenizer: TextTokenizer,
    /// The temperature.
    pub calibration: Calibration,
}

impl FolderConfig {
    /// The contents of `config.json` for these labels and sizes.
    pub fn new(labels: Vec<String>, safe_label: String, encoder: EncoderShape) -> Self {
        Self { model_type: MODEL_TYPE.into(), labels, safe_label, encoder }
    }
}

impl Checkpoint {
    /// Writes the four files, each whole or not at all.
    ///
    /// # Errors
    /// When a weight cannot be read from the device or a file cannot be written.
    pub fn save(&self, dir: &Path) -> Result<()> {
        atomic::write(&dir.join(WEIGHTS), &weights_to_bytes(&self.encoder)?)?;
        atomic::write(&dir.join(TOKENIZER), self.tokenizer.to_json()?.as_bytes())?;
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
        check_config(&config).map_err(|problem| wrong(&dir.join(CONFIG), problem))?;
        let shape = &config.encoder;

        let path = dir.join(TOKENIZER);
        let tokenizer = TextTokenizer::load(&path, shape.max_length)?;
        if tokenizer.vocab_size() != shape.vocab_size {
            let found = tokenizer.vocab_size();
            let problem = format!("{found} tokens, but the model has {}", shape.vocab_size);
            return Err(wrong(&path, problem));
        }

        let path = dir.join(CALIBRATION);
        let calibration: Calibration = read_json(&path)?;
        if !(calibration.temperature.is_finite() && calibration.temperature > 0.0) {
            let problem = format!("temperature {} is not above 0", calibration.temperature);
            return Err(wrong(&path, problem));
        }

        let path = dir.join(WEIGHTS);
        let bytes = std::fs::read(&path).map_err(cai_data::Error::read(&path))?;
        let encoder =
            weights_from_bytes(&bytes, shape, device).map_err(|problem| wrong(&path, problem))?;
        Ok(Self { config, encoder, tokenizer, calibration })
    }
}

fn check_config(config: &FolderConfig) -> std::result::Result<(), String> {
    let shape = &config.encoder;
    if config.model_type != MODEL_TYPE {
        return Err(format!("model_type is {:?}, not {MODEL_TYPE:?}", config.model_type));
    }
    if config.labels.len() != shape.n_labels || config.labels.len() < 2 {
        return Err(format!("{} labels for {} outputs", config.labels.len(), shape.n_labels));
    }
    if !config.labels.contains(&config.safe_label) {
        return Err(format!("safe_label {:?} is not one of the labels", config.safe_label));
    }
    if shape.n_heads == 0 || !shape.d_model.is_multiple_of(shape.n_heads) || shape.max_length < 2 {
        return Err(format!("impossible sizes {shape:?}"));
    }
    Ok(())
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
