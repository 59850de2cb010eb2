//! Losses that judge each completion by itself.

use super::PairLoss;
use super::number::{sigmoid, sigmoid_slope, softplus};
use crate::LossType;

/// The loss of one pair with log-ratios `u` to the reference and rewards `r = β u`:
///
/// - nca_pair: `−log σ(r_c) − ½ log σ(−r_c) − ½ log σ(−r_r)` (arXiv 2402.05369, section 3.2)
/// - bco_pair: `−log σ(r_c) − log σ(−r_r)` (BCO, arXiv 2404.04656, equation 8, without the running
///   reward shift, as in TRL)
/// - sppo_hard: `(u_c − 1/(2β))² + (u_r + 1/(2β))²` (arXiv 2405.00675, equation 4.7 with hard
///   labels)
/// - apo_zero: `1 − σ(r_c) + σ(r_r)` (arXiv 2408.06266, equation 7)
/// - apo_down: `σ(r_c) + 1 − σ(r_c − r_r)` (arXiv 2408.06266, equation 8)
pub(super) fn loss(kind: LossType, beta: f64, chosen: f64, rejected: f64) -> PairLoss {
    let (c, r) = (beta * chosen, beta * rejected);
    // Derivatives with respect to the rewards.
    let (loss, to_chosen, to_rejected) = match kind {
        LossType::NcaPair => (
            softplus(-c) + 0.5 * softplus(c) + 0.5 * softplus(r),
            0.5 * sigmoid(c) - sigmoid(-c),
            0.5 * sigmoid(r),
        ),
        LossType::BcoPair => (softplus(-c) + softplus(r), -sigmoid(-c), sigmoid(r)),
        LossType::SppoHard => {
            let (won, lost) = (chosen - 0.5 / beta, rejected + 0.5 / beta);
            (won * won + lost * lost, 2.0 * won / beta, 2.0 * lost / beta)
        }
        LossType::ApoZero => (sigmoid(-c) + sigmoid(r), -sigmoid_slope(c), sigmoid_slope(r)),
        // apo_down
        _ => {
            let margin = sigmoid_slope(c - r);
            (sigmoid(c) + sigmoid(r - c), sigmoid_slope(c) - margin, margin)
        }
    };
    PairLoss {
        loss,
        slope_chosen: beta * to_chosen,
        slope_rejected: beta * to_rejected,
        ..PairLoss::default()
    }
}
