//! A block of queries of one head, and the keys that any of them sees.

use burn_flex::{FlexTensor, Layout};

use super::Rule;
use crate::{Seen, cpu, matrix::Matrix};

/// Scores of one block, at most: 512 KiB, half of a second-level cache.
const SCORES: usize = 1 << 17;

/// The tensor `[batch, heads, tokens, dim]` with each token's `dim` numbers side by side; a copy only
/// if they are not.
pub(super) fn rows(x: &FlexTensor) -> FlexTensor {
    let strides = x.layout().strides();
    match strides[3] == 1 && strides[..3].iter().all(|&stride| stride >= 0) {
        true => x.clone(),
        false => x.to_contiguous(),
    }
}

/// Queries of one block, for rows that look at up to `keys` keys.
pub(super) fn queries_of_block(keys: usize) -> usize {
    (SCORES / keys.max(1)).clamp(16, 64)
}

/// A tensor `[batch, heads, tokens, dim]` whose tokens can be read as matrices.
pub(super) struct View<'a> {
    numbers: &'a [f32],
    strides: [usize; 3],
    dim: usize,
}

impl<'a> View<'a> {
    /// `x` must have come from [`rows`].
    pub(super) fn new(x: &'a FlexTensor) -> Self {
        let layout = x.layout();
        let strides = [0, 1, 2].map(|axis| layout.strides()[axis] as usize);
        let numbers = &x.storage::<f32>()[layout.start_offset()..];
        Self { numbers, strides, dim: layout.shape()[3] }
    }

    /// Tokens `[start, end)` of one head, `[tokens, dim]`.
    pub(super) fn tokens(&self, [b, head]: [usize; 2], [start, end]: [usize; 2]) -> Matrix<'a> {
        let [batch, heads, tokens] = self.strides;
        let at = b * batch + head * heads + start * tokens;
        Matrix::new(&self.numbers[at..], [end - start, self.dim], tokens)
    }

    /// Heads `[start, end)` of one token, `[heads, dim]`.
    pub(super) fn heads(&self, [b, token]: [usize; 2], [start, end]: [usize; 2]) -> Matrix<'a> {
        let [batch, heads, tokens] = self.strides;
        let at = b * batch + token * tokens + start * heads;
        Matrix::new(&self.numbers[at..], [end - start, self.dim], heads)
    }

    /// One token of one head.
    pub(super) fn row(&self, [b, head, token]: [usize; 3]) -> &'a [f32] {
        let [batch, heads, tokens] = self.strides;
        &self.numbers[b * batch + head * heads + token * tokens..][..self.dim]
    }
}

/// The layout `[batch, heads, tokens, dim]` of numbers that lie as `[batch, tokens, heads, dim]`:
/// what projections write and read.
pub(super) fn layout([batch, heads, tokens, dim]: [usize; 4]) -> Layout {
    Layout::contiguous([batch, tokens, heads, dim].into()).transpose(1, 2)
}

/// The keys that a block of queries sees, as at most two runs of keys. Scores have one column for
/// each of these keys, run after run.
pub(super) struct Keys {
    /// `[start, end)` of each run.
    pub(super) runs: Vec<[usize; 2]>,
    /// Columns in all.
    pub(super) columns: usize,
}

impl Keys {
    pub(super) fn of(queries: &[Seen]) -> Self {
        let mut runs: Vec<[usize; 2]> = Vec::with_capacity(2);
        for range in [|seen: &Seen| seen.prefix, |seen: &Seen| seen.own] {
            let ranges = queries.iter().map(range).filter(|[start, end]| start < end);
            let join = |a: [usize; 2], b: [usize; 2]| [a[0].min(b[0]), a[1].max(b[1])];
            let Some(run) = ranges.reduce(join) else { continue };
            match runs.last_mut() {
                Some(last) if run[0] <= last[1] && last[0] <= run[1] => *last = join(*last, run),
                _ => runs.push(run),
            }
        }
        let columns = runs.iter().map(|[start, end]| end - start).sum();
        Self { runs, columns }
    }

    /// Each run with the column of its first key.
    pub(super) fn with_columns(&self) -> impl Iterator<Item = ([usize; 2], usize)> {
        self.runs.iter().scan(0, |column, &[start, end]| {
            let first = *column;
            *column += end - start;
            Some(([start, end], first))
        })
    }

    /// The columns that a query sees: two ranges, in ascending order.
    pub(super) fn columns(&self, seen: &Seen) -> [[usize; 2]; 2] {
        let mut ranges = [seen.prefix, seen.own].map(|[start, end]| {
            let within = self.with_columns().find(|([s, e], _)| (*s..*e).contains(&start));
            match within {
                Some(([first, _], column)) if start < end => {
                    [column + start - first, column + end - first]
                }
                _ => [0, 0],
            }
        });
        ranges.sort_unstable();
        ranges
    }
}

impl Rule {
    /// x of a raw score q·k, and the derivative of x by the scaled score.
    #[inline(always)]
    pub(super) fn apply(&self, raw: f32) -> (f32, f32) {
        let score = raw * self.scale;
        match self.softcap {
            None => (score, 1.0),
            Some(cap) => {
                let tanh = cpu::tanh(score / cap);
                (cap * tanh, (-tanh).mul_add(tanh, 1.0))
            }
        }
    }
}
