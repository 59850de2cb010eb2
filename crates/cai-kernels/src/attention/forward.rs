use burn::tensor::TensorData;
use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::{
    Rule,
    block::{Keys, View, layout, queries_of_block},
};
use crate::{
    Seen,
    cpu::{self, vectorized},
    matrix::{Matrix, MatrixMut},
};

/// The output, and l of each `[batch, queries, heads]`. A task is a block of queries of
/// one row, all heads; a block reads only the keys that it sees.
pub(super) fn attention([q, k, v]: [FlexTensor; 3], rule: &Rule) -> (FlexTensor, FlexTensor) {
    let [batch, heads, queries, dim] = q.layout().shape().dims();
    let [_, kv_heads, keys, _] = k.layout().shape().dims();
    let group = heads / kv_heads;
    let block = queries_of_block(keys);
    let mut out = vec![0.0f32; batch * queries * heads * dim];
    let mut log_sums = vec![0.0f32; batch * queries * heads];
    let [q_view, k_view, v_view] = [&q, &k, &v].map(View::new);

    // Outputs lie as [batch, queries, heads, dim]: those of a block of queries are one piece.
    let rows = out.chunks_mut((queries * heads * dim).max(1));
    let rows = rows.zip(log_sums.chunks_mut((queries * heads).max(1)));
    let tasks: Vec<_> = rows
        .enumerate()
        .flat_map(|(b, (out, sums))| {
            let pieces = out.chunks_mut(block * heads * dim).zip(sums.chunks_mut(block * heads));
            pieces.enumerate().map(move |(i, (out, sums))| (b, i * block, out, sums))
        })
        .collect();
    tasks.into_par_iter().for_each_init(Vec::new, |scratch, (b, start, out, sums)| {
        let count = sums.len() / heads;
        let seen = &rule.visibility.row(b)[start..start + count];
        let keys = Keys::of(seen);
        let mut attend = |kv_head: usize, q: Matrix, seen: &dyn Fn(usize) -> Seen, o: Out| {
            let k = |run| k_view.tokens([b, kv_head], run);
            let v = |run| v_view.tokens([b, kv_head], run);
            block_of(rule, &keys, q, k, v, seen, scratch, o);
        };
        if count == 1 {
            // Decoding: the query heads that share a key head are the rows of one matrix.
            for kv_head in 0..kv_heads {
                let first = kv_head * group;
                let q = q_view.heads([b, start], [first, first + group]);
                let out = Out {
                    numbers: &mut out[first * dim..(first + group) * dim],
                    stride: dim,
                    sums: &mut sums[first..first + group],
                    sum_stride: 1,
                    dim,
                };
                attend(kv_head, q, &|_| seen[0], out);
            }
            return;
        }
        for head in 0..heads {
            let q = q_view.tokens([b, head], [start, start + count]);
            let out = Out {
                numbers: &mut out[head * dim..],
                stride: heads * dim,
                sums: &mut sums[head..],
                sum_stride: heads,
                dim,
            };
            attend(head / group, q, &|row| seen[row], out);
        }
    });
    let out = FlexTensor::from_data(TensorData::new(out, [batch * queries * heads * dim]));
    let log_sums = TensorData::new(log_sums, [batch, queries, heads]);
    (out.with_layout(layout([batch, heads, queries, dim])), FlexTensor::from_data(log_sums))
}

/// Where the outputs of a block go.
struct Out<'a> {
    numbers: &'a mut [f32],
    stride: usize,
    sums: &'a mut [f32],
    sum_stride: usize,
    dim: usize,
}

/// One block: the rows of `q`, which all have the same key head; `k` and `v` give a run of keys.
fn block_of<'a>(
    rule: &Rule,
    keys: &Keys,
    q: Matrix,
    k: impl Fn([usize; 2]) -> Matrix<'a>,
    v: impl Fn([usize; 2]) -> Matrix<'a>,
    seen: &dyn Fn(usize) -> Seen,
    scratch: &mut Vec<f32>,
    out: Out,
) {
    let (rows, columns) = (q.rows(), keys.columns);
    scratch.resize(scratch.len().max(rows * columns), 0.0);
    let scores = &mut scratch[..rows * columns];
    for (run, column) in keys.with_columns() {
        let size = [rows, run[1] - run[0]];
        let target = MatrixMut::new(&mut scores[column..], size, columns);
        target.set_in_cache(q, k(run).t());
    }
    let mut sums = vec![0.0f32; rows];
    for (row, scores) in scores.chunks_exact_mut(columns).enumerate() {
        let (log_sum, sum) = softmax(rule, scores, keys.columns(&seen(row)));
        out.sums[row * out.sum_stride] = log_sum;
        sums[row] = sum;
    }
    for (i, (run, column)) in keys.with_columns().enumerate() {
        let size = [rows, run[1] - run[0]];
        let weights = Matrix::new(&scores[column..], size, columns);
        let target = MatrixMut::new(out.numbers, [rows, out.dim], out.stride);
        match i {
            0 => target.set_in_cache(weights, v(run)),
            _ => target.add_in_cache(weights, v(run)),
        }
    }
    for (row, sum) in sums.into_iter().enumerate() {
        let inverse = 1.0 / sum;
        for o in &mut out.numbers[row * out.stride..][..out.dim] {
            *o *= inverse;
        }
    }
}

vectorized! {
    /// Turns raw scores into `exp(x − max x)`, 0 in columns that are not visible. Returns
    /// `log Σ exp x` and `Σ exp(x − max x)`.
    fn softmax(rule: &Rule, scores: &mut [f32], visible: [[usize; 2]; 2]) -> (f32, f32) {
        let mut max = f32::NEG_INFINITY;
        for [start, end] in visible {
            let scores = &mut scores[start..end];
            for score in &mut *scores {
                *score = rule.apply(*score).0;
            }
            max = max.max(cpu::max(scores));
        }
        let mut sum = 0.0;
        let mut hidden = 0;
        for [start, end] in visible {
            scores[hidden..start.max(hidden)].fill(0.0);
            let scores = &mut scores[start..end];
            for score in &mut *scores {
                *score = cpu::exp(*score - max);
            }
            sum += cpu::sum(scores);
            hidden = hidden.max(end);
        }
        scores[hidden..].fill(0.0);
        (max + sum.ln(), sum)
    }
}
