//! Properties of batches: the other rows and the pads of a batch do not change what a row gets.

use std::path::Path;

use burn::tensor::Tensor;
use cai_data::seed::Seed;
use cai_model::{
    batch::TokenBatch,
    decoder::Pass,
    generate::{Finish, SamplingConfig, generate},
    model::LanguageModel,
};
use proptest::{collection::vec, prelude::*, test_runner::RngSeed};

/// One model per kind of attention, norm and head; made by fixtures/make.py.
const FIXTURES: [&str; 4] = ["gemma1", "gemma2", "gemma3", "untied"];
/// Noise between two orders of the same sums.
const TOLERANCE: f64 = 1e-4;

fn load(name: &str) -> LanguageModel {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    LanguageModel::load(&dir, None, &cai_model::device::parse("cpu").unwrap()).unwrap()
}

/// The same cases in every run.
fn cases(count: u32) -> ProptestConfig {
    ProptestConfig {
        cases: count,
        rng_seed: RngSeed::Fixed(7),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// Rows of any token ids, control tokens and the pad's own id among them.
fn rows(rows: usize, longest: usize) -> impl Strategy<Value = Vec<Vec<u32>>> {
    vec(vec(0..330u32, 1..=longest), 1..=rows)
}

/// Logits after each token of one sequence, computed alone and without a cache.
fn logits(model: &LanguageModel, ids: &[u32]) -> Vec<Vec<f64>> {
    let batch = TokenBatch::right(&[ids], model.tokenizer.pad(), &model.device);
    row_logits(model, model.decoder.hidden(&batch, &Pass::default()), 0)
}

fn row_logits(model: &LanguageModel, hidden: Tensor<3>, row: usize) -> Vec<Vec<f64>> {
    let [_, width, size] = hidden.dims();
    let logits = model.decoder.logits(hidden.narrow(0, row, 1).reshape([width, size]));
    let vocabulary = logits.dims()[1];
    let all: Vec<f64> = logits.into_data().iter::<f64>().collect();
    all.chunks(vocabulary).map(<[f64]>::to_vec).collect()
}

#[test]
fn a_row_of_a_batch_has_the_logits_it_has_alone() {
    for model in FIXTURES.map(load) {
        proptest!(cases(16), |(rows in rows(4, 24))| {
            let refs: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
            let batch = TokenBatch::right(&refs, model.tokenizer.pad(), &model.device);
            let hidden = model.decoder.hidden(&batch, &Pass::default());
            for (i, row) in rows.iter().enumerate() {
                let batched = row_logits(&model, hidden.clone(), i);
                for (batched, single) in batched.iter().zip(logits(&model, row)) {
                    for (b, s) in batched.iter().zip(single) {
                        prop_assert!((b - s).abs() <= TOLERANCE, "{b} in a batch, {s} alone");
                    }
                }
            }
        });
    }
}

#[test]
fn cached_generation_takes_what_is_most_likely_without_a_cache() {
    for model in FIXTURES.map(load) {
        let context = model.spec.max_position_embeddings;
        proptest!(cases(12), |(prompts in rows(4, context - 8))| {
            let seeds = vec![Seed(0); prompts.len()];
            let sampling = SamplingConfig::greedy(8);
            let generations =
                generate(&model, &prompts, &sampling, &seeds, 4, &mut |_| {}).unwrap();
            for (prompt, generation) in prompts.iter().zip(generations) {
                let limit = sampling.max_new_tokens;
                let stopped = generation.finish == Finish::Stop;
                let tokens = generation.ids.len();
                prop_assert_eq!(stopped, tokens < limit, "{} of {} tokens", tokens, limit);
                let logits = logits(&model, &[prompt.as_slice(), &generation.ids].concat());
                let steps = &logits[prompt.len() - 1..];
                let is_best = |step: &[f64], id: u32| {
                    let best = step.iter().copied().fold(f64::MIN, f64::max);
                    step[id as usize] >= best - TOLERANCE
                };
                for (step, &id) in steps.iter().zip(&generation.ids) {
                    prop_assert!(is_best(step, id), "{id} is not the most likely token");
                }
                if stopped {
                    let stops = model.tokenizer.stop_ids();
                    let last = &steps[tokens];
                    prop_assert!(stops.into_iter().any(|id| is_best(last, id)));
                }
            }
        });
    }
}

#[test]
fn the_seed_alone_decides_a_draw() {
    for model in FIXTURES.map(load) {
        proptest!(cases(8), |(prompts in rows(4, 30))| {
            let seeds: Vec<Seed> = (0..prompts.len()).map(|i| Seed(i as u64)).collect();
            let sampling = SamplingConfig { max_new_tokens: 12, ..Default::default() };
            let run = |batch_size: usize| {
                generate(&model, &prompts, &sampling, &seeds, batch_size, &mut |_| {}).unwrap()
            };
            for (batched, single) in run(4).iter().zip(run(1)) {
                prop_assert_eq!(&batched.ids, &single.ids);
                prop_assert_eq!(batched.finish, single.finish);
                prop_assert!((batched.logprob - single.logprob).abs() <= 10.0 * TOLERANCE);
            }
        });
    }
}

#[test]
fn a_generation_reports_its_log_probability_at_temperature_one() {
    for model in FIXTURES.map(load) {
        let prompts = vec![vec![model.tokenizer.bos().unwrap(), 100, 200, 300]; 8];
        let seeds: Vec<Seed> = (0..8).map(Seed).collect();
        let sampling =
            SamplingConfig { max_new_tokens: 10, temperature: 0.5, ..SamplingConfig::default() };
        let generations = generate(&model, &prompts, &sampling, &seeds, 8, &mut |_| {}).unwrap();
        for (prompt, generation) in prompts.iter().zip(generations) {
            let logits = logits(&model, &[prompt.as_slice(), &generation.ids].concat());
            let steps = &logits[prompt.len() - 1..];
            let written: f64 = steps.iter().zip(&generation.ids).map(|(s, &id)| logp(s, id)).sum();
            // Which token ended the turn is not told; the sum has its log-probability too.
            let possible = match generation.finish {
                Finish::Length | Finish::StopString => vec![written],
                Finish::Stop => {
                    let last = &steps[generation.ids.len()];
                    let stops = model.tokenizer.stop_ids().into_iter();
                    stops.map(|id| written + logp(last, id)).collect()
                }
            };
            let near = |sum: &f64| (generation.logprob - sum).abs() <= 10.0 * TOLERANCE;
            assert!(possible.iter().any(near), "{} is none of {possible:?}", generation.logprob);
        }
    }
}

/// `log softmax(logits)[id]`.
fn logp(logits: &[f64], id: u32) -> f64 {
    logits[id as usize] - logits.iter().map(|l| l.exp()).sum::<f64>().ln()
}
