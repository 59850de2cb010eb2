use cai_data::seed::Seed;
use serde::{Deserialize, Serialize};

use super::SamplingConfig;
use crate::{Error, Result, decoder::DecoderSpec};

/// A prompt to continue.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Token ids, with what the tokenizer puts before a text.
    pub prompt: Vec<u32>,
    /// How tokens are chosen and when to end.
    pub sampling: SamplingConfig,
    /// One sample for each; a sample's seed alone decides its draws. The prompt is read once.
    pub seeds: Vec<Seed>,
}

impl Request {
    /// Whether a model with rows of `max_length` tokens can serve it.
    pub(super) fn check(&self, spec: &DecoderSpec, max_length: usize) -> Result<()> {
        self.sampling.check()?;
        if self.prompt.is_empty() {
            return Err(Error::Input("the prompt has no tokens; give at least one".into()));
        }
        if self.seeds.is_empty() {
            return Err(Error::Input("no seed; give one for each sample".into()));
        }
        let vocabulary = spec.vocab_size;
        if let Some(id) = self.prompt.iter().find(|&&id| id as usize >= vocabulary) {
            return Err(Error::Input(format!(
                "the prompt holds token {id}, but the model has {vocabulary} tokens; prompt and \
                 model do not belong together"
            )));
        }
        let context = spec.max_position_embeddings;
        let (room, place) = match max_length < context {
            true => (max_length, "the engine's max_length"),
            false => (context, "the model's context"),
        };
        let (tokens, new) = (self.prompt.len(), self.sampling.max_new_tokens);
        if tokens.saturating_add(new) > room {
            return Err(Error::Input(format!(
                "{tokens} prompt tokens and max_new_tokens {new} are more than {place}, {room}; \
                 shorten the prompt or lower max_new_tokens"
            )));
        }
        Ok(())
    }
}

/// Names a request to its [`Engine`](super::Engine).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub(super) u64);

/// How much an engine does at once.
///
/// The cache takes `2 · layers · kv_heads · head_dim · max_batch_size · max_length` numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Sequences that are generated together.
    pub max_batch_size: usize,
    /// Tokens of a prompt and its longest answer together.
    pub max_length: usize,
    /// Prompt tokens, pads included, that go through the model at once: what bounds the time until
    /// sequences under way get their next token. A longer prompt is read in pieces.
    pub max_prefill_tokens: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_batch_size: 32, max_length: 1024, max_prefill_tokens: 4096 }
    }
}

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// By a stop token: the model ended its turn.
    Stop,
    /// By a stop string: one of the request's, or of a chat template that ends turns by text.
    StopString,
    /// It reached the largest number of tokens.
    Length,
}

/// What the model said to one prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Generation {
    /// The tokens as text, without special tokens, up to the stop string if one ended it. A
    /// character that the end cut in half is left out.
    pub text: String,
    /// New tokens, the stop token not included, those of a stop string included.
    pub ids: Vec<u32>,
    /// `log p` of the new tokens (and the stop token) under the model itself: at temperature 1,
    /// before penalty and filters.
    pub logprob: f64,
    /// The terms of `logprob`: one for each of `ids`, and one for the stop token if one ended it.
    pub token_logprobs: Vec<f32>,
    /// For each term the `logprobs` most likely tokens with theirs, if the request asked for them.
    pub top_logprobs: Vec<Vec<(u32, f32)>>,
    /// Why it ended.
    pub finish: Finish,
}

/// What one step of an engine brought. The texts of a sample's events, put together, are its
/// generation's text.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A sample has one more token.
    Token {
        /// Whose it is.
        request: RequestId,
        /// Which of the request's samples.
        sample: usize,
        /// The token.
        token: u32,
        /// Text that is certain now: whole characters, nothing that may begin a stop string. Often
        /// empty.
        text: String,
        /// `log p` of the token under the model itself.
        logprob: f32,
        /// The most likely tokens with theirs, if the request asked for them.
        top: Vec<(u32, f32)>,
    },
    /// A sample has ended; its other tokens were told before.
    Finished {
        /// Whose it is.
        request: RequestId,
        /// Which of the request's samples.
        sample: usize,
        /// Text that had been held back.
        text: String,
        /// All of it.
        generation: Generation,
    },
}

impl Event {
    /// The request that it is about.
    pub fn request(&self) -> RequestId {
        match self {
            Event::Token { request, .. } | Event::Finished { request, .. } => *request,
        }
    }
}
