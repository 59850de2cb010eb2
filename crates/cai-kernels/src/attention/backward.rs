use burn::tensor::TensorData;
use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::{
    Rule,
    block::{Keys, View, layout, queries_of_block},
};
use crate::{
    cpu::{self, vectorized},
    matrix::{Matrix, MatrixMut},
};

/// Tasks that a batch is cut into at least. It does not depend on the number of cores, so that sums
/// have the same order, and results the same bytes, everywhere.
const TASKS: usize = 8;

/// Gradients of q, k and v.
///
/// A task is a part of a row's queries, all heads. Queries of different tasks see the same keys: each
/// task sums its own gradients of k and v, and these are added up at the end.
pub(super) fn attention(
    [q, k, v]: [FlexTensor; 3],
    out: &FlexTensor,
    grad: &FlexTensor,
    log_sums: &[f32],
    rule: &Rule,
) -> [FlexTensor; 3] {
    let [batch, heads, queries, dim] = q.layout().shape().dims();
    let [_, kv_heads, keys, _] = k.layout().shape().dims();
    let block = queries_of_block(keys);
    let parts = TASKS.div_ceil(batch.max(1)).min(queries.div_ceil(block)).max(1);
    let part = queries.div_ceil(parts).next_multiple_of(block);
    let views = Views {
        q: View::new(&q),
        k: View::new(&k),
        v: View::new(&v),
        out: View::new(out),
        grad: View::new(grad),
    };

    let mut dq = vec![0.0f32; batch * queries * heads * dim];
    let rows = dq.chunks_mut((queries * heads * dim).max(1)).enumerate();
    let tasks: Vec<_> = rows
        .flat_map(|(b, dq)| {
            let pieces = dq.chunks_mut(part * heads * dim).enumerate();
            pieces.map(move |(i, dq)| (b, i * part, dq))
        })
        .collect();
    let size = keys * kv_heads * dim;
    let sums: Vec<(usize, [Vec<f32>; 2])> = tasks
        .into_par_iter()
        .map(|(b, start, dq)| {
            let mut task = Task {
                rule,
                views: &views,
                b,
                heads,
                kv_heads,
                dim,
                log_sums,
                queries,
                dk: vec![0.0; size],
                dv: vec![0.0; size],
                scores: Vec::new(),
                slopes: Vec::new(),
            };
            for (i, dq) in dq.chunks_mut(block * heads * dim).enumerate() {
                task.block(start + i * block, dq);
            }
            (b, [task.dk, task.dv])
        })
        .collect();
    let mut dkv: [Vec<f32>; 2] =
        [Vec::with_capacity(batch * size), Vec::with_capacity(batch * size)];
    for (b, sums) in sums {
        for (total, sum) in dkv.iter_mut().zip(sums) {
            match total.len() == b * size {
                true => total.extend(sum),
                false => {
                    total[b * size..].iter_mut().zip(sum).for_each(|(total, sum)| *total += sum)
                }
            }
        }
    }
    let tensor = |values: Vec<f32>, shape: [usize; 4]| {
        let len = values.len();
        FlexTensor::from_data(TensorData::new(values, [len])).with_layout(layout(shape))
    };
    let [dk, dv] = dkv.map(|values| tensor(values, [batch, kv_heads, keys, dim]));
    [tensor(dq, [batch, heads, queries, dim]), dk, dv]
}

struct Views<'a> {
    q: View<'a>,
    k: View<'a>,
    v: View<'a>,
    out: View<'a>,
    grad: View<'a>,
}

/// A part of one row's queries.
struct Task<'a> {
    rule: &'a Rule,
    views: &'a Views<'a>,
    b: usize,
    queries: usize,
    heads: usize,
    kv_heads: usize,
    dim: usize,
    log_sums: &'a [f32],
    /// `[keys, kv_heads, dim]`.
    dk: Vec<f32>,
    dv: Vec<f32>,
    /// Scores of a block, then p.
    scores: Vec<f32>,
    /// ∂p of a block, then ∂s times scale.
    slopes: Vec<f32>,
}

