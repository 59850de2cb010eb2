use std::{borrow::Cow, cmp::Ordering};

use cai_data::seed::Seed;
use rand::RngExt;

use super::SamplingConfig;
use crate::{Error, Result};

/// A chosen token and log-probabilities under the model itself: at temperature 1, before penalty
/// and filters.
pub(super) struct Choice {
    pub(super) token: u32,
    pub(super) logprob: f64,
    /// The most likely tokens, as many as asked for.
    pub(super) top: Vec<(u32, f32)>,
}

/// Chooses from one row of logits; `seen` is what prompt and answer hold already. Only the first
/// `tokens` are drawn, as many as the tokenizer has: further rows only fill the head up. At
/// temperature 0 the most likely row is taken, as by transformers; ties go to the smaller id, as in
/// torch's argmax.
///
/// # Errors
///
/// [`Error::Input`] for logits that are not finite.
pub(super) fn choose(
    logits: &[f32],
    tokens: usize,
    seen: [&[u32]; 2],
    sampling: &SamplingConfig,
    seed: Seed,
) -> Result<Choice> {
    let highest = highest(logits);
    let sum: f64 = logits.iter().map(|&l| (l - highest).exp() as f64).sum();
    let normaliser = highest as f64 + sum.ln();
    if !normaliser.is_finite() {
        let reason = "the model's logits are not finite; check its weights and adapter";
        return Err(Error::Input(reason.into()));
    }
    let logprob = |id: u32| logits[id as usize] as f64 - normaliser;

    let drawn = sampling.temperature > 0.0;
    let logits = if drawn { &logits[..tokens.min(logits.len())] } else { logits };
    let scores = penalised(logits, seen, sampling.repetition_penalty as f32);
    let token = match sampling.temperature {
        0.0 => first_of(&scores, self::highest(&scores)),
        _ => draw(&scores, sampling, seed.rng().random()),
    };
    let top = sampling.logprobs.unwrap_or(0);
    let mut likely: Vec<u32> = if top > 0 { all(logits) } else { Vec::new() };
    largest_first(&mut likely, logits, top);
    likely.truncate(top);
    let top = likely.into_iter().map(|id| (id, logprob(id) as f32)).collect();
    Ok(Choice { token, logprob: logprob(token), top })
}

fn all(scores: &[f32]) -> Vec<u32> {
    (0..scores.len() as u32).collect()
}

/// The largest number. In lanes, which the compiler turns into vector instructions.
fn highest(numbers: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let (chunks, rest) = numbers.as_chunks::<16>();
    let mut lanes = [f32::NEG_INFINITY; 16];
    for chunk in chunks {
        for (lane, &number) in lanes.iter_mut().zip(chunk) {
            *lane = larger(*lane, number);
        }
    }
    lanes.iter().chain(rest).copied().fold(f32::NEG_INFINITY, larger)
}

fn first_of(scores: &[f32], value: f32) -> u32 {
    scores.iter().position(|&s| s == value).unwrap_or(0) as u32
}

/// Logits of tokens that were seen, divided by the penalty, negative ones multiplied.
fn penalised<'a>(logits: &'a [f32], seen: [&[u32]; 2], penalty: f32) -> Cow<'a, [f32]> {
    if penalty == 1.0 {
        return Cow::Borrowed(logits);
    }
    let mut scores = logits.to_vec();
    for &id in seen.into_iter().flatten() {
        // From the logits, so that a token that was seen twice pays once.
        let logit = logits[id as usize];
        scores[id as usize] = if logit < 0.0 { logit * penalty } else { logit / penalty };
    }
    Cow::Owned(scores)
}

/// The token at point `u` in [0, 1) of the cumulative sum, by token id, of what the filters leave.
fn draw(scores: &[f32], sampling: &SamplingConfig, u: f64) -> u32 {
    let highest = highest(scores) as f64;
    let temperature = sampling.temperature;
    // Relative to the most likely token's.
    let weight = |&id: &u32| (((scores[id as usize] as f64 - highest) / temperature) as f32).exp();
    let kept = filtered(scores, sampling, weight);
    let weights: Vec<f32> = kept.iter().map(weight).collect();
    let mut left = u * weights.iter().map(|&w| w as f64).sum::<f64>();
    for (&id, &weight) in kept.iter().zip(&weights) {
        left -= weight as f64;
        if left < 0.0 {
            return id;
        }
    }
    // Rounding can leave a hair above zero: the last token that has any weight.
    let last = weights.iter().rposition(|&w| w > 0.0).unwrap_or(0);
    kept.get(last).copied().unwrap_or(0)
}

