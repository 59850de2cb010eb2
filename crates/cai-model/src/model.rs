//! A model folder as one value.

use std::path::{Path, PathBuf};

use burn::tensor::{DType, Device};
use cai_data::{hash, seed::Seed};

use crate::{
    Error, Result,
    checkpoint::{WeightFiles, load_gemma},
    gemma::{Gemma, GemmaConfig},
    lora::{self, ADAPTER_WEIGHTS, LoraConfig},
    quantize::Bits,
    tokenizer::ChatTokenizer,
};

/// Everything a folder holds, and the adapter on it.
#[derive(Clone)]
pub struct LanguageModel {
    /// The weights.
    pub gemma: Gemma,
    /// Their shape.
    pub config: GemmaConfig,
    /// Tokenizer and chat template.
    pub tokenizer: ChatTokenizer,
    /// Where the weights are.
    pub device: Device,
    /// Names base (and how it is quantised) and adapter weights by content (sha256): what caches are
    /// keyed by.
    pub fingerprint: String,
    /// Names the base weights alone.
    pub base_fingerprint: String,
    /// The base's folder.
    pub dir: PathBuf,
    /// Width of the base's codes, if it is quantised.
    pub bits: Option<Bits>,
    /// Settings of the adapter on the model, if there is one.
    pub adapter: Option<LoraConfig>,
}

impl LanguageModel {
    /// Loads a Hugging Face folder and, if given, a PEFT adapter onto `device`.
    ///
    /// Weights are f32 on CPU and bf16 on GPUs that compute in it.
    ///
    /// # Errors
    ///
    /// Missing or damaged files, unsupported architectures, a tokenizer that does not fit the
    /// model, an adapter made for another base; each message says what to do.
    pub fn load(dir: &Path, adapter: Option<&Path>, device: &Device) -> Result<Self> {
        Self::load_quantized(dir, adapter, None, device)
    }

    /// [`LanguageModel::load`] with the base's matrices in 8 or 4 bits per weight (embedding and
    /// head: 8), made from the files row by row. The base is frozen and cannot be saved; an adapter
    /// can be trained on it. The products are made for the CPU and slow elsewhere.
    ///
    /// # Errors
    ///
    /// As [`LanguageModel::load`].
    pub fn load_quantized(
        dir: &Path,
        adapter: Option<&Path>,
        bits: Option<Bits>,
        device: &Device,
    ) -> Result<Self> {
        let (config, tokenizer) = describe(dir)?;
        let gemma = load_gemma(dir, &config, weights_dtype(device), bits, device)?;
        let base_fingerprint = weights_fingerprint(dir)?;
        let model = Self {
            gemma,
            config,
            tokenizer,
            device: device.clone(),
            fingerprint: names(&base_fingerprint, bits, None),
            base_fingerprint,
            dir: dir.into(),
            bits,
            adapter: None,
        };
        match adapter {
            Some(adapter) => model.with_adapter(adapter),
            None => Ok(model),
        }
    }

    /// Names the base alone, how it is quantised included.
    pub fn base_name(&self) -> String {
        names(&self.base_fingerprint, self.bits, None)
    }

    /// The model with the adapter of a PEFT folder on it (frozen), in place of any other.
    ///
    /// # Errors
    ///
    /// See [`lora::load_adapter`].
    pub fn with_adapter(self, dir: &Path) -> Result<Self> {
        let (gemma, config) = lora::load_adapter(self.gemma, &self.base_fingerprint, dir)?;
        let adapter_hash = hash::file(&dir.join(ADAPTER_WEIGHTS))?;
        let fingerprint = names(&self.base_fingerprint, self.bits, Some(&adapter_hash));
        Ok(Self { gemma, fingerprint, adapter: Some(config), ..self })
    }

