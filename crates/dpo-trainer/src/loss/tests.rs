use std::f64::consts::LN_2;

use super::*;
use crate::FDivergenceType;

/// A pair with this margin of rewards.
fn at(config: &DpoConfig, margin: f64, chosen_probability: f64) -> PairLoss {
    let side = |policy: f64, reference: f64| Completion {
        policy,
        reference,
        nll: -policy,
        tokens: 3,
        alignment: 0.0,
    };
    let chosen = side(margin / config.beta - 70.0, -70.0);
    let input = PairInput {
        chosen,
        rejected: side(-30.0, -30.0),
        chosen_probability,
        weight: 1.0,
        mismatched: 0.0,
    };
    batch_loss(config, &[input])[0]
}

#[test]
fn the_loss_without_a_margin_is_ln_2_whatever_the_label() {
    let config = DpoConfig::default();
    for p in [0.0, 0.3, 0.5, 0.9, 1.0] {
        let loss = at(&config, 0.0, p);
        assert!((loss.loss - LN_2).abs() < 1e-15);
        assert!((loss.slope_chosen - 0.1 * (0.5 - p)).abs() < 1e-15);
        assert_eq!(loss.slope_chosen, -loss.slope_rejected);
    }
}

#[test]
fn wide_margins_neither_overflow_nor_vanish() {
    let config = DpoConfig::default();
    assert!((at(&config, -5e3, 1.0).loss - 5e3).abs() < 1e-9);
    assert_eq!(at(&config, 5e3, 1.0).loss, 0.0);
    let small = at(&config, 40.0, 1.0);
    assert!((small.loss / (-40f64).exp() - 1.0).abs() < 1e-9);
    assert!((small.slope_chosen / (-0.1 * (-40f64).exp()) - 1.0).abs() < 1e-9);
}

#[test]
fn no_loss_is_nan_at_wide_margins() {
    use LossType::*;
    let kinds = [
        Sigmoid,
        Hinge,
        Ipo,
        Robust,
        ExoPair,
        NcaPair,
        BcoPair,
        SppoHard,
        ApoZero,
        ApoDown,
        Aot,
        AotUnpaired,
        Discopop,
        Sft,
        SigmoidNorm,
    ];
    for kind in kinds {
        for margin in [-2e3, -40.0, 0.0, 40.0, 2e3] {
            let config =
                DpoConfig { loss_type: vec![kind], label_smoothing: 0.1, ..DpoConfig::default() };
            let loss = at(&config, margin, 1.0);
            let values = [loss.loss, loss.slope_chosen, loss.slope_rejected, loss.slope_nll];
            assert!(values.iter().all(|x| x.is_finite()), "{kind:?} at {margin}: {loss:?}");
        }
    }
}

#[test]
fn a_soft_label_is_best_met_at_its_log_odds() {
    let p = 0.8f64;
    let slope = at(&DpoConfig::default(), (p / (1.0 - p)).ln(), p).slope_chosen;
    assert!(slope.abs() < 1e-12);
}

#[test]
fn divergences_agree_at_the_reference() {
    use FDivergenceType::*;
    for f_divergence_type in [ReverseKl, ForwardKl, JsDivergence, AlphaDivergence] {
        let config = DpoConfig { f_divergence_type, ..DpoConfig::default() };
        let loss = at(&config, 0.0, 1.0);
        assert!((loss.loss - LN_2).abs() < 1e-15, "{f_divergence_type:?}");
        assert!((loss.slope_chosen / -0.05).abs() <= 1.0 + 1e-12);
    }
}

#[test]
fn wpo_counts_likely_pairs_more_and_weights_scale() {
    let config = DpoConfig { use_weighting: true, ..DpoConfig::default() };
    let side = |alignment| Completion { tokens: 2, alignment, ..Completion::default() };
    let pair = |alignment, weight| PairInput {
        chosen: side(alignment),
        rejected: side(alignment),
        chosen_probability: 1.0,
        weight,
        mismatched: 0.0,
    };
    let losses = batch_loss(&config, &[pair(-1.0, 1.0), pair(0.0, 1.0), pair(0.0, 0.5)]);
    assert!((losses[0].loss - LN_2 * (-2f64).exp()).abs() < 1e-12);
    assert!((losses[1].loss - LN_2).abs() < 1e-12);
    assert!((losses[2].loss - 0.5 * LN_2).abs() < 1e-12);
}
