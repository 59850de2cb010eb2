//! Every loss against TRL's own code on made-up numbers (`fixtures/make.py` says how), and every
//! derivative against finite differences.

use dpo_trainer::{Completion, DpoConfig, PairInput, PairLoss, batch_loss};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct Fixture {
    batch: Vec<Pair>,
    cases: Vec<Case>,
}

#[derive(Clone, Deserialize)]
struct Pair {
    chosen: Tokens,
    rejected: Tokens,
    mismatched: f64,
}

#[derive(Clone, Deserialize)]
struct Tokens {
    policy: Vec<f32>,
    reference: Vec<f32>,
    squares: Vec<f32>,
}

#[derive(Deserialize)]
struct Case {
    settings: Value,
    mean: f64,
    chosen: Vec<Vec<f64>>,
    rejected: Vec<Vec<f64>>,
}

fn fixture() -> Fixture {
    serde_json::from_str(include_str!("../fixtures/losses.json")).unwrap()
}

fn inputs(batch: &[Pair], config: &DpoConfig) -> Vec<PairInput> {
    let input = |pair: &Pair| {
        let shared = pair.chosen.policy.len().min(pair.rejected.policy.len());
        let [chosen, rejected] = [&pair.chosen, &pair.rejected].map(|side| {
            let of = |logps| Completion::from_tokens(logps, &side.squares, shared, config.ld_alpha);
            let reference = match config.needs_reference() {
                true => of(&side.reference).policy,
                false => 0.0,
            };
            Completion { reference, ..of(&side.policy) }
        });
        let mismatched = pair.mismatched;
        PairInput { chosen, rejected, chosen_probability: 1.0, weight: 1.0, mismatched }
    };
    batch.iter().map(input).collect()
}

#[test]
fn losses_and_gradients_are_those_of_trl() {
    let Fixture { batch, cases } = fixture();
    assert!(cases.len() > 40);
    for case in cases {
        let name = case.settings.to_string();
        let config: DpoConfig = serde_json::from_value(case.settings).unwrap();
        config.check().unwrap_or_else(|error| panic!("{name}: {error}"));
        let losses = batch_loss(&config, &inputs(&batch, &config));
        let count = losses.len() as f64;
        let mean = losses.iter().map(|loss| loss.loss).sum::<f64>() / count;
        close(&format!("{name} mean"), mean, case.mean);
        for (i, (loss, pair)) in losses.iter().zip(&batch).enumerate() {
            let lengths = [pair.chosen.policy.len(), pair.rejected.policy.len()];
            let weights = loss.token_weights(lengths[0], lengths[1], config.ld_alpha);
            for (ours, trl) in weights.iter().zip([&case.chosen[i], &case.rejected[i]]) {
                assert_eq!(ours.len(), trl.len());
                for (&ours, &trl) in ours.iter().zip(trl) {
                    close(&format!("{name} gradient of pair {i}"), ours as f64 / count, trl);
                }
            }
        }
    }
}

/// Each derivative of the summed losses, with soft labels, weights and a label that is wrong, for
/// every case of the fixture that allows them.
#[test]
fn slopes_are_derivatives() {
    let Fixture { batch, cases } = fixture();
    for case in cases {
        let name = case.settings.to_string();
        let config: DpoConfig = serde_json::from_value(case.settings).unwrap();
        // A kink lies in the batch of the hinge; the others are smooth.
        let h = 1e-6;
        let sorts = name.contains("aot");
        let mut inputs = inputs(&batch, &config);
        if !sorts {
            for (i, input) in inputs.iter_mut().enumerate() {
                input.chosen_probability = [1.0, 0.7, 0.0, 0.45, 0.9][i];
                input.weight = [1.0, 0.5, 2.0, 1.0, 0.3][i];
            }
        }
        let losses = batch_loss(&config, &inputs);
        let moved = |change: &dyn Fn(&mut PairInput, f64), i: usize| {
            let at = |step: f64| {
                let mut inputs = inputs.clone();
                change(&mut inputs[i], step);
                batch_loss(&config, &inputs).iter().map(|loss| loss.loss).sum::<f64>()
            };
            (at(h) - at(-h)) / (2.0 * h)
        };
        type Part = (fn(&PairLoss) -> f64, fn(&mut PairInput, f64));
        let parts: [Part; 4] = [
            (|loss| loss.slope_chosen, |input, step| input.chosen.policy += step),
            (|loss| loss.slope_rejected, |input, step| input.rejected.policy += step),
            (|loss| loss.slope_nll, |input, step| input.chosen.nll += step),
            (|loss| loss.slope_nll_rejected, |input, step| input.rejected.nll += step),
        ];
        for (slope, change) in parts {
            for (i, loss) in losses.iter().enumerate() {
                let (ours, measured) = (slope(loss), moved(&change, i));
                let off = (ours - measured).abs();
                assert!(off < 1e-6 * measured.abs().max(1.0), "{name} {i}: {ours}, {measured}");
            }
        }
    }
}

fn close(name: &str, ours: f64, trl: f64) {
    assert!((ours - trl).abs() < 2e-5 * trl.abs().max(1.0), "{name}: {ours}, TRL has {trl}");
}
