//! Losses as functions of a few numbers per completion, in f64, with their derivatives.
//!
//! A loss sees the batch because some sort its pairs or average over its tokens. Its derivatives
//! become one weight per token ([`cai_model::loss::ScoredTokens::surrogate`]), so no loss needs
//! autodiff. With `u = log π(y|x) − log π_ref(y|x)` for each completion, one file per family:
//!
//! | file | losses | function of |
//! |---|---|---|
//! | `margin.rs` | sigmoid, hinge, robust, exo_pair, discopop, ipo, sigmoid_norm | a difference of scores of `u` (`divergence.rs`) |
//! | `rewards.rs` | nca_pair, bco_pair, sppo_hard, apo_zero, apo_down | both `u`, each by itself |
//! | `sorted.rs` | aot, aot_unpaired | the `u` of a batch, sorted |
//! | `likelihood.rs` | sft, ORPO, SimPO | the policy's log-probabilities alone |
//! | `kto.rs` | KTO | each `u` against the batch's estimate of the KL divergence |

mod divergence;
pub(crate) mod kto;
mod likelihood;
mod margin;
mod number;
mod rewards;
mod sorted;
mod tokens;

use serde::{Deserialize, Serialize};

use crate::{DpoConfig, LossType, PairObjective};

/// Log-probabilities of a pair's completions under one model, as the loss takes them: sums over
/// their tokens, those beyond the shorter completion's length times `ld_alpha`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PairLogps {
    /// Of the chosen completion.
    pub chosen: f64,
    /// Of the rejected completion.
    pub rejected: f64,
    /// Of the completion of another pair after this pair's prompt, for KTO.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mismatched: Option<f64>,
}

/// What a loss knows of one completion.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Completion {
    /// Log-probability under the policy, as in [`PairLogps`].
    pub policy: f64,
    /// Log-probability under the reference; 0 without one.
    pub reference: f64,
    /// Sum over all its tokens of the negative log-probability under the policy.
    pub nll: f64,
    /// Its tokens.
    pub tokens: usize,
    /// Mean over its tokens of `log π(token) − log Σ_v π(v)²`: the exponent of its WPO weight
    /// (arXiv 2406.11827, section 3.2, "sampled alignment").
    pub alignment: f64,
}

impl Completion {
    /// `log π − log π_ref`.
    pub fn log_ratio(&self) -> f64 {
        self.policy - self.reference
    }

    /// Mean log-probability of a token under the policy.
    pub fn mean_logp(&self) -> f64 {
        -self.nll / self.tokens.max(1) as f64
    }
}

/// What a loss knows of one pair.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PairInput {
    /// The chosen completion.
    pub chosen: Completion,
    /// The rejected completion.
    pub rejected: Completion,
    /// Probability that `chosen` is the better one.
    pub chosen_probability: f64,
    /// What its loss is multiplied by; `aot` and `aot_unpaired` do not look at it.
    pub weight: f64,
    /// `log π − log π_ref` of the mismatched completion, for KTO.
    pub mismatched: f64,
}

/// The loss of a pair and what is known from the same numbers.
///
/// The derivatives are those of the sum of the batch's losses.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PairLoss {
    /// The loss.
    pub loss: f64,
    /// Derivative with respect to the policy's log-probability of the chosen completion.
    pub slope_chosen: f64,
    /// Derivative with respect to the policy's log-probability of the rejected completion.
    pub slope_rejected: f64,
    /// Derivative with respect to the chosen completion's `nll`, where a loss uses it.
    pub slope_nll: f64,
    /// Derivative with respect to the rejected completion's `nll`.
    pub slope_nll_rejected: f64,
    /// Implicit reward of the chosen completion: `β u`, or `β` times the mean log-probability of
    /// its tokens in ORPO and SimPO.
    pub reward_chosen: f64,
    /// Implicit reward of the rejected completion.
    pub reward_rejected: f64,
}

impl PairLoss {
    /// How much more reward the chosen completion has.
    pub fn margin(&self) -> f64 {
        self.reward_chosen - self.reward_rejected
    }

    fn add(&mut self, weight: f64, other: &PairLoss) {
        self.loss += weight * other.loss;
        self.slope_chosen += weight * other.slope_chosen;
        self.slope_rejected += weight * other.slope_rejected;
        self.slope_nll += weight * other.slope_nll;
        self.slope_nll_rejected += weight * other.slope_nll_rejected;
    }
}

