//! Conversations as token sequences.

use std::collections::BTreeMap;

use cai_data::{hash, record::Conversation, seed::Seed, split};
use cai_model::tokenizer::{ChatTokenizer, Example};

use crate::{Error, Result, SftConfig};

/// What is trained on, what is held out, and what was left out.
#[derive(Clone, Debug, Default)]
pub struct Prepared {
    /// Training examples.
    pub train: Vec<Example>,
    /// How much the tokens of each training example count (`weight` of the record, 1 without).
    pub weights: Vec<f64>,
    /// Held-out examples.
    pub held_out: Vec<Example>,
    /// Records read.
    pub total: usize,
    /// Records left out, by reason.
    pub left_out: BTreeMap<String, usize>,
    /// Records that lost their end to `max_length`.
    pub truncated: usize,
}

impl Prepared {
    /// Names the examples by content (sha256).
    pub fn fingerprint(&self) -> String {
        let mut bytes = Vec::new();
        bytes.extend(self.weights.iter().flat_map(|weight| weight.to_le_bytes()));
        for example in self.train.iter().chain(&self.held_out) {
            bytes.extend(example.ids.iter().flat_map(|id| id.to_le_bytes()));
            bytes.extend(example.trained.iter().map(|&t| t as u8));
            bytes.push(0xff);
        }
        hash::bytes(&bytes)
    }
}

/// Tokenizes conversations and splits off the held-out share, by hash of the prompt, so that the
/// same prompt never stands on both sides.
///
/// Left out and counted: `prompt_too_long` (no trained token within `max_length`),
/// `nothing_to_train` (no trained token at all), `zero_weight`, `template_refused`.
///
/// # Errors
///
/// [`Error::NothingLeft`] when no training example remains, [`Error::Weight`] for a weight that is
/// none.
pub fn prepare(
    tokenizer: &ChatTokenizer,
    conversations: &[Conversation],
    config: &SftConfig,
) -> Result<Prepared> {
    let seed = Seed(config.train.seed).derive("held_out");
    let mut prepared = Prepared { total: conversations.len(), ..Prepared::default() };
    for (i, conversation) in conversations.iter().enumerate() {
        let weight = weight(conversation, i + 1)?;
        let example = match weight {
            0.0 => Err("zero_weight"),
            _ => example(tokenizer, conversation, config),
        };
        match example {
            Ok((example, truncated)) => {
                prepared.truncated += truncated as usize;
                // All but the last turn: what the model is asked.
                let prompt = conversation.messages.split_last().map_or(&[][..], |(_, p)| p);
                if split::held_out(&split::prompt_key(prompt), config.held_out, seed) {
                    prepared.held_out.push(example);
                } else {
                    prepared.train.push(example);
                    prepared.weights.push(weight);
                }
            }
            Err(reason) => *prepared.left_out.entry(reason.into()).or_default() += 1,
        }
    }
    if prepared.train.is_empty() {
        let counts: Vec<String> =
            prepared.left_out.iter().map(|(reason, n)| format!("{n} {reason}")).collect();
        let counts = format!("{} records, {}", prepared.total, counts.join(", "));
        return Err(Error::NothingLeft { counts });
    }
    Ok(prepared)
}

/// How much a record counts: its `weight`, 1 without.
fn weight(conversation: &Conversation, number: usize) -> Result<f64> {
    let Some(value) = conversation.extra.get("weight").filter(|value| !value.is_null()) else {
        return Ok(1.0);
    };
    let weight = value.as_f64().filter(|weight| weight.is_finite() && *weight >= 0.0);
    weight.ok_or_else(|| Error::Weight { number, value: value.to_string() })
}

fn example(
    tokenizer: &ChatTokenizer,
    conversation: &Conversation,
    config: &SftConfig,
) -> std::result::Result<(Example, bool), &'static str> {
    let mut example = tokenizer
        .conversation(&conversation.messages, config.turns.into())
        .map_err(|_| "template_refused")?;
    let first = example.prompt_length();
    if first == example.ids.len() {
        return Err("nothing_to_train");
    }
    if first >= config.max_length {
        return Err("prompt_too_long");
    }
    let truncated = example.truncate(config.max_length);
    Ok((example, truncated))
}
