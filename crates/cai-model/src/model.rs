//! A base, its tokenizer and the adapter on it as one value.

use std::path::{Path, PathBuf};

use burn::tensor::{DType, Device};
use cai_data::{atomic, hash, seed::Seed};

use crate::{
    Error, Result,
    decoder::{Decoder, DecoderSpec},
    device::release_freed_memory,
    export::save_folder,
    lora::{self, ADAPTER_WEIGHTS, LoraConfig},
    source::{Held, ModelSource, Quantize},
    tokenizer::{ChatTokenizer, TemplateChoice},
};

/// Name of a chat template's file beside an adapter.
const CHAT_TEMPLATE: &str = "chat_template.jinja";

/// A model that answers, scores and can be trained.
#[derive(Clone)]
pub struct LanguageModel {
    /// The weights.
    pub decoder: Decoder,
    /// Their shape.
    pub spec: DecoderSpec,
    /// Tokenizer and chat template.
    pub tokenizer: ChatTokenizer,
    /// Where the weights are.
    pub device: Device,
    /// Names base (and how it is quantised), adapter and chat template by content (sha256): what
    /// caches are keyed by.
    pub fingerprint: String,
    /// Names the base weights alone.
    pub base_fingerprint: String,
    /// The base's folder or file.
    pub path: PathBuf,
    /// What the base is held in, if it is quantised.
    pub quantize: Option<Quantize>,
    /// The chat template in place of the base's own, if there is one.
    pub chat_template: Option<String>,
    /// Settings of the adapter on the model, if there is one.
    pub adapter: Option<LoraConfig>,
}

/// What a model is loaded with, beside its base.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// A PEFT adapter's folder.
    pub adapter: Option<PathBuf>,
    /// What the base's matrices are held in. The base is frozen and cannot be saved; an adapter can
    /// be trained on it. The products are made for the CPU and slow elsewhere.
    pub quantize: Option<Quantize>,
    /// A folder whose tokenizer takes the place of the model's own.
    pub tokenizer: Option<PathBuf>,
    /// A chat template in place of the model's own.
    pub chat_template: Option<TemplateChoice>,
}

impl LanguageModel {
    /// Loads a Hugging Face folder or a GGUF file and, if given, a PEFT adapter onto `device`.
    ///
    /// Weights are f32 on CPU and bf16 on GPUs that compute in it.
    ///
    /// # Errors
    ///
    /// Missing or damaged files, unsupported architectures, a tokenizer that does not fit the
    /// model, an adapter made for another base; each message says what to do.
    pub fn load(path: &Path, adapter: Option<&Path>, device: &Device) -> Result<Self> {
        let adapter = adapter.map(Path::to_path_buf);
        Self::load_with(path, &LoadOptions { adapter, ..LoadOptions::default() }, device)
    }

    /// The same with further options.
    ///
    /// # Errors
    ///
    /// As [`LanguageModel::load`].
    pub fn load_with(path: &Path, options: &LoadOptions, device: &Device) -> Result<Self> {
        let source = ModelSource::open(path, options.tokenizer.as_deref())?;
        let quantize = options.quantize;
        let held = Held { dtype: weights_dtype(device), quantize, device: device.clone() };
        release_freed_memory();
        let (decoder, base_fingerprint) =
            rayon::join(|| source.decoder(&held), || source.fingerprint());
        let (decoder, base_fingerprint) = (decoder?, base_fingerprint?);
        let mut model = Self {
            fingerprint: String::new(),
            decoder,
            spec: source.spec,
            tokenizer: source.tokenizer,
            device: device.clone(),
            base_fingerprint,
            path: path.into(),
            quantize,
            chat_template: None,
            adapter: None,
        };
        if let Some(choice) = &options.chat_template {
            model.tokenizer = model.tokenizer.with_choice(choice)?;
            model.chat_template = Some(model.tokenizer.template()?.source().to_string());
        }
        model.fingerprint = model.base_name();
        match &options.adapter {
            Some(adapter) => model.with_adapter(adapter),
            None => Ok(model),
        }
    }

    /// Names the base alone, how it is quantised and another chat template than its own included.
    pub fn base_name(&self) -> String {
        self.name(None)
    }

