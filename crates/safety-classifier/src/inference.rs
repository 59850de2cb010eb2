//! The encoder on the CPU without tensors: one text at a time, all cores at work on different texts, or
//! on the large products of a single one.
//!
//! A text of 64 tokens is a matrix of a few thousand numbers, which stays in a core's cache from the
//! first layer to the last; nothing is padded, and a text scores the same in any company. The same
//! arithmetic as [`Encoder::scores`], which training and other devices use, to within rounding.

use burn::tensor::Tensor;
use gemm::Parallelism;
use rayon::prelude::*;

use crate::config::Pooling;
use crate::error::{Error, Result};
use crate::model::{Encoder, EncoderShape};

/// Added to the variance before the root, as in Burn's and PyTorch's layer norm.
const EPSILON: f32 = 1e-5;

/// A linear layer, its weight `[in, out]`.
#[derive(Clone, Debug)]
struct Dense {
    weight: Vec<f32>,
    bias: Vec<f32>,
}

#[derive(Clone, Debug)]
struct Norm {
    gamma: Vec<f32>,
    beta: Vec<f32>,
}

#[derive(Clone, Debug)]
struct Layer {
    attention_norm: Norm,
    /// Query (scaled by 1/√width of a head), key and value side by side.
    qkv: Dense,
    out: Dense,
    feed_forward_norm: Norm,
    up: Dense,
    down: Dense,
}

/// An encoder's weights in plain memory.
#[derive(Clone, Debug)]
pub struct CpuEncoder {
    shape: EncoderShape,
    tokens: Vec<f32>,
    positions: Vec<f32>,
    layers: Vec<Layer>,
    norm: Norm,
    queries: Option<Dense>,
    head: Dense,
}

impl CpuEncoder {
    /// Copies the weights of `encoder`, whose sizes are `shape`.
    ///
    /// # Errors
    /// When a weight cannot be read from the device.
    pub fn new(encoder: &Encoder, shape: &EncoderShape) -> Result<Self> {
        let layers = encoder.layers.iter().map(|layer| {
            let scale = 1.0 / ((shape.d_model / shape.n_heads) as f32).sqrt();
            Ok(Layer {
                attention_norm: norm(&layer.attention_norm)?,
                qkv: side_by_side(
                    [dense(&layer.query)?.scaled(scale), dense(&layer.key)?, dense(&layer.value)?],
                    shape.d_model,
                ),
                out: dense(&layer.out)?,
                feed_forward_norm: norm(&layer.feed_forward_norm)?,
                up: dense(&layer.up)?,
                down: dense(&layer.down)?,
            })
        });
        Ok(Self {
            layers: layers.collect::<Result<_>>()?,
            tokens: numbers(encoder.token_embedding.val())?,
            positions: numbers(encoder.position_embedding.val())?,
            norm: norm(&encoder.norm)?,
            queries: encoder.queries.as_ref().map(dense).transpose()?,
            head: dense(&encoder.head)?,
            shape: shape.clone(),
        })
    }

    /// Scores of each text (at least one token, at most `max_length`) before softmax or sigmoid.
    pub fn logits(&self, texts: &[&[u32]]) -> Vec<Vec<f32>> {
        let threads = if texts.len() == 1 { rayon::current_num_threads() } else { 1 };
        texts
            .par_iter()
            .map_init(Workspace::default, |space, text| self.text(text, space, threads))
            .collect()
    }

