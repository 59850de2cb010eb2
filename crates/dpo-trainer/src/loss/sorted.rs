//! Alignment via optimal transport (Melnyk et al., arXiv 2406.05882): the distribution of rewards of
//! a batch, not each pair's, is to be better than the other.

use super::number::{sigmoid, softplus};
use super::{PairInput, PairLoss};
use crate::{DpoConfig, LossType};

/// With both sides sorted, their i-th values `a_i` and `b_i`, and ε = label_smoothing:
/// `−(1 − ε) log σ(β (a_i − b_i)) − ε log σ(−β (a_i − b_i))` (algorithm 1).
///
/// - aot: a are the log-ratios chosen over rejected under the policy, b those under the reference
/// - aot_unpaired: a are the log-ratios policy over reference of the chosen, b those of the rejected
///
/// The i-th smallest `a` gives its pair the loss.
pub(super) fn losses(kind: LossType, config: &DpoConfig, pairs: &[PairInput]) -> Vec<PairLoss> {
    let unpaired = kind == LossType::AotUnpaired;
    let side = |paired: fn(&PairInput) -> f64, alone: fn(&PairInput) -> f64| -> Vec<f64> {
        pairs.iter().map(if unpaired { alone } else { paired }).collect()
    };
    let better = side(|p| p.chosen.policy - p.rejected.policy, |p| p.chosen.log_ratio());
    let worse = side(|p| p.chosen.reference - p.rejected.reference, |p| p.rejected.log_ratio());
    let mut losses = vec![PairLoss::default(); pairs.len()];
    let (beta, smoothing) = (config.beta, config.label_smoothing);
    for (i, j) in order(&better).into_iter().zip(order(&worse)) {
        let m = beta * (better[i] - worse[j]);
        losses[i].loss = (1.0 - smoothing) * softplus(-m) + smoothing * softplus(m);
        let slope = beta * (smoothing * sigmoid(m) - (1.0 - smoothing) * sigmoid(-m));
        losses[i].slope_chosen += slope;
        // The reference's log-ratios are constants.
        if unpaired {
            losses[j].slope_rejected -= slope;
        } else {
            losses[i].slope_rejected -= slope;
        }
    }
    losses
}

/// Indices in the order of the values; equal ones stay in place.
fn order(values: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&i, &j| values[i].total_cmp(&values[j]));
    order
}