    /// One name for base, how it is quantised, chat template, and the adapter on it.
    fn name(&self, adapter: Option<&str>) -> String {
        let quantize = self.quantize.map(|quantize| match quantize {
            Quantize::To(bits) => format!("+{} bits", bits.number()),
            Quantize::Stored => "+stored".into(),
        });
        let template =
            self.chat_template.as_ref().map(|text| format!("+{}", hash::bytes(text.as_bytes())));
        let adapter = adapter.map(|hash| format!("+{hash}"));
        let parts: Vec<String> = [quantize, template, adapter].into_iter().flatten().collect();
        match parts.is_empty() {
            true => self.base_fingerprint.clone(),
            false => hash::bytes(format!("{}{}", self.base_fingerprint, parts.concat()).as_bytes()),
        }
    }

    /// The model with the adapter of a PEFT folder on it (frozen), in place of any other. A chat
    /// template in the folder is the one that it was trained with, and is taken unless the model was
    /// given another one.
    ///
    /// # Errors
    ///
    /// See [`lora::load_adapter`]; those of the template.
    pub fn with_adapter(mut self, dir: &Path) -> Result<Self> {
        let (decoder, config) = lora::load_adapter(self.decoder, &self.base_fingerprint, dir)?;
        self.decoder = decoder;
        let template = dir.join(CHAT_TEMPLATE);
        if self.chat_template.is_none() && template.is_file() {
            let text = std::fs::read_to_string(&template)
                .map_err(|source| Error::Io { path: template, source })?;
            self.tokenizer = self.tokenizer.with_template(text.clone())?;
            self.chat_template = Some(text);
        }
        let adapter_hash = hash::file(&dir.join(ADAPTER_WEIGHTS))?;
        let fingerprint = self.name(Some(&adapter_hash));
        Ok(Self { fingerprint, adapter: Some(config), ..self })
    }

    /// The base alone: the adapter taken off.
    pub fn without_adapter(self) -> Self {
        let fingerprint = self.base_name();
        Self { decoder: lora::without_adapter(self.decoder), fingerprint, adapter: None, ..self }
    }

    /// The model with a fresh trainable adapter that does not change it yet.
    ///
    /// # Errors
    ///
    /// See [`lora::add_adapter`].
    pub fn add_adapter(self, config: &LoraConfig, seed: Seed) -> Result<Self> {
        let decoder = lora::add_adapter(self.decoder, config, seed)?;
        Ok(Self { decoder, adapter: Some(config.clone()), ..self })
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
        Ok(Self { decoder: lora::train_adapter(self.decoder), ..self })
    }

    /// Names base weights and the adapter as it is in memory by content (sha256), where
    /// `fingerprint` names what was loaded.
    pub fn content_fingerprint(&self) -> String {
        let mut bytes = format!("{} {:?}", self.base_name(), self.adapter).into_bytes();
        for (_, values) in lora::trained_tensors(&self.decoder) {
            bytes.extend(values.as_bytes());
        }
        hash::bytes(&bytes)
    }

    /// Writes the model as a folder that transformers reads, weights as `dtype`, with its tokenizer
    /// and chat template.
    ///
    /// # Errors
    ///
    /// Those of [`save_folder`].
    pub fn save_folder(&self, dtype: DType, dir: &Path) -> Result<()> {
        save_folder(&self.decoder, Some(&self.path), dtype, dir)?;
        match &self.chat_template {
            Some(text) => Ok(atomic::write(&dir.join(CHAT_TEMPLATE), text.as_bytes())?),
            None => Ok(()),
        }
    }

    /// Writes the adapter as a PEFT folder, and beside it the chat template, if it is not the base's
    /// own.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] when there is none; I/O errors.
    pub fn save_adapter(&self, dir: &Path) -> Result<()> {
        let Some(config) = &self.adapter else {
            return Err(Error::Input("the model has no adapter to save".into()));
        };
        let base = self.path.display().to_string();
        lora::save_adapter(&self.decoder, config, &base, &self.base_fingerprint, dir)?;
        match &self.chat_template {
            Some(text) => Ok(atomic::write(&dir.join(CHAT_TEMPLATE), text.as_bytes())?),
            None => Ok(()),
        }
    }
}

/// Finds most of what is wrong with a model without reading its tensors: missing files, a config or
/// a tokenizer that does not fit, truncated weights.
///
/// # Errors
///
/// As [`LanguageModel::load`].
pub fn check(path: &Path) -> Result<()> {
    ModelSource::open(path, None).map(drop)
}

/// The type of a base's weights on this device: f32 where bf16 would be converted at every product (CPU)
/// or does not exist, bf16 elsewhere.
pub fn weights_dtype(device: &Device) -> DType {
    let cpu = *device == Device::flex();
    if !cpu && device.supports_dtype(DType::BF16) { DType::BF16 } else { DType::F32 }
}