    fn text(&self, ids: &[u32], space: &mut Workspace, threads: usize) -> Vec<f32> {
        let (n, d) = (ids.len(), self.shape.d_model);
        let Workspace { x, normed, wide, scores, mixed } = space;
        x.clear();
        for (i, &id) in ids.iter().enumerate() {
            let token = &self.tokens[id as usize * d..][..d];
            let position = &self.positions[i * d..][..d];
            x.extend(token.iter().zip(position).map(|(token, position)| token + position));
        }
        for layer in &self.layers {
            layer.attention_norm.apply(x, normed);
            layer.qkv.apply(normed, n, wide, threads);
            self.attend(wide, n, scores, mixed);
            layer.out.add(mixed, n, x, normed, threads);
            layer.feed_forward_norm.apply(x, normed);
            layer.up.apply(normed, n, wide, threads);
            wide.iter_mut().for_each(|value| *value = value.max(0.0));
            layer.down.add(wide, n, x, normed, threads);
        }
        self.norm.apply(x, normed);
        let pooled = self.pool(normed, n);
        let mut out = Vec::new();
        self.head.apply(&pooled, 1, &mut out, 1);
        out
    }

    /// Multi-head attention of `qkv` `[n, 3d]` into `mixed` `[n, d]`.
    fn attend(&self, qkv: &[f32], n: usize, scores: &mut Vec<f32>, mixed: &mut Vec<f32>) {
        let d = self.shape.d_model;
        let width = d / self.shape.n_heads;
        scores.resize(n * n, 0.0);
        mixed.resize(n * d, 0.0);
        for head in 0..self.shape.n_heads {
            let part = |i: usize| &qkv[i * d + head * width..];
            // Keys are read as columns: their rows and columns change places.
            let (rows, columns) = ([3 * d, 1], [1, 3 * d]);
            product([n, width, n], part(0), rows, part(1), columns, scores, n, 1);
            scores.chunks_mut(n).for_each(softmax);
            let out = &mut mixed[head * width..];
            product([n, n, width], scores, [n, 1], part(2), rows, out, d, 1);
        }
    }

    /// One vector from the tokens' `[n, d]`: their mean, or weighted means side by side.
    fn pool(&self, x: &[f32], n: usize) -> Vec<f32> {
        let d = self.shape.d_model;
        let weights: Vec<Vec<f32>> = match (&self.queries, self.shape.pooling) {
            (Some(queries), Pooling::Attention) => {
                let mut scores = Vec::new();
                queries.apply(x, n, &mut scores, 1);
                let each = queries.bias.len();
                let column = |q: usize| {
                    let mut column: Vec<f32> =
                        scores.iter().skip(q).step_by(each).copied().collect();
                    softmax(&mut column);
                    column
                };
                (0..each).map(column).collect()
            }
            _ => vec![vec![1.0 / n as f32; n]],
        };
        let mean = |weights: &Vec<f32>| {
            let mut mean = vec![0f32; d];
            for (row, weight) in x.chunks(d).zip(weights) {
                mean.iter_mut().zip(row).for_each(|(sum, value)| *sum += weight * value);
            }
            mean
        };
        weights.iter().flat_map(mean).collect()
    }
}

/// Memory that texts use one after the other.
#[derive(Default)]
struct Workspace {
    x: Vec<f32>,
    normed: Vec<f32>,
    wide: Vec<f32>,
    scores: Vec<f32>,
    mixed: Vec<f32>,
}

impl Dense {
    fn scaled(mut self, factor: f32) -> Self {
        self.weight.iter_mut().chain(&mut self.bias).for_each(|value| *value *= factor);
        self
    }

    /// `out = x · weight + bias` for `n` rows.
    fn apply(&self, x: &[f32], n: usize, out: &mut Vec<f32>, threads: usize) {
        let (d_in, d_out) = (self.weight.len() / self.bias.len(), self.bias.len());
        out.resize(n * d_out, 0.0);
        product([n, d_in, d_out], x, [d_in, 1], &self.weight, [d_out, 1], out, d_out, threads);
        for row in out.chunks_mut(d_out) {
            row.iter_mut().zip(&self.bias).for_each(|(value, bias)| *value += bias);
        }
    }

    /// `to += x · weight + bias`, with `space` for what is added.
    fn add(&self, x: &[f32], n: usize, to: &mut [f32], space: &mut Vec<f32>, threads: usize) {
        self.apply(x, n, space, threads);
        to.iter_mut().zip(&*space).for_each(|(value, added)| *value += added);
    }
}

