//! Batched generation with a KV cache.

mod batch;
mod sampling;

pub use batch::generate;
pub use sampling::SamplingConfig;

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Finish {
    /// The model ended its turn.
    Stop,
    /// It reached the largest number of tokens.
    Length,
}

/// What the model said to one prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Generation {
    /// The tokens as text, without special tokens.
    pub text: String,
    /// New tokens, the stop token not included.
    pub ids: Vec<u32>,
    /// `log p` of the new tokens (and the stop token) under the model at temperature 1.
    pub logprob: f64,
    /// Why it ended.
    pub finish: Finish,
}
