//! Functions that neither overflow nor lose small values.

/// `log(1 + eˣ) = −log σ(−x)`.
pub(super) fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// `σ(x) = 1 / (1 + e⁻ˣ)`.
pub(super) fn sigmoid(x: f64) -> f64 {
    match x >= 0.0 {
        true => 1.0 / (1.0 + (-x).exp()),
        false => x.exp() / (1.0 + x.exp()),
    }
}

/// `σ′(x) = σ(x) σ(−x)`.
pub(super) fn sigmoid_slope(x: f64) -> f64 {
    sigmoid(x) * sigmoid(-x)
}

/// `log(1 − eˣ)` for x < 0; a probability of 1 is taken as just below.
pub(super) fn log1m_exp(x: f64) -> f64 {
    let x = x.min(-1e-12);
    if x > -std::f64::consts::LN_2 { (-x.exp_m1()).ln() } else { (-x.exp()).ln_1p() }
}
