//! How much memory training needs on the CPU, from shapes and settings alone.

use cai_model::decoder::{AttentionSpec, DecoderSpec, LayerSpec};
use cai_train::TrainArgs;

use crate::{config::Config, pipeline::Stage};

/// Bytes of an f32.
const F32: usize = 4;
/// Program, tokenizer and data, and a chunk of logits.
const RUNTIME: usize = 96 << 20;

/// About as many bytes as each stage that trains an adapter holds at its peak.
///
/// Base weights in f32; of the adapter the values, gradients and two moments; of every layer what
/// its backward pass reads. Attention keeps no scores. With full rows the estimate is 12 to
/// 35 % above what was measured (docs/performance.md); short rows need less.
pub fn training(decoder: &DecoderSpec, config: &Config) -> Vec<(Stage, u64)> {
    let (sft, sl_cai, dpo) = (&config.sft, &config.sl_cai.sft, &config.dpo.dpo);
    let tokens = |train: &TrainArgs, max_length| train.per_device_train_batch_size * max_length;
    let needs = [
        (Stage::Sft, &sft.lora, tokens(&sft.train, sft.max_length), sft.gradient_checkpointing),
        (
            Stage::SlCai,
            &sl_cai.lora,
            tokens(&sl_cai.train, sl_cai.max_length),
            sl_cai.gradient_checkpointing,
        ),
        // Both completions of a pair.
        (Stage::Dpo, &sft.lora, 2 * tokens(&dpo.train, dpo.max_length), dpo.gradient_checkpointing),
    ];
    let runs = needs.into_iter().filter(|(stage, ..)| !config.skip.contains_key(stage));
    runs.map(|(stage, lora, tokens, recompute)| {
        let numbers = decoder.num_parameters()
            + 4 * lora.num_parameters(decoder)
            + tokens * kept_per_token(decoder, recompute);
        (stage, (numbers * F32 + RUNTIME) as u64)
    })
    .collect()
}

/// Numbers that are kept for one token until the backward pass.
fn kept_per_token(decoder: &DecoderSpec, recompute: bool) -> usize {
    let hidden = decoder.hidden_size;
    let of = |layer: &LayerSpec| {
        let AttentionSpec { heads, kv_heads, head_dim, .. } = layer.attention;
        4 * hidden + 2 * (heads + kv_heads) * head_dim + 4 * layer.intermediate_size
    };
    let layers = decoder.layers.iter().map(of);
    match recompute {
        // Each layer's input, and one layer at a time with its gradients.
        true => decoder.layers.len() * hidden + layers.max().unwrap_or(0) * 3 / 2,
        false => layers.sum(),
    }
}