/// The tokens that top-k, top-p and min-p leave, one after the other, by id. At least one is left:
/// each filter keeps the most likely token.
fn filtered(
    scores: &[f32],
    sampling: &SamplingConfig,
    weight: impl Fn(&u32) -> f32 + Copy,
) -> Vec<u32> {
    let mut kept = all(scores);
    if let Some(k) = sampling.top_k.filter(|&k| k < scores.len()) {
        let mut sorted = scores.to_vec();
        let (_, &mut kth, _) = sorted.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
        kept.retain(|&id| scores[id as usize] >= kth);
    }
    if let Some(p) = sampling.top_p.filter(|&p| p < 1.0) {
        keep_nucleus(&mut kept, scores, weight, p);
        kept.sort_unstable();
    }
    if let Some(p) = sampling.min_p {
        kept.retain(|id| weight(id) as f64 >= p);
    }
    kept
}

/// Keeps a token while those that are more likely do not yet add up to the share `p`.
fn keep_nucleus(kept: &mut Vec<u32>, scores: &[f32], weight: impl Fn(&u32) -> f32, p: f64) {
    let mass = p * kept.iter().map(|id| weight(id) as f64).sum::<f64>();
    // Few tokens hold most of the mass: sort no more of them than needed.
    let mut sorted = 64;
    loop {
        largest_first(kept, scores, sorted);
        let mut before = 0.0;
        for (i, id) in kept.iter().take(sorted).enumerate() {
            if before >= mass {
                return kept.truncate(i);
            }
            before += weight(id) as f64;
        }
        if sorted >= kept.len() {
            return;
        }
        sorted *= 16;
    }
}

