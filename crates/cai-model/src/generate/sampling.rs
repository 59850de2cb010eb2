use rand::RngExt;
use serde::{Deserialize, Serialize};

use cai_data::seed::Seed;

use crate::{Error, Result};

/// How the next token is chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SamplingConfig {
    /// Tokens at most.
    pub max_new_tokens: usize,
    /// Logits are divided by this; 0 takes the most likely token.
    pub temperature: f64,
    /// Only the k most likely tokens.
    pub top_k: Option<usize>,
    /// Only the most likely tokens whose probabilities add up to this.
    pub top_p: Option<f64>,
}

impl Default for SamplingConfig {
    fn default() -> Self {
        Self { max_new_tokens: 256, temperature: 1.0, top_k: None, top_p: None }
    }
}

impl SamplingConfig {
    /// The most likely token at every step.
    pub fn greedy(max_new_tokens: usize) -> Self {
        Self { max_new_tokens, temperature: 0.0, top_k: None, top_p: None }
    }

    /// # Errors
    ///
    /// [`Error::Input`] for a setting out of its range.
    pub fn check(&self) -> Result<()> {
        let fail = |what: &str| Err(Error::Input(what.into()));
        match self {
            _ if self.max_new_tokens == 0 => fail("max_new_tokens must be at least 1"),
            _ if self.temperature.is_nan() || self.temperature < 0.0 => {
                fail("temperature must be 0 or more")
            }
            _ if self.top_k == Some(0) => fail("top_k must be at least 1"),
            _ if self.top_p.is_some_and(|p| !(p > 0.0 && p <= 1.0)) => {
                fail("top_p must be above 0 and at most 1")
            }
            _ => Ok(()),
        }
    }
}

/// A chosen token and its log-probability at temperature 1.
pub(super) struct Choice {
    pub(super) token: u32,
    pub(super) logprob: f64,
}

/// Chooses from one row of logits. Ties go to the smaller token id, as in torch's argmax.
pub(super) fn choose(logits: &[f32], sampling: &SamplingConfig, seed: Seed) -> Choice {
    let best = argmax(logits);
    let highest = logits[best] as f64;
    let normaliser: f64 = logits.iter().map(|&l| (l as f64 - highest).exp()).sum();
    let token = match sampling.temperature {
        0.0 => best,
        temperature => draw(logits, highest, temperature, sampling, seed.rng().random()),
    };
    Choice { token: token as u32, logprob: logits[token] as f64 - highest - normaliser.ln() }
}

fn argmax(logits: &[f32]) -> usize {
    let better = |best: usize, i: usize| if logits[i] > logits[best] { i } else { best };
    (1..logits.len()).fold(0, better)
}

/// The token at point `u` in [0, 1) of the filtered distribution's cumulative sum.
fn draw(
    logits: &[f32],
    highest: f64,
    temperature: f64,
    sampling: &SamplingConfig,
    u: f64,
) -> usize {
    let weight = |i: usize| ((logits[i] as f64 - highest) / temperature).exp();
    let mut kept: Vec<usize> = (0..logits.len()).collect();
    if sampling.top_k.is_some() || sampling.top_p.is_some() {
        kept.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
        kept.truncate(sampling.top_k.unwrap_or(usize::MAX));
        if let Some(p) = sampling.top_p {
            let total: f64 = kept.iter().map(|&i| weight(i)).sum();
            let mut before = 0.0;
            // A token stays while the ones before it do not yet reach p.
            kept.retain(|&i| {
                let stays = before < p * total;
                before += weight(i);
                stays
            });
        }
    }
    let total: f64 = kept.iter().map(|&i| weight(i)).sum();
    let mut left = u * total;
    for &i in &kept {
        left -= weight(i);
        if left < 0.0 {
            return i;
        }
    }
    // Rounding can leave a hair above zero: the last token that has any weight.
    kept.iter().rev().copied().find(|&i| weight(i) > 0.0).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greedy_takes_the_first_of_equals() {
        let choice = choose(&[1.0, 3.0, 3.0], &SamplingConfig::greedy(1), Seed(0));
        assert_eq!(choice.token, 1);
        assert!((choice.logprob - (-(2.0 + (-2f64).exp()).ln())).abs() < 1e-9);
    }

    #[test]
    fn filters_leave_only_the_likely() {
        let logits = [0.0, 2.0, 1.0, -1.0];
        let top_k = SamplingConfig { top_k: Some(2), ..Default::default() };
        let top_p = SamplingConfig { top_p: Some(0.7), ..Default::default() };
        for i in 0..200 {
            let token = choose(&logits, &top_k, Seed(i)).token;
            assert!([1, 2].contains(&token));
            // p = 0.087, 0.644, 0.237, 0.032: 0.644 < 0.7, so the second stays too.
            assert!([1, 2].contains(&choose(&logits, &top_p, Seed(i)).token));
        }
    }

    #[test]
    fn draws_follow_the_distribution() {
        let logits = [0.0, (3f32).ln()];
        let config = SamplingConfig::default();
        let ones: u32 = (0..4000).map(|i| choose(&logits, &config, Seed(7).index(i)).token).sum();
        assert!((ones as f64 / 4000.0 - 0.75).abs() < 0.03, "{ones}");
    }
}
