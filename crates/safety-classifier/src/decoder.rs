//! A head on a decoder, for users who have its weights: LoRA in the layers, a linear layer on the last
//! token's hidden state.
//!
//! As `Decoder…ForSequenceClassification` of transformers, but with a bias. The base stays as it is; the
//! adapter (a PEFT folder) and the head are what is trained and kept.

use std::path::Path;

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use cai_data::{atomic, seed::Seed};
use cai_model::batch::TokenBatch;
use cai_model::decoder::{Decoder, Pass};
use cai_model::lora::LoraConfig;
use cai_model::model::LanguageModel;
use cai_train::TrainArgs;
use serde::{Deserialize, Serialize};

use crate::ensemble::{Scores, TextModel, Texts};
use crate::error::{Error, Result};
use crate::network::{self, Network, Noise, drop_out};
use crate::weights::{self, Init};

/// The adapter's folder and the head's file.
const ADAPTER: &str = "adapter";
const HEAD: &str = "head.safetensors";

/// Settings of the head on a decoder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DecoderConfig {
    /// Folder of the base model, in Hugging Face's format.
    pub model: String,
    /// Longest text in tokens; the rest of a longer text is not read (and reported as truncated).
    pub max_length: usize,
    /// The adapter.
    pub lora: LoraConfig,
    /// Share of the last hidden state set to zero while training.
    pub dropout: f64,
    /// The optimiser and the length of training.
    pub train: TrainArgs,
}

impl Default for DecoderConfig {
    fn default() -> Self {
        Self {
            model: "artifacts/models/mini-gemma".into(),
            max_length: 256,
            lora: LoraConfig::default(),
            dropout: 0.1,
            train: TrainArgs {
                learning_rate: 2e-4,
                num_train_epochs: 1.0,
                per_device_train_batch_size: 16,
                warmup_ratio: 0.05,
                save_total_limit: Some(1),
                ..TrainArgs::default()
            },
        }
    }
}

/// What `config.json` of a classifier says about the head's base.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecoderBase {
    /// Folder of the base model.
    pub model: String,
    /// Longest text in tokens.
    pub max_length: usize,
}

/// Decoder with a head in place of its vocabulary.
#[derive(Module, Debug)]
pub struct DecoderHead {
    /// The base with the adapter.
    pub decoder: Decoder,
    /// `[hidden, outputs]`.
    pub head: Linear,
    #[module(skip)]
    pad: u32,
}

impl Network for DecoderHead {
    type Text = [u32];

    fn device(&self) -> Device {
        self.head.weight.val().device()
    }

    fn length(text: &[u32]) -> usize {
        text.len()
    }

    /// Every text has at least one token.
    fn forward(&self, texts: &[&[u32]], noise: Option<Noise>) -> Tensor<2> {
        let device = self.device();
        let batch = TokenBatch::right(texts, self.pad, &device.clone().inner());
        let pass = Pass { seed: noise.map(|noise| noise.seed), ..Pass::default() };
        let [rows, width] = batch.ids.dims();
        let last = texts.iter().enumerate().map(|(i, text)| (i * width + text.len() - 1) as i32);
        let last = TensorData::new(last.collect::<Vec<_>>(), [rows]);
        let last = Tensor::<1, Int>::from_data(last, &batch.ids.device());
        let hidden = self.decoder.hidden_at(&batch, &last, &pass).cast(DType::F32);
        let mut dropout = noise.and_then(|noise| noise.of_activations());
        self.head.forward(drop_out(&mut dropout, hidden))
    }
}

/// The head with its base's tokenizer.
#[derive(Clone)]
pub struct DecoderClassifier {
    /// The base with the adapter.
    pub language: LanguageModel,
    /// The same with the head.
    pub network: DecoderHead,
    /// Longest text in tokens.
    pub max_length: usize,
}

impl std::fmt::Debug for DecoderClassifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DecoderClassifier")
            .field("base", &self.language.path)
            .finish_non_exhaustive()
    }
}

