//! Random Gemmas, and token sequences for them.

use anyhow::{Result, anyhow};
use cai_model::{
    gemma::{Gemma, GemmaConfig, RandomInit},
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

/// The sizes of a Gemma that the benches vary; the others are those of the mini model.
#[derive(Clone, Copy, Debug)]
pub struct GemmaShape {
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Decoder layers.
    pub layers: usize,
}

impl GemmaShape {
    /// Hidden 256, 6 layers, 4 heads of 64, 1 key/value head, MLP 1024, vocabulary 4096.
    pub const MINI: Self = Self { vocab_size: 4096, layers: 6 };

    /// # Errors
    ///
    /// When the config is refused, which names the key.
    pub fn config(self) -> Result<GemmaConfig> {
        let config = json!({
            "model_type": "gemma",
            "vocab_size": self.vocab_size,
            "hidden_size": 256,
            "intermediate_size": 1024,
            "num_hidden_layers": self.layers,
            "num_attention_heads": 4,
            "num_key_value_heads": 1,
            "head_dim": 64,
            "max_position_embeddings": 1024,
            "hidden_act": "gelu_pytorch_tanh",
        });
        GemmaConfig::from_json(config).map_err(|reason| anyhow!("the benches' config: {reason}"))
    }

    /// A model of this shape with random weights.
    ///
    /// # Errors
    ///
    /// Those of [`GemmaShape::config`].
    pub fn gemma(self) -> Result<Gemma> {
        let mut source = RandomInit { seed: SEED, std: 0.02, device: device() };
        Ok(Gemma::load(&self.config()?, &mut source)?)
    }
}

/// A model of random weights with a tokenizer, in memory only.
///
/// # Errors
///
/// Those of the config, and of writing the tokenizer to a temporary folder.
pub fn language_model(shape: GemmaShape) -> Result<LanguageModel> {
    let dir = tempfile::tempdir()?;
    train_bpe(texts(50, 50).into_iter(), TOKENIZER_SIZE, GEMMA_CHAT_TEMPLATE, dir.path())?;
    Ok(LanguageModel {
        gemma: shape.gemma()?,
        config: shape.config()?,
        tokenizer: ChatTokenizer::from_dir(dir.path())?,
        device: device(),
        fingerprint: "random".into(),
        base_fingerprint: "random".into(),
        dir: dir.path().into(),
        bits: None,
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
