//! The operations between matrix products, and log-probabilities: forward, and with their backward
//! pass as in training. Shapes are those of the mini model and, with a short sequence, of Gemma 2B.

use anyhow::Result;
use burn::tensor::Tensor;
use cai_benches::{GemmaShape, prompts, random};
use cai_kernels::{Activation, Visibility};
use cai_model::loss::{self, Trained};
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, measurement::WallTime};

fn main() -> Result<()> {
    cai_benches::run(|criterion| {
        rms_norm(criterion)?;
        gated(criterion, "geglu", Activation::GeluTanh)?;
        gated(criterion, "swiglu", Activation::Silu)?;
        attention(criterion)?;
        score_tokens(criterion)
    })
}

fn rms_norm(criterion: &mut Criterion) -> Result<()> {
    let mut group = criterion.benchmark_group("rms_norm");
    for (model, tokens, width) in [("mini", 2048, 256), ("2b", 256, 2048)] {
        let weight = random("weight", [width])?;
        let inputs = [random("x", [tokens, width])?];
        group.throughput(Throughput::Elements(tokens as u64));
        both_passes(&mut group, model, inputs, |[x]| {
            cai_kernels::rms_norm(x, weight.clone(), 1.0, 1e-6)
        });
    }
    Ok(())
}

fn gated(criterion: &mut Criterion, name: &str, activation: Activation) -> Result<()> {
    let mut group = criterion.benchmark_group(name);
    for (model, tokens, width) in [("mini", 2048, 1024), ("2b", 256, 16_384)] {
        let inputs = [random("gate", [tokens, width])?, random("up", [tokens, width])?];
        group.throughput(Throughput::Elements(tokens as u64));
        both_passes(&mut group, model, inputs, |[gate, up]| {
            cai_kernels::gated(gate, up, activation)
        });
    }
    Ok(())
}

/// Causal self-attention with one key/value head.
fn attention(criterion: &mut Criterion) -> Result<()> {
    let mut group = criterion.benchmark_group("attention");
    for (model, batch, heads, tokens, dim) in [("mini", 8, 4, 256, 64), ("2b", 1, 8, 256, 256)] {
        let visibility = Visibility::causal(tokens, None);
        let scale = (dim as f64).powf(-0.5);
        let shared = [batch, 1, tokens, dim];
        let q = random("q", [batch, heads, tokens, dim])?;
        let inputs = [q, random("k", shared)?, random("v", shared)?];
        group.throughput(Throughput::Elements((batch * tokens) as u64));
        both_passes(&mut group, model, inputs, |[q, k, v]| {
            cai_kernels::attention(q, k, v, &visibility, scale, None)
        });
    }
    Ok(())
}

/// Log-probabilities of 512 tokens and, for training, their gradients, which come from the same
/// pass.
fn score_tokens(criterion: &mut Criterion) -> Result<()> {
    const TOKENS: usize = 512;
    let mut group = criterion.benchmark_group("score_tokens");
    group.throughput(Throughput::Elements(TOKENS as u64));
    for vocab_size in [2048, 32_768] {
        let decoder = GemmaShape { vocab_size, layers: 1, ..GemmaShape::MINI }.decoder()?;
        let trained = Trained {
            hidden: random("hidden", [TOKENS, decoder.spec().hidden_size])?,
            targets: prompts(1, TOKENS, vocab_size).concat(),
            rows: std::iter::once(0..TOKENS).collect(),
            replay: None,
        };
        for (pass, gradient) in [("forward", false), ("with_gradient", true)] {
            group.bench_function(BenchmarkId::new(pass, vocab_size), |bencher| {
                bencher.iter(|| loss::score_tokens(&decoder, &trained, gradient));
            });
        }
    }
    Ok(())
}

/// Times `kernel` on `inputs`, and again with its backward pass to all of them.
fn both_passes<const N: usize, const D: usize>(
    group: &mut BenchmarkGroup<WallTime>,
    model: &str,
    inputs: [Tensor<D>; N],
    kernel: impl Fn([Tensor<D>; N]) -> Tensor<D>,
) {
    group.bench_function(BenchmarkId::new("forward", model), |bencher| {
        bencher.iter(|| kernel(inputs.clone()));
    });
    let tracked = inputs.map(|input| input.autodiff().require_grad());
    group.bench_function(BenchmarkId::new("forward_backward", model), |bencher| {
        bencher.iter(|| kernel(tracked.clone()).sum().backward());
    });
}
