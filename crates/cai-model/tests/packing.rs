//! Examples that share a row, or the beginning of a row, get the hidden states and the gradients
//! that they get in rows of their own.

use std::path::Path;

use burn::{
    module::Module,
    tensor::{Gradients, Tensor},
};
use cai_data::seed::Seed;
use cai_model::{
    decoder::{Decoder, Pass},
    lora::{LoraConfig, add_adapter},
    loss::{Trained, packed_hidden, score_tokens, trained_hidden},
    model::LanguageModel,
    tokenizer::Example,
};
use proptest::{collection::vec, prelude::*, test_runner::RngSeed};

/// All, sliding and full layers, one and several windows; made by fixtures/make.py.
const FIXTURES: [&str; 3] = ["gemma1", "gemma2", "gemma3"];
const TOLERANCE: f64 = 1e-4;

fn load(name: &str) -> Decoder {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    LanguageModel::load(&dir, None, &cai_model::device::parse("cpu").unwrap()).unwrap().decoder
}

fn example(ids: &[u32]) -> Example {
    Example { ids: ids.to_vec(), trained: ids.iter().map(|id| id % 3 > 0).collect() }
}

/// Completions of one prompt; a completion may be empty, the prompt too.
fn group() -> impl Strategy<Value = Vec<Example>> {
    (vec(0..330u32, 0..12), vec(vec(0..330u32, 0..12), 1..=3)).prop_map(|(prompt, completions)| {
        completions.iter().map(|c| example(&[prompt.as_slice(), c].concat())).collect()
    })
}

fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().iter::<f64>().collect()
}

fn largest_difference(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

#[test]
fn packed_examples_have_the_hidden_states_they_have_alone() {
    for decoder in FIXTURES.map(load) {
        let config = ProptestConfig {
            cases: 24,
            rng_seed: RngSeed::Fixed(7),
            failure_persistence: None,
            ..ProptestConfig::default()
        };
        proptest!(config, |(rows in vec(vec(group(), 1..=3), 1..=3))| {
            let refs: Vec<Vec<Vec<&Example>>> =
                rows.iter().map(|row| row.iter().map(|g| g.iter().collect()).collect()).collect();
            let groups: Vec<Vec<&[&Example]>> =
                refs.iter().map(|row| row.iter().map(Vec::as_slice).collect()).collect();
            let examples: Vec<&Example> = refs.iter().flatten().flatten().copied().collect();
            prop_assume!(examples.iter().any(|e| e.ids.len() > 1));

            let packed = packed_hidden(&decoder, &groups, 0, &Pass::default());
            let alone = trained_hidden(&decoder, &examples, 0, &Pass::default());
            prop_assert_eq!(&packed.targets, &alone.targets);
            prop_assert_eq!(&packed.rows, &alone.rows);
            prop_assume!(!packed.targets.is_empty());
            let difference = largest_difference(&numbers(packed.hidden), &numbers(alone.hidden));
            prop_assert!(difference < TOLERANCE, "{difference}");
        });
    }
}

#[test]
fn packed_examples_have_the_gradients_they_have_alone() {
    for decoder in FIXTURES.map(load) {
        let lora = LoraConfig { r: 2, lora_alpha: 4.0, ..LoraConfig::default() };
        let decoder = add_adapter(decoder, &lora, Seed(3)).unwrap().train();
        let ids = |from: u32, count: u32| (0..count).map(move |i| (from + i * 37) % 330);
        let join = |prompt: u32, completion: u32, count: u32| {
            example(&ids(prompt, 9).chain(ids(completion, count)).collect::<Vec<_>>())
        };
        let pairs = [[join(1, 2, 7), join(1, 5, 4)], [join(11, 12, 8), join(11, 15, 11)]];
        let [first, second] = pairs.each_ref().map(|pair| [&pair[0], &pair[1]]);
        let examples = [first, second].concat();

        let packed = gradients(
            &decoder,
            packed_hidden(&decoder, &[vec![&first, &second]], 0, &Pass::default()),
        );
        let alone = gradients(&decoder, trained_hidden(&decoder, &examples, 0, &Pass::default()));
        let size = alone.iter().map(|g| g.abs()).fold(0.0, f64::max);
        let difference = largest_difference(&packed, &alone);
        assert!(size > 0.0 && difference < TOLERANCE * size, "{difference} of {size}");
    }
}

/// Gradients of factors B of a weighted sum of log-probabilities.
fn gradients(decoder: &Decoder, trained: Trained) -> Vec<f64> {
    let scored = score_tokens(decoder, &trained, true);
    let weights: Vec<f32> = (0..scored.logps.len()).map(|i| 0.5 - i as f32 / 20.0).collect();
    let grads: Gradients = scored.surrogate(&weights).unwrap().backward();
    let layers = decoder.model.layers.iter();
    let projections = layers
        .flat_map(|l| [l.self_attn.k_proj.as_ref().unwrap(), &l.self_attn.o_proj, &l.mlp.up_proj]);
    let grad = |b: Tensor<2>| numbers(b.grad(&grads).unwrap());
    projections.flat_map(|p| grad(p.lora.as_ref().unwrap().lora_b.val())).collect()
}
