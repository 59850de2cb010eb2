//! Losses of the difference between the scores of chosen and rejected.

use super::divergence::score;
use super::number::{sigmoid, sigmoid_slope, softplus};
use super::{Completion, PairLoss};
use crate::{DpoConfig, LossType};

/// The loss of one pair. With scores `s` (see `divergence.rs`; `log π − log π_ref` by default) and
/// the margin `m = β (s_chosen − s_rejected)`:
///
/// - sigmoid: `−log σ(m)` (DPO, arXiv 2305.18290, equation 7)
/// - hinge: `max(0, 1 − m)` (SLiC-HF, arXiv 2305.10425, equation 4, on implicit rewards)
/// - robust: `(−(1 − ε) log σ(m) + ε log σ(−m)) / (1 − 2ε)` with ε = label_smoothing
///   (arXiv 2403.00409, equation 12)
/// - exo_pair: `KL([σ(m), σ(−m)] ‖ [1 − ε, ε])` (arXiv 2402.00856, equation 16)
/// - discopop: `−log σ(m) (1 − w) + e⁻ᵐ w` with `w = σ(m/τ)` (arXiv 2406.08414, section 4.2)
/// - ipo: `(d − 1/(2β))²` with `d = s_chosen/n_chosen − s_rejected/n_rejected`, n the numbers of
///   tokens (arXiv 2310.12036, equation 17; per token, as its authors confirmed to TRL)
/// - sigmoid_norm: `−log σ(β d)` (Tülu 3, arXiv 2411.15124, section 5.1.2)
pub(super) fn loss(
    kind: LossType,
    config: &DpoConfig,
    chosen: &Completion,
    rejected: &Completion,
) -> PairLoss {
    let (beta, smoothing) = (config.beta, config.label_smoothing);
    let by_length = matches!(kind, LossType::Ipo | LossType::SigmoidNorm);
    let factor = |completion: &Completion| match by_length {
        true => 1.0 / completion.tokens.max(1) as f64,
        false => 1.0,
    };
    let (chosen_score, chosen_slope) = score(config, chosen.log_ratio());
    let (rejected_score, rejected_slope) = score(config, rejected.log_ratio());
    let difference = chosen_score * factor(chosen) - rejected_score * factor(rejected);
    let margin = beta * difference;
    let (loss, slope) = match kind {
        LossType::Hinge => hinge(margin),
        LossType::Robust => robust(margin, smoothing),
        LossType::ExoPair => exo(margin, smoothing),
        LossType::Discopop => discopop(margin, config.discopop_tau),
        LossType::Ipo => {
            let error = difference - 0.5 / beta;
            // The derivative is with respect to the margin, β times the difference.
            (error * error, 2.0 * error / beta)
        }
        _ => (softplus(-margin), -sigmoid(-margin)),
    };
    PairLoss {
        loss,
        slope_chosen: slope * beta * factor(chosen) * chosen_slope,
        slope_rejected: -slope * beta * factor(rejected) * rejected_slope,
        ..PairLoss::default()
    }
}

fn hinge(m: f64) -> (f64, f64) {
    if m < 1.0 { (1.0 - m, -1.0) } else { (0.0, 0.0) }
}

fn robust(m: f64, smoothing: f64) -> (f64, f64) {
    let (clean, flipped) = (1.0 - smoothing, smoothing);
    let scale = 1.0 / (1.0 - 2.0 * smoothing);
    let loss = clean * softplus(-m) - flipped * softplus(m);
    (scale * loss, -scale * (clean * sigmoid(-m) + flipped * sigmoid(m)))
}

/// With q = σ(m): `q (log q − log(1 − ε)) + (1 − q) (log(1 − q) − log ε)`, whose derivative is
/// `q (1 − q) (m − log((1 − ε)/ε))`.
fn exo(m: f64, smoothing: f64) -> (f64, f64) {
    let log_odds = (-smoothing).ln_1p() - smoothing.ln();
    let better = sigmoid(m) * (-softplus(-m) - (-smoothing).ln_1p());
    let worse = sigmoid(-m) * (-softplus(m) - smoothing.ln());
    (better + worse, sigmoid_slope(m) * (m - log_odds))
}

fn discopop(m: f64, tau: f64) -> (f64, f64) {
    let (mix, rest) = (sigmoid(m / tau), sigmoid(-m / tau));
    let logistic = softplus(-m);
    // e⁻ᵐ w with the logarithms added first: e⁻ᵐ alone overflows where w is 0.
    let exponential = (-m - softplus(-m / tau)).exp();
    let loss = logistic * rest + exponential;
    let slope =
        -sigmoid(-m) * rest - logistic * mix * rest / tau - exponential + exponential * rest / tau;
    (loss, slope)
}