impl Norm {
    fn apply(&self, x: &[f32], out: &mut Vec<f32>) {
        let d = self.gamma.len();
        out.resize(x.len(), 0.0);
        for (row, out) in x.chunks(d).zip(out.chunks_mut(d)) {
            let mean = sum(row, |value| value) / d as f32;
            let variance = sum(row, |value| (value - mean) * (value - mean)) / d as f32;
            let scale = 1.0 / (variance + EPSILON).sqrt();
            for (((out, value), gamma), beta) in
                out.iter_mut().zip(row).zip(&self.gamma).zip(&self.beta)
            {
                *out = (value - mean) * scale * gamma + beta;
            }
        }
    }
}

/// `Σ of(x)` in eight sums, which vectors can hold.
#[inline(always)]
fn sum(x: &[f32], of: impl Fn(f32) -> f32) -> f32 {
    let (blocks, rest) = x.as_chunks::<8>();
    let mut sums = [0f32; 8];
    for block in blocks {
        for i in 0..8 {
            sums[i] += of(block[i]);
        }
    }
    sums.iter().sum::<f32>() + rest.iter().map(|&value| of(value)).sum::<f32>()
}

fn softmax(row: &mut [f32]) {
    let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    row.iter_mut().for_each(|value| *value = exp(*value - largest));
    let scale = 1.0 / sum(row, |value| value);
    row.iter_mut().for_each(|value| *value *= scale);
}

/// eˣ for x ≤ 0 within 3e-7 of the value; 0 below −87. Without a branch, so that a loop of it becomes
/// vectors: x = n·ln 2 + r with |r| ≤ ½ ln 2, eʳ by its Taylor polynomial of degree 7, and 2ⁿ through
/// the exponent's bits.
#[inline(always)]
fn exp(x: f32) -> f32 {
    /// 1.5·2²³: adding it rounds to a whole number, in the lowest bits of the sum.
    const ROUND: f32 = 12_582_912.0;
    let clamped = x.max(-87.0);
    let shifted = clamped * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    // ln 2 in two parts, the first with trailing zeros so that n times it is exact.
    let r = clamped - n * (355.0 / 512.0) + n * 2.121_944_4e-4;
    let mut poly = 1.984_127e-4_f32;
    for coefficient in [1.388_888_9e-3, 8.333_334e-3, 4.166_666_8e-2, 1.666_666_7e-1, 0.5, 1.0, 1.0]
    {
        poly = poly * r + coefficient;
    }
    let power = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
    if x < -87.0 { 0.0 } else { poly * power }
}

