use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// How the next token is chosen, and when to end. The names, and the order of what is done to the
/// logits, are those of transformers: repetition penalty, temperature, top-k, top-p, min-p.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SamplingConfig {
    /// Tokens at most.
    pub max_new_tokens: usize,
    /// Logits are divided by this; 0 takes the most likely token.
    pub temperature: f64,
    /// Only the k most likely tokens, and those as likely as the last of them (Fan et al., arXiv
    /// 1805.04833, section 5.4).
    pub top_k: Option<usize>,
    /// Only the most likely tokens whose probabilities add up to this (nucleus sampling, Holtzman et
    /// al., arXiv 1904.09751, section 3.1).
    pub top_p: Option<f64>,
    /// Only tokens at least this share as likely as the most likely one (Nguyen et al., arXiv
    /// 2407.01082, section 3).
    pub min_p: Option<f64>,
    /// Logits of tokens that prompt or answer already hold are divided by this, negative ones
    /// multiplied; 1 changes nothing (Keskar et al., arXiv 1909.05858, section 4.1).
    pub repetition_penalty: f64,
    /// Texts that end the answer; they are not part of it.
    pub stop: Vec<String>,
    /// Tokens that end the answer, besides the model's own (end of turn, end of text).
    pub stop_token_ids: Vec<u32>,
    /// How many of the most likely tokens to tell at each step, with their log-probabilities.
    pub logprobs: Option<usize>,
}

impl Default for SamplingConfig {
    fn default() -> Self {
        Self {
            max_new_tokens: 256,
            temperature: 1.0,
            top_k: None,
            top_p: None,
            min_p: None,
            repetition_penalty: 1.0,
            stop: Vec::new(),
            stop_token_ids: Vec::new(),
            logprobs: None,
        }
    }
}

impl SamplingConfig {
    /// The most likely token at every step.
    pub fn greedy(max_new_tokens: usize) -> Self {
        Self { max_new_tokens, temperature: 0.0, ..Self::default() }
    }

    /// # Errors
    ///
    /// [`Error::Input`] for a setting out of its range.
    pub fn check(&self) -> Result<()> {
        let share = |p: f64| p > 0.0 && p <= 1.0;
        let fail = |what: &str| Err(Error::Input(what.into()));
        match self {
            _ if self.max_new_tokens == 0 => fail("max_new_tokens must be at least 1"),
            _ if !(self.temperature >= 0.0 && self.temperature.is_finite()) => {
                fail("temperature must be 0 (the most likely token) or above")
            }
            _ if self.top_k == Some(0) => fail("top_k must be at least 1"),
            _ if self.top_p.is_some_and(|p| !share(p)) => {
                fail("top_p must be above 0 and at most 1")
            }
            _ if self.min_p.is_some_and(|p| !(0.0..=1.0).contains(&p)) => {
                fail("min_p must be from 0 to 1")
            }
            _ if !(self.repetition_penalty > 0.0 && self.repetition_penalty.is_finite()) => {
                fail("repetition_penalty must be above 0; 1 changes nothing")
            }
            _ if self.stop.iter().any(String::is_empty) => {
                fail("stop must not hold an empty text, with which every answer would end")
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_out_of_range_are_named() {
        let default = SamplingConfig::default;
        for (config, key) in [
            (SamplingConfig { max_new_tokens: 0, ..default() }, "max_new_tokens"),
            (SamplingConfig { temperature: f64::NAN, ..default() }, "temperature"),
            (SamplingConfig { temperature: -0.5, ..default() }, "temperature"),
            (SamplingConfig { top_k: Some(0), ..default() }, "top_k"),
            (SamplingConfig { top_p: Some(0.0), ..default() }, "top_p"),
            (SamplingConfig { min_p: Some(1.5), ..default() }, "min_p"),
            (SamplingConfig { repetition_penalty: 0.0, ..default() }, "repetition_penalty"),
            (SamplingConfig { stop: vec![String::new()], ..default() }, "stop"),
        ] {
            assert!(config.check().unwrap_err().to_string().starts_with(key), "{key}");
        }
        default().check().unwrap();
        assert!(serde_json::from_str::<SamplingConfig>(r#"{"topk": 3}"#).is_err());
    }
}
