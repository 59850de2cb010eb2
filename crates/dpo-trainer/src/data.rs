//! Preference pairs as token sequences.

use std::collections::BTreeMap;

use cai_data::{
    hash,
    record::{Message, PreferencePair},
    seed::Seed,
    split,
};
use cai_model::tokenizer::{ChatTokenizer, Example};
use serde_json::Value;

use crate::{DpoConfig, Error, PairObjective, Result};

/// A tokenized pair.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    /// Prompt and chosen completion, of which the completion is trained.
    pub chosen: Example,
    /// Prompt and rejected completion.
    pub rejected: Example,
    /// Probability that `chosen` is the better one.
    pub chosen_probability: f64,
    /// What the pair's loss is multiplied by in training.
    pub weight: f64,
    /// The pair's prompt with a completion of another pair, for KTO's estimate of the divergence.
    pub mismatched: Option<Example>,
    /// Where the pair comes from (`source` of the record), for metrics by source.
    pub source: Option<String>,
}

/// What is trained on, what is held out, and what was left out.
#[derive(Clone, Debug, Default)]
pub struct Prepared {
    /// Training pairs.
    pub train: Vec<Pair>,
    /// Held-out pairs.
    pub held_out: Vec<Pair>,
    /// Records read.
    pub total: usize,
    /// Records left out, by reason.
    pub left_out: BTreeMap<String, usize>,
    /// Pairs of which a completion lost its end to `max_length`.
    pub truncated: usize,
}

impl Prepared {
    /// Names the pairs by content (sha256).
    pub fn fingerprint(&self) -> String {
        let mut bytes = Vec::new();
        for side in [&self.train, &self.held_out] {
            bytes.extend(side.len().to_le_bytes());
            for pair in side {
                for example in [&pair.chosen, &pair.rejected] {
                    bytes.extend(example.ids.len().to_le_bytes());
                    bytes.extend(example.ids.iter().flat_map(|id| id.to_le_bytes()));
                    bytes.extend(example.trained.iter().map(|&t| t as u8));
                }
                bytes.extend(pair.chosen_probability.to_le_bytes());
                bytes.extend(pair.weight.to_le_bytes());
                bytes.extend(pair.source.iter().flat_map(|source| source.bytes()));
                // No text holds this byte.
                bytes.push(0xff);
            }
        }
        hash::bytes(&bytes)
    }
}

/// Tokenizes pairs and splits off the held-out share, by hash of the prompt, so that the same
/// prompt never stands on both sides.
///
/// Left out and counted: `low_confidence` (below `min_confidence`), `zero_weight`,
/// `template_refused`, `prompt_too_long` (no token of a completion within `max_length`),
/// `identical_replies` and `identical_after_truncation` (nothing to prefer).
///
/// # Errors
///
/// [`Error::NothingLeft`] when no training pair remains, [`Error::Pair`] for a probability or
/// weight that is none, and those of the tokenizer.
pub fn prepare(
    tokenizer: &ChatTokenizer,
    pairs: &[PreferencePair],
    config: &DpoConfig,
) -> Result<Prepared> {
    let seed = Seed(config.train.seed).derive("held_out");
    let mut prepared = Prepared { total: pairs.len(), ..Prepared::default() };
    for (i, pair) in pairs.iter().enumerate() {
        check(pair, i + 1)?;
        match tokenized(tokenizer, pair, config)? {
            Ok((tokenized, truncated)) => {
                prepared.truncated += truncated as usize;
                if split::held_out(&split::prompt_key(&pair.prompt), config.held_out, seed) {
                    prepared.held_out.push(tokenized);
                } else {
                    prepared.train.push(tokenized);
                }
            }
            Err(reason) => *prepared.left_out.entry(reason.into()).or_default() += 1,
        }
    }
    if config.objective == PairObjective::Kto {
        add_mismatched(&mut prepared.train, config.max_length);
        add_mismatched(&mut prepared.held_out, config.max_length);
    }
    if prepared.train.is_empty() {
        let mut counts = vec![format!("{} records", prepared.total)];
        counts.extend(prepared.left_out.iter().map(|(reason, n)| format!("{n} {reason}")));
        counts.push(format!("{} held out", prepared.held_out.len()));
        return Err(Error::NothingLeft { counts: counts.join(", ") });
    }
    Ok(prepared)
}

fn check(pair: &PreferencePair, number: usize) -> Result<()> {
    let probability = pair.chosen_probability.unwrap_or(1.0);
    if !(0.0..=1.0).contains(&probability) {
        let (key, wanted) = ("chosen_probability", "a number from 0 to 1");
        return Err(Error::Pair { number, key, value: probability, wanted });
    }
    let weight = pair.weight.unwrap_or(1.0);
    if !(weight.is_finite() && weight >= 0.0) {
        let (key, wanted) = ("weight", "a number of 0 or more");
        return Err(Error::Pair { number, key, value: weight, wanted });
    }
    Ok(())
}

/// The pair and whether it was truncated, or the reason to leave it out.
type Outcome = std::result::Result<(Pair, bool), &'static str>;

fn tokenized(
    tokenizer: &ChatTokenizer,
    pair: &PreferencePair,
    config: &DpoConfig,
) -> Result<Outcome> {
    let unsure = |p: f64| (p - 0.5).abs() < config.min_confidence;
    if pair.chosen_probability.is_some_and(unsure) {
        return Ok(Err("low_confidence"));
    }
    let weight = pair.weight.unwrap_or(1.0);
    if weight == 0.0 {
        return Ok(Err("zero_weight"));
    }
    let side = |completion: &[Message]| match tokenizer.completion(&pair.prompt, completion) {
        Ok(example) => Ok(Some(example)),
        Err(cai_model::Error::Template { .. }) => Ok(None),
        Err(error) => Err(error),
    };
    let (Some(mut chosen), Some(mut rejected)) = (side(&pair.chosen)?, side(&pair.rejected)?)
    else {
        return Ok(Err("template_refused"));
    };
    if chosen.ids == rejected.ids {
        return Ok(Err("identical_replies"));
    }
    let max_length = config.max_length;
    let truncated = chosen.truncate(max_length) | rejected.truncate(max_length);
    if !(chosen.trained.contains(&true) && rejected.trained.contains(&true)) {
        return Ok(Err("prompt_too_long"));
    }
    if chosen.ids == rejected.ids {
        return Ok(Err("identical_after_truncation"));
    }
    let chosen_probability = match config.soft_labels {
        true => pair.chosen_probability.unwrap_or(1.0),
        false => 1.0,
    };
    let source = pair.extra.get("source").and_then(Value::as_str).map(String::from);
    Ok(Ok((
        Pair { chosen, rejected, chosen_probability, weight, mismatched: None, source },
        truncated,
    )))
}

/// Gives each prompt a completion of the next pair, by turns a chosen and a rejected one, so that
/// both kinds are in the estimate, as in TRL, which moves the completions on by one.
fn add_mismatched(pairs: &mut [Pair], max_length: usize) {
    for i in 0..pairs.len() {
        let other = &pairs[(i + 1) % pairs.len()];
        let completion = if i % 2 == 0 { &other.chosen } else { &other.rejected };
        let tail = &completion.ids[completion.prompt_length()..];
        let prompt = &pairs[i].chosen.ids[..pairs[i].chosen.prompt_length()];
        let mut trained = vec![false; prompt.len()];
        trained.resize(prompt.len() + tail.len(), true);
        let mut example = Example { ids: [prompt, tail].concat(), trained };
        example.truncate(max_length);
        pairs[i].mismatched = Some(example);
    }
}