impl Task<'_> {
    /// All heads of a block of queries; `dq`: `[queries of the block, heads, dim]`.
    fn block(&mut self, start: usize, dq: &mut [f32]) {
        let (b, dim, views) = (self.b, self.dim, self.views);
        let count = dq.len() / (self.heads * dim);
        let queries = [start, start + count];
        let seen = &self.rule.visibility.row(b)[start..start + count];
        let keys = Keys::of(seen);
        let columns = keys.columns;
        for buffer in [&mut self.scores, &mut self.slopes] {
            buffer.resize(buffer.len().max(count * columns), 0.0);
        }
        for head in 0..self.heads {
            let kv_head = head / (self.heads / self.kv_heads);
            let scores = &mut self.scores[..count * columns];
            let slopes = &mut self.slopes[..count * columns];
            let q = views.q.tokens([b, head], queries);
            let grad = views.grad.tokens([b, head], queries);
            for (run, column) in keys.with_columns() {
                let size = [count, run[1] - run[0]];
                let (k, v) = (views.k.tokens([b, kv_head], run), views.v.tokens([b, kv_head], run));
                let scores = MatrixMut::new(&mut scores[column..], size, columns);
                scores.set_in_cache(q, k.t());
                let slopes = MatrixMut::new(&mut slopes[column..], size, columns);
                slopes.set_in_cache(grad, v.t());
            }
            let rows = scores.chunks_exact_mut(columns).zip(slopes.chunks_exact_mut(columns));
            for (row, (scores, slopes)) in rows.enumerate() {
                let token = start + row;
                let at = [b, head, token];
                let (out, grad) = (views.out.row(at), views.grad.row(at));
                let log_sum = self.log_sums[(b * self.queries + token) * self.heads + head];
                let visible = keys.columns(&seen[row]);
                softmax_slopes(self.rule, scores, slopes, visible, log_sum, out, grad);
            }
            for (i, (run, column)) in keys.with_columns().enumerate() {
                let size = [count, run[1] - run[0]];
                let p = Matrix::new(&scores[column..], size, columns);
                let ds = Matrix::new(&slopes[column..], size, columns);
                let stride = self.kv_heads * dim;
                let at = run[0] * stride + kv_head * dim;
                let size = [size[1], dim];
                let dk = MatrixMut::new(&mut self.dk[at..], size, stride);
                dk.add_in_cache(ds.t(), q);
                let dv = MatrixMut::new(&mut self.dv[at..], size, stride);
                dv.add_in_cache(p.t(), grad);
                let dq = MatrixMut::new(&mut dq[head * dim..], [count, dim], self.heads * dim);
                let k = views.k.tokens([b, kv_head], run);
                match i {
                    0 => dq.set_in_cache(ds, k),
                    _ => dq.add_in_cache(ds, k),
                }
            }
        }
    }
}

vectorized! {
    /// Turns raw scores into p, and ∂p into `scale·∂s = scale·p·(∂p − mean)·∂x/∂s`; both 0 in columns
    /// that are not visible. `mean`
    /// is D, from the query's output and its gradient.
    fn softmax_slopes(
        rule: &Rule,
        scores: &mut [f32],
        slopes: &mut [f32],
        visible: [[usize; 2]; 2],
        log_sum: f32,
        out: &[f32],
        grad: &[f32],
    ) {
        // D
        let mean = cpu::dot(out, grad);
        let mut hidden = 0;
        for [start, end] in visible {
            let before = hidden..start.max(hidden);
            scores[before.clone()].fill(0.0);
            slopes[before].fill(0.0);
            for (score, slope) in scores[start..end].iter_mut().zip(&mut slopes[start..end]) {
                let (x, bend) = rule.apply(*score);
                let p = cpu::exp(x - log_sum);
                *score = p;
                *slope = p * (*slope - mean) * bend * rule.scale;
            }
            hidden = hidden.max(end);
        }
        scores[hidden..].fill(0.0);
        slopes[hidden..].fill(0.0);
    }
}