/// Brings the `count` ids of the largest scores to the front, in order.
fn largest_first(ids: &mut [u32], scores: &[f32], count: usize) {
    let order = |&a: &u32, &b: &u32| -> Ordering {
        scores[b as usize].total_cmp(&scores[a as usize]).then(a.cmp(&b))
    };
    let count = count.min(ids.len());
    if 0 < count && count < ids.len() {
        ids.select_nth_unstable_by(count - 1, order);
    }
    ids[..count].sort_unstable_by(order);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(logits: &[f32], sampling: &SamplingConfig, seed: u64) -> Choice {
        choose(logits, logits.len(), [&[], &[]], sampling, Seed(seed)).unwrap()
    }

    #[test]
    fn a_row_without_a_token_is_never_drawn() {
        let logits = [0.5, 0.0, 9.0, 9.0];
        let sampling = SamplingConfig { logprobs: Some(4), ..SamplingConfig::default() };
        for seed in 0..50 {
            let choice = choose(&logits, 2, [&[], &[]], &sampling, Seed(seed)).unwrap();
            assert!(choice.token < 2 && choice.top.len() == 2);
            // Its probability is the model's own all the same.
            assert!(choice.logprob < -8.0);
        }
    }

    #[test]
    fn greedy_takes_the_first_of_equals() {
        let sampling = SamplingConfig { logprobs: Some(2), ..SamplingConfig::greedy(1) };
        let choice = choice(&[1.0, 3.0, 3.0], &sampling, 0);
        let logprob = -(2.0 + (-2f64).exp()).ln();
        assert_eq!(choice.token, 1);
        assert!((choice.logprob - logprob).abs() < 1e-7);
        assert_eq!(choice.top, [(1, logprob as f32), (2, logprob as f32)]);
    }

    #[test]
    fn logits_that_are_not_finite_are_an_error() {
        for bad in [f32::NAN, f32::INFINITY] {
            let sampling = SamplingConfig::greedy(1);
            assert!(choose(&[0.0, bad, 1.0], 3, [&[], &[]], &sampling, Seed(0)).is_err());
        }
        // Some logits of minus infinity are fine: tokens that cannot follow.
        assert_eq!(choice(&[f32::NEG_INFINITY, 1.0], &SamplingConfig::default(), 3).token, 1);
    }

    #[test]
    fn draws_follow_the_distribution() {
        let logits = [0.0, (3f32).ln()];
        let config = SamplingConfig::default();
        let ones: u32 = (0..4000).map(|i| choice(&logits, &config, i).token).sum();
        assert!((ones as f64 / 4000.0 - 0.75).abs() < 0.03, "{ones}");
    }

    #[test]
    fn a_draw_is_the_token_at_its_point_of_the_sum() {
        // Shares 0.1, 0.2, 0.3, 0.4.
        let logits = [1f32.ln(), 2f32.ln(), 3f32.ln(), 4f32.ln()];
        let at = |u| draw(&logits, &SamplingConfig::default(), u);
        assert_eq!(
            [0.0, 0.09, 0.11, 0.29, 0.31, 0.59, 0.61, 0.999].map(at),
            [0, 0, 1, 1, 2, 2, 3, 3]
        );
    }

    #[test]
    fn a_large_nucleus_is_found_too() {
        // 5,000 tokens, the even ones twice as likely: 0.6 of the mass is 2,250 of the even ones.
        let logits: Vec<f32> =
            (0..5000).map(|i| if i % 2 == 0 { 2f32.ln() } else { 0.0 }).collect();
        let sampling = SamplingConfig { top_p: Some(0.6), ..Default::default() };
        let weight = |id: &u32| if id.is_multiple_of(2) { 1.0 } else { 0.5 };
        let kept = filtered(&logits, &sampling, weight);
        assert_eq!(kept, (0..2250).map(|i| 2 * i).collect::<Vec<_>>());
    }
    /// What `RepetitionPenaltyLogitsProcessor`, `TemperatureLogitsWarper`, `TopKLogitsWarper`,
    /// `TopPLogitsWarper` and `MinPLogitsWarper` of transformers 5.17, one after the other, leave of
    /// twelve logits: which tokens, and their probabilities.
    #[test]
    fn filters_leave_what_they_leave_in_transformers() {
        let logits = [1.5, -0.7, 3.2, 0.0, 2.9, -2.1, 3.2, 0.4, 1.1, -1.3, 2.2, 0.9];
        let seen: [&[u32]; 2] = [&[2, 4], &[1, 2]];
        let check = |settings: SamplingConfig, ids: &[u32], probabilities: &[f64]| {
            let scores = penalised(&logits, seen, settings.repetition_penalty as f32);
            let highest = highest(&scores);
            let weight =
                |&id: &u32| ((scores[id as usize] - highest) / settings.temperature as f32).exp();
            let kept = filtered(&scores, &settings, weight);
            assert_eq!(kept, ids, "{settings:?}");
            let total: f32 = kept.iter().map(weight).sum();
            for (id, p) in kept.iter().zip(probabilities) {
                assert!(((weight(id) / total) as f64 - p).abs() < 2e-6, "{settings:?}: {id}");
            }
        };
        let set = SamplingConfig::default;
        check(SamplingConfig { top_k: Some(3), ..set() }, &[2, 4, 6], &[0.364855, 0.270291]);
        // Two tokens are the most likely one: both stay.
        check(SamplingConfig { top_k: Some(1), ..set() }, &[2, 6], &[0.5, 0.5]);
        check(SamplingConfig { top_p: Some(0.7), ..set() }, &[2, 4, 6], &[0.364855, 0.270291]);
        let expected = [0.321678, 0.238305, 0.321678, 0.118339];
        check(SamplingConfig { min_p: Some(0.3), ..set() }, &[2, 4, 6, 10], &expected);
        let settings = SamplingConfig { temperature: 0.5, top_p: Some(0.9), ..set() };
        check(settings, &[2, 4, 6], &[0.39234, 0.215321, 0.39234]);
        let all = [
            0.077809, 0.004925, 0.102723, 0.017362, 0.086953, 0.002126, 0.425923, 0.0259, 0.052157,
            0.004732, 0.156688, 0.042703,
        ];
        let every: Vec<u32> = (0..12).collect();
        check(SamplingConfig { repetition_penalty: 1.8, ..set() }, &every, &all);
        let settings = SamplingConfig {
            repetition_penalty: 1.8,
            temperature: 0.7,
            top_k: Some(6),
            top_p: Some(0.8),
            min_p: Some(0.25),
            ..set()
        };
        check(settings, &[6], &[1.0]);
        let settings = SamplingConfig {
            repetition_penalty: 0.8,
            temperature: 1.5,
            top_k: Some(5),
            min_p: Some(0.4),
            ..set()
        };
        check(settings, &[2, 4, 6], &[0.422753, 0.32924, 0.248007]);
        let settings =
            SamplingConfig { temperature: 2.0, top_k: Some(8), top_p: Some(0.6), ..set() };
        check(settings, &[2, 4, 6, 10], &[0.288414, 0.24824, 0.288414, 0.174932]);
    }
}
