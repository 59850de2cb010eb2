//! Kahneman–Tversky optimisation (Ethayarajh et al., arXiv 2402.01306).

use super::number::{sigmoid, sigmoid_slope};
use super::{Completion, PairInput, PairLoss};
use crate::DpoConfig;

/// With `z₀ = max(0, mean over the batch of log π(y′|x) − log π_ref(y′|x))` for mismatched
/// completions y′ (the estimate of the KL divergence, a constant for the gradient; section 4.1) and
/// the value functions of equation 8, a completion loses
///
/// - desirable: `λ_D (1 − σ(β (u − z₀)))`
/// - undesirable: `λ_U (1 − σ(β (z₀ − u)))`
///
/// A pair has the mean of its two completions: chosen ones are desirable with
/// `chosen_probability`, rejected ones with the rest.
pub(super) fn losses(config: &DpoConfig, pairs: &[PairInput]) -> Vec<PairLoss> {
    let divergence = divergence(pairs);
    let value = |completion: &Completion, desirable: f64| {
        let reward = config.beta * (completion.log_ratio() - divergence);
        let (liked, disliked) =
            (desirable * config.desirable_weight, (1.0 - desirable) * config.undesirable_weight);
        let loss = liked * sigmoid(-reward) + disliked * sigmoid(reward);
        (loss, config.beta * (disliked - liked) * sigmoid_slope(reward))
    };
    let of_pair = |pair: &PairInput| {
        let (chosen, slope_chosen) = value(&pair.chosen, pair.chosen_probability);
        let (rejected, slope_rejected) = value(&pair.rejected, 1.0 - pair.chosen_probability);
        PairLoss {
            loss: 0.5 * (chosen + rejected),
            slope_chosen: 0.5 * slope_chosen,
            slope_rejected: 0.5 * slope_rejected,
            ..PairLoss::default()
        }
    };
    pairs.iter().map(of_pair).collect()
}

/// The estimate of the KL divergence between policy and reference, in nats per completion.
pub(crate) fn divergence(pairs: &[PairInput]) -> f64 {
    let sum: f64 = pairs.iter().map(|pair| pair.mismatched).sum();
    (sum / pairs.len().max(1) as f64).max(0.0)
}
