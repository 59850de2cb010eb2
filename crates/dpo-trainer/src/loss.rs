//! The loss of one pair, in f64.

use serde::{Deserialize, Serialize};

use crate::LossType;

/// Log-probabilities of a pair's completions under one model: sums over their tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PairLogps {
    /// Of the chosen completion.
    pub chosen: f64,
    /// Of the rejected completion.
    pub rejected: f64,
}

/// The loss of a pair and what is known from the same numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PairLoss {
    /// The loss.
    pub loss: f64,
    /// Derivative of the loss with respect to the policy's log-probability of the chosen
    /// completion; with respect to that of the rejected one it is the negative.
    pub slope: f64,
    /// Implicit reward of the chosen completion, `β (log π − log π_ref)`.
    pub reward_chosen: f64,
    /// Implicit reward of the rejected completion.
    pub reward_rejected: f64,
}

impl PairLoss {
    /// How much more reward the chosen completion has.
    pub fn margin(&self) -> f64 {
        self.reward_chosen - self.reward_rejected
    }
}

/// The loss of a pair whose chosen completion is the better one with probability
/// `chosen_probability`.
///
/// [`LossType::Sigmoid`]: with the margin `m` of the rewards, `−p log σ(m) − (1 − p) log σ(−m)`,
/// which for `p = 1` is equation 7 of arXiv 2305.18290, and its derivative `dL/dm = σ(m) − p`.
pub fn pair_loss(
    loss_type: LossType,
    beta: f64,
    policy: PairLogps,
    reference: PairLogps,
    chosen_probability: f64,
) -> PairLoss {
    let reward_chosen = beta * (policy.chosen - reference.chosen);
    let reward_rejected = beta * (policy.rejected - reference.rejected);
    let margin = reward_chosen - reward_rejected;
    let (p, q) = (chosen_probability, 1.0 - chosen_probability);
    let (loss, slope) = match loss_type {
        // σ(m) − p, written so that nothing cancels where σ is close to p = 1.
        LossType::Sigmoid => (
            p * softplus(-margin) + q * softplus(margin),
            q * sigmoid(margin) - p * sigmoid(-margin),
        ),
    };
    PairLoss { loss, slope: beta * slope, reward_chosen, reward_rejected }
}

/// `log(1 + eˣ) = −log σ(−x)`, which neither overflows nor loses small values.
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

fn sigmoid(x: f64) -> f64 {
    match x >= 0.0 {
        true => 1.0 / (1.0 + (-x).exp()),
        false => x.exp() / (1.0 + x.exp()),
    }
}

#[cfg(test)]
mod tests {
    use std::f64::consts::LN_2;

    use super::*;

    fn at(margin: f64, p: f64) -> PairLoss {
        let policy = PairLogps { chosen: margin / 0.1 - 70.0, rejected: -30.0 };
        let reference = PairLogps { chosen: -70.0, rejected: -30.0 };
        pair_loss(LossType::Sigmoid, 0.1, policy, reference, p)
    }

    #[test]
    fn the_loss_without_a_margin_is_ln_2_whatever_the_label() {
        for p in [0.0, 0.3, 0.5, 0.9, 1.0] {
            assert!((at(0.0, p).loss - LN_2).abs() < 1e-15);
            assert!((at(0.0, p).slope - 0.1 * (0.5 - p)).abs() < 1e-15);
        }
    }

    #[test]
    fn the_slope_is_the_derivative_of_the_loss() {
        for p in [0.0, 0.4, 0.9, 1.0] {
            for step in -12..=12 {
                let (m, h) = (step as f64 / 2.0, 1e-5);
                // Margins are 0.1 times log-probabilities.
                let difference = 0.1 * (at(m + h, p).loss - at(m - h, p).loss) / (2.0 * h);
                assert!((at(m, p).slope - difference).abs() < 1e-9, "m {m} p {p}");
            }
        }
    }

    #[test]
    fn wide_margins_neither_overflow_nor_vanish() {
        assert!((at(-5e3, 1.0).loss - 5e3).abs() < 1e-9);
        assert_eq!(at(5e3, 1.0).loss, 0.0);
        let small = at(40.0, 1.0);
        assert!((small.loss / (-40f64).exp() - 1.0).abs() < 1e-9);
        assert!((small.slope / (-0.1 * (-40f64).exp()) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_soft_label_is_best_met_at_its_log_odds() {
        let p = 0.8f64;
        assert!(at((p / (1.0 - p)).ln(), p).slope.abs() < 1e-12);
    }
}