impl DecoderClassifier {
    /// A fresh adapter and head on the base that `config` names.
    ///
    /// # Errors
    /// A base that cannot be loaded, or an adapter that does not fit it.
    pub fn new(
        config: &DecoderConfig,
        n_outputs: usize,
        seed: Seed,
        device: &Device,
    ) -> Result<Self> {
        let language = LanguageModel::load(Path::new(&config.model), None, device)?;
        let language = language.add_adapter(&config.lora, seed)?;
        Ok(Self::with_head(language, n_outputs, config.max_length, seed, device))
    }

    fn with_head(
        language: LanguageModel,
        n_outputs: usize,
        max_length: usize,
        seed: Seed,
        device: &Device,
    ) -> Self {
        let head = Init { seed, device }.linear("head", language.spec.hidden_size, n_outputs);
        let (decoder, pad) = (language.decoder.clone(), language.tokenizer.pad());
        Self { network: DecoderHead { decoder, head, pad }, language, max_length }
    }

    /// The classifier with these weights after training.
    pub fn trained(mut self, network: DecoderHead) -> Self {
        self.language.decoder = network.decoder.clone();
        self.network = network;
        self
    }

    /// What `config.json` says.
    pub fn base(&self) -> DecoderBase {
        DecoderBase { model: self.language.path.display().to_string(), max_length: self.max_length }
    }

    /// Token ids of a text, and whether its end is missing.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn encode(&self, text: &str) -> Result<(Vec<u32>, bool)> {
        let tokenizer = &self.language.tokenizer;
        let mut ids: Vec<u32> =
            tokenizer.bos().into_iter().chain(tokenizer.encode(text)?).collect();
        let truncated = ids.len() > self.max_length;
        ids.truncate(self.max_length);
        Ok((ids, truncated))
    }

    /// Writes the adapter and the head into a classifier's folder.
    ///
    /// # Errors
    /// When a weight cannot be read or a file cannot be written.
    pub(crate) fn save(&self, dir: &Path) -> Result<()> {
        self.language.save_adapter(&dir.join(ADAPTER))?;
        Ok(atomic::write(&dir.join(HEAD), &weights::to_bytes(&self.network.head)?)?)
    }

    /// Reads what [`DecoderClassifier::save`] wrote, on the base.
    ///
    /// # Errors
    /// A base that is not there or not the one trained on, a file that is missing or damaged.
    pub(crate) fn load(
        dir: &Path,
        base: &DecoderBase,
        n_outputs: usize,
        device: &Device,
    ) -> Result<Self> {
        let adapter = dir.join(ADAPTER);
        let language = LanguageModel::load(Path::new(&base.model), Some(&adapter), device)?;
        let new = Self::with_head(language, n_outputs, base.max_length, Seed(0), device);
        let path = dir.join(HEAD);
        let bytes = std::fs::read(&path).map_err(cai_data::Error::read(&path))?;
        let head = weights::from_bytes(&bytes, new.network.head.clone())
            .map_err(|problem| Error::Checkpoint { path, problem })?;
        let network = DecoderHead { head, ..new.network.clone() };
        Ok(new.trained(network))
    }

    /// The files of a folder that decide what it answers.
    pub(crate) fn files() -> [String; 3] {
        let adapter = |file: &str| format!("{ADAPTER}/{file}");
        [HEAD.into(), adapter("adapter_config.json"), adapter("adapter_model.safetensors")]
    }
}

impl TextModel for DecoderClassifier {
    fn scores(&self, texts: &Texts) -> Result<Scores> {
        let encoded: Vec<(Vec<u32>, bool)> =
            texts.prepared.iter().map(|text| self.encode(text)).collect::<Result<_>>()?;
        let ids: Vec<&[u32]> = encoded.iter().map(|(ids, _)| ids.as_slice()).collect();
        let rows = network::logits(&self.network, &ids)?;
        Ok(Scores { rows, truncated: encoded.iter().map(|(_, truncated)| *truncated).collect() })
    }
}