    /// The model with a fresh trainable adapter that does not change it yet.
    ///
    /// # Errors
    ///
    /// See [`lora::add_adapter`].
    pub fn add_adapter(self, config: &LoraConfig, seed: Seed) -> Result<Self> {
        let gemma = lora::add_adapter(self.gemma, config, seed)?;
        Ok(Self { gemma, adapter: Some(config.clone()), ..self })
    }

    /// The model with the adapter it has marked for training.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] when there is none.
    pub fn train_adapter(self) -> Result<Self> {
        if self.adapter.is_none() {
            return Err(Error::Input("the model has no adapter to train".into()));
        }
        Ok(Self { gemma: lora::train_adapter(self.gemma), ..self })
    }

    /// Names base weights and the adapter as it is in memory by content (sha256), where
    /// `fingerprint` names what was loaded.
    pub fn content_fingerprint(&self) -> String {
        let mut bytes = format!("{} {:?}", self.base_name(), self.adapter).into_bytes();
        for factor in lora::factors(&self.gemma) {
            bytes.extend(factor.as_bytes());
        }
        hash::bytes(&bytes)
    }

    /// Writes the adapter as a PEFT folder.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] when there is none; I/O errors.
    pub fn save_adapter(&self, dir: &Path) -> Result<()> {
        let Some(config) = &self.adapter else {
            return Err(Error::Input("the model has no adapter to save".into()));
        };
        let base = self.dir.display().to_string();
        lora::save_adapter(&self.gemma, config, &base, &self.base_fingerprint, dir)
    }
}

/// Finds most of what is wrong with a model folder without reading its tensors: missing files, a
/// config or a tokenizer that does not fit, truncated weights.
///
/// # Errors
///
/// As [`LanguageModel::load`].
pub fn check(dir: &Path) -> Result<()> {
    describe(dir)?;
    WeightFiles::open(dir)?;
    Ok(())
}

/// Config and tokenizer of a folder, which belong together.
fn describe(dir: &Path) -> Result<(GemmaConfig, ChatTokenizer)> {
    if !dir.is_dir() {
        let reason = "no such model folder; give the path of a Hugging Face model folder";
        return Err(Error::Config { path: dir.into(), reason: reason.into() });
    }
    let config = GemmaConfig::read(dir)?;
    let tokenizer = ChatTokenizer::from_dir(dir)?;
    if tokenizer.vocab_size() > config.vocab_size {
        return Err(Error::Tokenizer {
            path: dir.join("tokenizer.json"),
            reason: format!(
                "it has {} tokens and the model's embedding only {}; \
                 tokenizer and weights do not belong together",
                tokenizer.vocab_size(),
                config.vocab_size
            ),
        });
    }
    Ok((config, tokenizer))
}

/// The type of a base's weights on this device: f32 where bf16 would be converted at every product (CPU)
/// or does not exist, bf16 elsewhere.
pub fn weights_dtype(device: &Device) -> DType {
    let cpu = *device == Device::flex();
    if !cpu && device.supports_dtype(DType::BF16) { DType::BF16 } else { DType::F32 }
}

/// One name for a base of these weights, how it is quantised, and the adapter on it.
fn names(base: &str, bits: Option<Bits>, adapter: Option<&str>) -> String {
    let bits = bits.map(|bits| format!("+{} bits", bits.number()));
    match (bits, adapter) {
        (None, None) => base.into(),
        (bits, adapter) => {
            let adapter = adapter.map(|hash| format!("+{hash}")).unwrap_or_default();
            hash::bytes(format!("{base}{}{adapter}", bits.unwrap_or_default()).as_bytes())
        }
    }
}

/// Hash over the hashes of the folder's weight files, in order of their names.
fn weights_fingerprint(dir: &Path) -> Result<String> {
    let io = |source| Error::Io { path: dir.into(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if path.extension().is_some_and(|e| e == "safetensors") {
            files.push(path);
        }
    }
    files.sort();
    let hashes = files.iter().map(|f| hash::file(f)).collect::<std::result::Result<Vec<_>, _>>()?;
    Ok(hash::bytes(hashes.join("\n").as_bytes()))
}