/// The losses of the pairs of a batch under `config`'s objective.
///
/// A pair whose chosen completion is the better one only with `chosen_probability` p has the
/// expectation of the loss over the label, `p L(chosen, rejected) + (1 − p) L(rejected, chosen)`;
/// with the sigmoid loss that is the cross-entropy with a soft label. The losses that are not about
/// one pair (`aot`, `aot_unpaired`, `sft` and ORPO's likelihood term) do not look at p.
pub fn batch_loss(config: &DpoConfig, pairs: &[PairInput]) -> Vec<PairLoss> {
    let weights: Vec<f64> = pairs.iter().map(|pair| pair.weight).collect();
    let mut losses = match config.objective {
        PairObjective::Dpo => preference(config, pairs),
        PairObjective::Kto => scaled(&weights, &kto::losses(config, pairs)),
        PairObjective::Orpo => likelihood::orpo(config, pairs, &weights),
        PairObjective::Simpo => scaled(
            &weights,
            &expected(pairs, |chosen, rejected| likelihood::simpo(config, chosen, rejected)),
        ),
    };
    let mean = matches!(config.objective, PairObjective::Orpo | PairObjective::Simpo);
    let reward = |completion: &Completion| match mean {
        true => config.beta * completion.mean_logp(),
        false => config.beta * completion.log_ratio(),
    };
    for (loss, pair) in losses.iter_mut().zip(pairs) {
        (loss.reward_chosen, loss.reward_rejected) = (reward(&pair.chosen), reward(&pair.rejected));
    }
    losses
}

/// The weighted sum of the losses of `loss_type`.
fn preference(config: &DpoConfig, pairs: &[PairInput]) -> Vec<PairLoss> {
    let mut sum = vec![PairLoss::default(); pairs.len()];
    let weights = weights(config, pairs);
    for (kind, loss_weight) in config.weighted_losses() {
        let losses = match kind {
            LossType::Aot | LossType::AotUnpaired => sorted::losses(kind, config, pairs),
            // It mixes the tokens of all pairs, so it weighs them itself.
            LossType::Sft => likelihood::sft(pairs, &weights),
            LossType::NcaPair
            | LossType::BcoPair
            | LossType::SppoHard
            | LossType::ApoZero
            | LossType::ApoDown => {
                let loss = |chosen: &Completion, rejected: &Completion| {
                    rewards::loss(kind, config.beta, chosen.log_ratio(), rejected.log_ratio())
                };
                scaled(&weights, &expected(pairs, loss))
            }
            LossType::Sigmoid
            | LossType::Hinge
            | LossType::Robust
            | LossType::ExoPair
            | LossType::Discopop
            | LossType::Ipo
            | LossType::SigmoidNorm => {
                let loss = |chosen: &_, rejected: &_| margin::loss(kind, config, chosen, rejected);
                scaled(&weights, &expected(pairs, loss))
            }
        };
        for (sum, loss) in sum.iter_mut().zip(&losses) {
            sum.add(loss_weight, loss);
        }
    }
    sum
}

/// What each pair's loss is multiplied by: its own weight and, with `use_weighting`, that of WPO
/// (arXiv 2406.11827, equation 2): the more likely the policy would have written both completions,
/// the more the pair counts. Constants for the gradient.
fn weights(config: &DpoConfig, pairs: &[PairInput]) -> Vec<f64> {
    let weight = |pair: &PairInput| match config.use_weighting {
        true => pair.weight * (pair.chosen.alignment + pair.rejected.alignment).exp(),
        false => pair.weight,
    };
    pairs.iter().map(weight).collect()
}

fn scaled(weights: &[f64], losses: &[PairLoss]) -> Vec<PairLoss> {
    let scale = |(&weight, loss): (&f64, &PairLoss)| {
        let mut sum = PairLoss::default();
        sum.add(weight, loss);
        sum
    };
    weights.iter().zip(losses).map(scale).collect()
}

/// The expectation of a pair's loss over its label. `loss` gives the loss of (better, worse) and
/// the slopes in that order.
fn expected(
    pairs: &[PairInput],
    loss: impl Fn(&Completion, &Completion) -> PairLoss,
) -> Vec<PairLoss> {
    let of_pair = |pair: &PairInput| {
        let p = pair.chosen_probability;
        let mut sum = PairLoss::default();
        // Not computed where it does not count: 0 · ∞ is not 0.
        if p > 0.0 {
            sum.add(p, &loss(&pair.chosen, &pair.rejected));
        }
        if p < 1.0 {
            let other = loss(&pair.rejected, &pair.chosen);
            let swapped = PairLoss {
                slope_chosen: other.slope_rejected,
                slope_rejected: other.slope_chosen,
                slope_nll: other.slope_nll_rejected,
                slope_nll_rejected: other.slope_nll,
                ..other
            };
            sum.add(1.0 - p, &swapped);
        }
        sum
    };
    pairs.iter().map(of_pair).collect()
}

#[cfg(test)]
mod tests;
