//! Scores of a completion under f-DPO (Wang et al., arXiv 2309.16240, section 4): `f′(π/π_ref)` in
//! place of `log(π/π_ref)`, so that the policy is held to the reference by another divergence.

use super::number::{sigmoid, softplus};
use crate::{DpoConfig, FDivergenceType};

/// Largest exponent, as in TRL: beyond it the score stays as it is.
const MAX_EXPONENT: f64 = 80.0;

/// The score of a log-ratio `u` and its derivative.
///
/// - reverse_kl: `u`
/// - forward_kl: `1 − e⁻ᵘ`
/// - js_divergence: `log 2 + log σ(u)`
/// - alpha_divergence: `(e^{(α−1)u} − 1) / (α − 1)`, which is `u` at α = 1
pub(super) fn score(config: &DpoConfig, u: f64) -> (f64, f64) {
    match config.f_divergence_type {
        FDivergenceType::ReverseKl => (u, 1.0),
        FDivergenceType::ForwardKl => (-(-u).exp_m1(), (-u).exp()),
        FDivergenceType::JsDivergence => (std::f64::consts::LN_2 - softplus(-u), sigmoid(-u)),
        FDivergenceType::AlphaDivergence => {
            let power = config.f_alpha_divergence_coef - 1.0;
            if power.abs() < 1e-6 {
                return (u, 1.0);
            }
            let exponent = power * u;
            if exponent > MAX_EXPONENT {
                return (MAX_EXPONENT.exp_m1() / power, 0.0);
            }
            (exponent.exp_m1() / power, exponent.exp())
        }
    }
}
