//! The memory of a training step does not grow with the vocabulary.

#![cfg(target_os = "linux")]

use burn::module::Module;
use cai_data::seed::Seed;
use cai_model::{
    decoder::{Decoder, DecoderSpec, Pass, RandomInit},
    device,
    lora::{LoraConfig, add_adapter},
    tokenizer::Example,
};
use cai_train::{Objective, TrainArgs, optim::Optimizer, params::Gradients};
use helpful_sft::{Mode, SftObjective};
use serde_json::json;

const VOCABULARY: u32 = 256_000;

/// 2,048 tokens and a vocabulary of 256,000: the logits alone would be 2 GiB. Alone in its file, so
/// that it has a process for itself.
///
/// `cargo nextest run -p helpful-sft --test vocabulary --no-capture` prints the peak.
#[test]
fn a_step_over_256000_tokens_stays_under_700_mib() {
    device::tune_allocator();
    let config = json!({
        "model_type": "gemma", "vocab_size": VOCABULARY, "hidden_size": 64,
        "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 1, "head_dim": 32,
    });
    let config = DecoderSpec::from_json(config).unwrap();
    let device = device::parse("cpu").unwrap();
    let decoder =
        Decoder::load(&config, &mut RandomInit { seed: Seed(1), std: 0.02, device }).unwrap();
    let decoder = add_adapter(decoder, &LoraConfig::default(), Seed(2)).unwrap().train();
    let example = |row: u32| Example {
        ids: (0..512).map(|i| (row * 9973 + i * 7919) % VOCABULARY).collect(),
        trained: vec![true; 512],
    };
    let objective = SftObjective {
        weights: &[],
        rows: &[],
        train: &(0..4).map(example).collect::<Vec<_>>(),
        held_out: &[],
        pad: 0,
        eval_batch_size: 4,
        mode: Mode::Adapter,
        pass: Pass::default(),
    };
    let items = [0, 1, 2, 3];
    let loss = objective.loss(&decoder, &items, Seed(3)).unwrap();
    // Random weights know nothing: about ln(vocabulary) per token.
    assert!((loss.loss / objective.weight(&items) - (VOCABULARY as f64).ln()).abs() < 0.1);
    let mut grads = loss.surrogate.div_scalar(objective.weight(&items)).backward();
    let mut gradients = Gradients::default();
    gradients.accumulate(&decoder, &mut grads);
    assert!(gradients.norm().unwrap() > 0.0);
    Optimizer::new(&TrainArgs::default()).step(decoder, gradients, 1.0, 1e-4);
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kib: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    println!("peak {} MiB", kib >> 10);
    assert!(kib >> 10 < 700, "{} MiB", kib >> 10);
}
