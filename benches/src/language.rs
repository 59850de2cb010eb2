//! Random Gemmas, and token sequences for them.

use std::path::Path;

use anyhow::{Result, anyhow};
use cai_model::{
    decoder::{Decoder, DecoderSpec, RandomInit},
    model::LanguageModel,
    tokenizer::{ChatTokenizer, Example, GEMMA_CHAT_TEMPLATE, train_bpe},
};
use dpo_trainer::Pair;
use rand::RngExt;
use serde_json::json;

use crate::{SEED, device, texts};

/// Ids below are special tokens of the tokenizer.
const FIRST_TEXT_ID: u32 = 7;
/// Tokens of the tokenizer: a small one, because no bench reads text that matters. The model's
/// vocabulary may be wider.
const TOKENIZER_SIZE: usize = 512;

/// Shape of a Gemma, and of its batches.
#[derive(Clone, Copy, Debug)]
pub struct GemmaShape {
    /// Width of the residual stream.
    pub hidden: usize,
    /// Decoder layers.
    pub layers: usize,
    /// Query heads; one key/value head.
    pub heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Width of the MLP.
    pub mlp: usize,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Examples of a training step; pairs of one of DPO are as many.
    pub batch: usize,
    /// Tokens of an example, of which the second half is a completion.
    pub tokens: usize,
    /// Sequences that are generated together.
    pub generated: usize,
    /// Tokens of a prompt, and as many new ones.
    pub prompt: usize,
}

/// Names that [`GemmaShape::preset`] knows.
pub const PRESETS: [&str; 5] = ["mini-gemma", "mini", "small", "gemma-2b", "gemma-2b-8x1024"];

impl GemmaShape {
    /// A small model.
    pub const MINI: Self = Self {
        hidden: 256,
        layers: 6,
        heads: 4,
        head_dim: 64,
        mlp: 1024,
        vocab_size: 4096,
        batch: 8,
        tokens: 256,
        generated: 8,
        prompt: 128,
    };

    /// The shape with this name.
    pub fn preset(name: &str) -> Option<Self> {
        let mini = Self::MINI;
        Some(match name {
            "mini-gemma" => Self { hidden: 192, head_dim: 48, mlp: 768, vocab_size: 2048, ..mini },
            "mini" => mini,
            "small" => Self {
                hidden: 640,
                layers: 12,
                head_dim: 256,
                mlp: 2048,
                vocab_size: 32_768,
                batch: 4,
                generated: 4,
                ..mini
            },
            "gemma-2b" => Self {
                hidden: 2048,
                layers: 18,
                heads: 8,
                head_dim: 256,
                mlp: 16_384,
                vocab_size: 256_000,
                batch: 1,
                generated: 1,
                prompt: 32,
                ..mini
            },
            // For a GPU.
            "gemma-2b-8x1024" => Self {
                batch: 8,
                tokens: 1024,
                generated: 32,
                prompt: 128,
                ..Self::preset("gemma-2b")?
            },
            _ => return None,
        })
    }

    /// # Errors
    ///
    /// When the config is refused, which names the key.
    pub fn config(self) -> Result<DecoderSpec> {
        let config = json!({
            "architectures": ["GemmaForCausalLM"],
            "model_type": "gemma",
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden,
            "intermediate_size": self.mlp,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": 1,
            "head_dim": self.head_dim,
            "max_position_embeddings": 8192,
            "hidden_act": "gelu_pytorch_tanh",
            "hidden_activation": "gelu_pytorch_tanh",
            "tie_word_embeddings": true,
            "pad_token_id": 0,
            "eos_token_id": 1,
            "bos_token_id": 2,
        });
        DecoderSpec::from_json(config).map_err(|reason| anyhow!("the benches' config: {reason}"))
    }

    /// A model of this shape with random weights.
    ///
    /// # Errors
    ///
    /// Those of [`GemmaShape::config`].
    pub fn decoder(self) -> Result<Decoder> {
        let mut source = RandomInit { seed: SEED, std: 0.02, device: device() };
        Ok(Decoder::load(&self.config()?, &mut source)?)
    }

    /// Weights of the matrices of all layers.
    pub fn layer_weights(self) -> usize {
        let attention = 2 * self.hidden * (self.heads + 1) * self.head_dim;
        self.layers * (attention + 3 * self.hidden * self.mlp)
    }

    /// Weights of the head, which is the embedding.
    pub fn head_weights(self) -> usize {
        self.vocab_size * self.hidden
    }
}

/// Writes a tokenizer of a few hundred tokens to `dir`.
///
/// # Errors
///
/// Those of writing it.
pub fn write_tokenizer(dir: &Path) -> Result<()> {
    Ok(train_bpe(texts(50, 50).into_iter(), TOKENIZER_SIZE, GEMMA_CHAT_TEMPLATE, dir)?)
}

/// A model of random weights with a tokenizer, in memory only.
///
/// # Errors
///
/// Those of the config, and of writing the tokenizer to a temporary folder.
pub fn language_model(shape: GemmaShape) -> Result<LanguageModel> {
    let dir = tempfile::tempdir()?;
    write_tokenizer(dir.path())?;
    Ok(LanguageModel {
        decoder: shape.decoder()?,
        spec: shape.config()?,
        tokenizer: ChatTokenizer::from_dir(dir.path())?,
        device: device(),
        fingerprint: "random".into(),
        base_fingerprint: "random".into(),
        path: dir.path().into(),
        quantize: None,
        chat_template: None,
        adapter: None,
    })
}

/// `count` examples of exactly `tokens` random ids, of which the second half is trained: no padding.
pub fn examples(count: usize, tokens: usize, vocab_size: usize) -> Vec<Example> {
    let prompt = tokens / 2;
    let trained: Vec<bool> = (0..tokens).map(|t| t >= prompt).collect();
    let example = |ids| Example { ids, trained: trained.clone() };
    prompts(count, tokens, vocab_size).into_iter().map(example).collect()
}

/// `count` preference pairs whose completions are the second halves of `tokens` random ids each.
pub fn pairs(count: usize, tokens: usize, vocab_size: usize) -> Vec<Pair> {
    let mut rejected = examples(2 * count, tokens, vocab_size);
    let chosen = rejected.split_off(count);
    let pair = |(chosen, mut rejected): (Example, Example)| {
        rejected.ids[..tokens / 2].copy_from_slice(&chosen.ids[..tokens / 2]);
        Pair {
            chosen,
            rejected,
            chosen_probability: 1.0,
            weight: 1.0,
            mismatched: None,
            source: None,
        }
    };
    chosen.into_iter().zip(rejected).map(pair).collect()
}

/// `count` sequences of `tokens` random ids that are no special tokens.
pub fn prompts(count: usize, tokens: usize, vocab_size: usize) -> Vec<Vec<u32>> {
    let mut rng = SEED.derive("prompts").rng();
    let mut prompt =
        || (0..tokens).map(|_| rng.random_range(FIRST_TEXT_ID..vocab_size as u32)).collect();
    (0..count).map(|_| prompt()).collect()
}
