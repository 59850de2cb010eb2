//! Losses without a reference model.

use super::number::{log1m_exp, sigmoid, softplus};
use super::{Completion, PairInput, PairLoss, expected};
use crate::DpoConfig;

/// Negative log-likelihood per token of the chosen completions of the batch; every pair has the
/// batch's mean, times its weight, as in TRL. Batches of other sizes weigh tokens otherwise.
pub(super) fn sft(pairs: &[PairInput], weights: &[f64]) -> Vec<PairLoss> {
    let tokens = pairs.iter().map(|pair| pair.chosen.tokens).sum::<usize>().max(1) as f64;
    let mean = pairs.iter().map(|pair| pair.chosen.nll).sum::<f64>() / tokens;
    // Each token stands in the mean of every pair.
    let slope_nll = weights.iter().sum::<f64>() / tokens;
    let loss = |weight: &f64| PairLoss { loss: weight * mean, slope_nll, ..PairLoss::default() };
    weights.iter().map(loss).collect()
}

/// ORPO (Hong et al., arXiv 2403.07691, equations 6 and 7): the likelihood of the chosen completion
/// and, times β, `−log σ(log odds(chosen) − log odds(rejected))`, with
/// `odds = p / (1 − p)` of the mean log-probability per token. The likelihood is per token of the
/// batch, over completions (TRL adds the prompts' tokens).
pub(super) fn orpo(config: &DpoConfig, pairs: &[PairInput], weights: &[f64]) -> Vec<PairLoss> {
    let mut losses = sft(pairs, weights);
    let odds = expected(pairs, |chosen, rejected| {
        let log_odds = |completion: &Completion| {
            let mean = completion.mean_logp();
            let rest = log1m_exp(mean);
            // d/dx (x − log(1 − eˣ)) = 1 / (1 − eˣ)
            (mean - rest, (-rest).exp())
        };
        let ((better, slope_better), (worse, slope_worse)) = (log_odds(chosen), log_odds(rejected));
        let difference = better - worse;
        by_nll(
            config.beta * softplus(-difference),
            -config.beta * sigmoid(-difference) * slope_better,
            config.beta * sigmoid(-difference) * slope_worse,
            (chosen, rejected),
        )
    });
    for ((loss, odds), weight) in losses.iter_mut().zip(&odds).zip(weights) {
        loss.add(*weight, odds);
    }
    losses
}

/// SimPO (Meng et al., arXiv 2405.14734, equation 6): `−log σ(m)` with
/// `m = β (mean log π(chosen) − mean log π(rejected)) − γ`, and the label smoothed by ε.
pub(super) fn simpo(config: &DpoConfig, chosen: &Completion, rejected: &Completion) -> PairLoss {
    let (beta, smoothing) = (config.beta, config.label_smoothing);
    let m = beta * (chosen.mean_logp() - rejected.mean_logp()) - config.simpo_gamma;
    let slope = beta * (smoothing * sigmoid(m) - (1.0 - smoothing) * sigmoid(-m));
    let loss = (1.0 - smoothing) * softplus(-m) + smoothing * softplus(m);
    by_nll(loss, slope, -slope, (chosen, rejected))
}

/// A loss whose derivatives are with respect to mean log-probabilities per token.
fn by_nll(
    loss: f64,
    to_chosen: f64,
    to_rejected: f64,
    (chosen, rejected): (&Completion, &Completion),
) -> PairLoss {
    PairLoss {
        loss,
        slope_nll: -to_chosen / chosen.tokens.max(1) as f64,
        slope_nll_rejected: -to_rejected / rejected.tokens.max(1) as f64,
        ..PairLoss::default()
    }
}