/// `out = lhs · rhs` for `[m, k] · [k, n]`; `lhs` and `rhs` with the distances between rows and between
/// columns, rows of `out` `stride` apart. On one core unless it is worth waking others; the sums are the
/// same on any number.
fn product(
    [m, k, n]: [usize; 3],
    lhs: &[f32],
    lhs_strides: [usize; 2],
    rhs: &[f32],
    rhs_strides: [usize; 2],
    out: &mut [f32],
    stride: usize,
    threads: usize,
) {
    /// Multiplications that take a core as long as a few wake-ups.
    const SHARED: usize = 1 << 22;
    let parallelism = match m * k * n {
        size if size >= SHARED && threads > 1 => Parallelism::Rayon(threads),
        _ => Parallelism::None,
    };
    let last = |[row, column]: [usize; 2], rows: usize, columns: usize| {
        (rows - 1) * row + (columns - 1) * column
    };
    assert!(m > 0 && k > 0 && n > 0 && n <= stride, "sizes of a matrix product");
    assert!(last(lhs_strides, m, k) < lhs.len(), "the left matrix ends too early");
    assert!(last(rhs_strides, k, n) < rhs.len(), "the right matrix ends too early");
    assert!(last([stride, 1], m, n) < out.len(), "the output ends too early");
    let ([lhs_row, lhs_col], [rhs_row, rhs_col]) =
        (lhs_strides.map(|s| s as isize), rhs_strides.map(|s| s as isize));
    // SAFETY: the assertions keep all three matrices within their slices; the output is borrowed
    // mutably, so that it overlaps neither input, and is not read.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            stride as isize,
            false,
            lhs.as_ptr(),
            lhs_col,
            lhs_row,
            rhs.as_ptr(),
            rhs_col,
            rhs_row,
            1.0f32,
            1.0f32,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// Weights `[in, out]` of three layers as one `[in, 3 out]`.
fn side_by_side(parts: [Dense; 3], d: usize) -> Dense {
    let row = |i: usize| parts.iter().flat_map(move |part| part.weight[i * d..][..d].to_vec());
    let weight = (0..d).flat_map(row).collect();
    let bias = parts.iter().flat_map(|part| part.bias.clone()).collect();
    Dense { weight, bias }
}

fn dense(linear: &burn::nn::Linear) -> Result<Dense> {
    let weight = numbers(linear.weight.val())?;
    let bias = match &linear.bias {
        Some(bias) => numbers(bias.val())?,
        None => vec![0.0; linear.weight.dims()[1]],
    };
    Ok(Dense { weight, bias })
}

fn norm(norm: &burn::nn::LayerNorm) -> Result<Norm> {
    let gamma = numbers(norm.gamma.val())?;
    let beta = match &norm.beta {
        Some(beta) => numbers(beta.val())?,
        None => vec![0.0; gamma.len()],
    };
    Ok(Norm { gamma, beta })
}

fn numbers<const D: usize>(weight: Tensor<D>) -> Result<Vec<f32>> {
    weight
        .try_into_vec_as()
        .map_err(|error| Error::Device { what: "the weights", problem: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::logits;
    use burn::tensor::Device;
    use cai_data::seed::Seed;

    #[test]
    fn it_scores_as_the_tensors_do() {
        for pooling in [Pooling::Mean, Pooling::Attention] {
            let shape = EncoderShape {
                vocab_size: 50,
                max_length: 40,
                d_model: 24,
                n_layers: 2,
                n_heads: 3,
                d_ff: 40,
                n_outputs: 5,
                pooling,
            };
            let encoder = Encoder::new(&shape, Seed(7), &Device::flex());
            let long: Vec<u32> = (0..40).map(|i| (i * 7 + 3) % 50).collect();
            let texts: [&[u32]; 4] = [&[1], &[1, 5, 9, 20], &long, &long[..17]];
            let expected = logits(&encoder, &texts).unwrap();
            let found = CpuEncoder::new(&encoder, &shape).unwrap().logits(&texts);
            for (a, b) in expected.iter().flatten().zip(found.iter().flatten()) {
                assert!((a - b).abs() < 1e-5, "{a} {b}");
            }
        }
    }

    #[test]
    fn a_text_scores_the_same_alone_on_all_cores() {
        let shape = EncoderShape {
            vocab_size: 50,
            max_length: 128,
            d_model: 256,
            n_layers: 1,
            n_heads: 4,
            d_ff: 1024,
            n_outputs: 5,
            pooling: Pooling::Mean,
        };
        let encoder = Encoder::new(&shape, Seed(7), &Device::flex());
        let cpu = CpuEncoder::new(&encoder, &shape).unwrap();
        for len in [65, 100, 128] {
            let text: Vec<u32> = (0..len).map(|i| i * 7 % 50).collect();
            assert_eq!(cpu.logits(&[&text])[0], cpu.logits(&[&text, &[1]])[0]);
        }
    }

    #[test]
    fn exponentials_are_exact_to_rounding() {
        for i in 0..=2000 {
            let x = -(i as f32) * 0.05;
            let exact = if x < -87.0 { 0.0 } else { f64::from(x).exp() };
            assert!((f64::from(exp(x)) - exact).abs() <= 4e-7 * exact, "{x}");
        }
    }
}
