//! Attention; the maths is in `attention/mod.rs`.
//!
//! Products are Burn's, tuned for the device and on its matrix units; what stands between them is one
//! kernel over the scores of a block of queries, in place. Scores live no longer than their block.

use burn::{
    backend::{
        Slice, TensorMetadata,
        ops::{FloatTensorOps, IntTensorOps},
    },
    tensor::{DType, TensorData},
};
use burn_cubecl::{CubeBackend, cubecl, kernel::into_contiguous, tensor::CubeTensor};
use cubecl::{ir::ElemType, prelude::*};

use super::{capped, cube_each, element, empty, max_of_cube, scratch, sum_of_cube};
use crate::attention::{AttentionOps, Rule};

/// Scores of one block, at most: 128 MiB in bf16. Few in tests, so that they see several blocks.
const SCORES: usize = if cfg!(test) { 1 << 14 } else { 1 << 26 };

impl AttentionOps for CubeBackend {
    fn attend(q: CubeTensor, k: CubeTensor, v: CubeTensor, rule: Rule) -> (CubeTensor, CubeTensor) {
        let task = Task::new(&q, &k, &rule);
        let [batch, heads, queries, _] = q.shape().dims();
        let log_sums = empty(&q, [batch, queries, heads], DType::F32);
        let outs = task.blocks().map(|block| {
            let [k, v] = [&k, &v].map(|x| block.keys_of(x));
            let scores = Self::float_matmul(block.queries_of(&q), Self::float_transpose(k));
            let p = task.softmax(&block, into_contiguous(scores), &log_sums);
            block.heads(Self::float_matmul(p, v))
        });
        (joined(outs.collect()), log_sums)
    }

    fn attend_backward(
        q: CubeTensor,
        k: CubeTensor,
        v: CubeTensor,
        out: CubeTensor,
        log_sums: CubeTensor,
        grad: CubeTensor,
        rule: Rule,
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        let task = Task::new(&q, &k, &rule);
        let mut dq = Vec::new();
        let mut dkv = None;
        for block in task.blocks() {
            let [seen_k, seen_v] = [&k, &v].map(|x| block.keys_of(x));
            let [q, out, grad] = [&q, &out, &grad].map(|x| into_contiguous(block.queries_of(x)));
            let scores = Self::float_matmul(q.clone(), Self::float_transpose(seen_k.clone()));
            let slopes = Self::float_matmul(grad.clone(), Self::float_transpose(seen_v));
            let [scores, slopes] = [scores, slopes].map(into_contiguous);
            let (p, ds) = task.slopes(&block, scores, slopes, &log_sums, out, grad.clone());
            dq.push(block.heads(Self::float_matmul(ds.clone(), seen_k)));
            let dk = Self::float_matmul(Self::float_transpose(ds), q);
            let dv = Self::float_matmul(Self::float_transpose(p), grad);
            dkv = Some(block.add(dkv, [dk, dv], &k));
        }
        let [dk, dv] = dkv.expect("there are queries");
        (joined(dq), dk, dv)
    }
}

/// Blocks of queries as one tensor again.
fn joined(mut blocks: Vec<CubeTensor>) -> CubeTensor {
    match blocks.len() {
        1 => blocks.remove(0),
        _ => CubeBackend::float_cat(blocks, 2),
    }
}

/// One call of attention.
struct Task<'a> {
    rule: &'a Rule,
    /// What each query sees: `[rows, queries, 4]`, two ranges of keys.
    seen: CubeTensor,
    batch: usize,
    heads: usize,
    kv_heads: usize,
    queries: usize,
    keys: usize,
    dim: usize,
}

/// Some queries of all rows and heads, and the keys that any of them sees.
struct Block {
    /// `[start, end)`.
    queries: [usize; 2],
    keys: [usize; 2],
    /// Rows of the batch, key heads, query heads of each, `dim`.
    shape: [usize; 4],
}

impl<'a> Task<'a> {
    fn new(q: &CubeTensor, k: &CubeTensor, rule: &'a Rule) -> Self {
        let [batch, heads, queries, dim] = q.shape().dims();
        let [_, kv_heads, keys, _] = k.shape().dims();
        let [rows, ..] = rule.visibility.dims();
        let ranges = (0..rows).flat_map(|row| rule.visibility.row(row)).flat_map(|seen| {
            let [[a, b], [c, d]] = [seen.prefix, seen.own];
            [a, b, c, d].map(|slot| slot as i32)
        });
        let ranges = TensorData::new(ranges.collect(), [rows, queries, 4]);
        let seen = CubeBackend::int_from_data(ranges, &q.device);
        Self { rule, seen, batch, heads, kv_heads, queries, keys, dim }
    }

    fn blocks(&self) -> impl Iterator<Item = Block> {
        let most = SCORES / (self.batch * self.heads * self.keys).max(1);
        let count = most.clamp(1, self.queries);
        (0..self.queries).step_by(count).map(move |start| {
            let end = self.queries.min(start + count);
            let [rows, ..] = self.rule.visibility.dims();
            let seen = (0..rows).flat_map(|row| &self.rule.visibility.row(row)[start..end]);
            let ranges = seen.flat_map(|seen| [seen.prefix, seen.own]).filter(|[a, b]| a < b);
            let keys = ranges.reduce(|a, b| [a[0].min(b[0]), a[1].max(b[1])]);
            Block {
                queries: [start, end],
                keys: keys.expect("a query sees a key"),
                shape: [self.batch, self.kv_heads, self.heads / self.kv_heads, self.dim],
            }
        })
    }

    /// Turns raw scores into p, and writes l.
    fn softmax(&self, block: &Block, scores: CubeTensor, log_sums: &CubeTensor) -> CubeTensor {
        let client = scores.client.clone();
        let (count, cube) = cube_each(&client, self.batch * self.heads * block.len());
        let (dtype, place) = (element(&scores), self.place(block));
        let args = [&scores, &self.seen, log_sums].map(|x| x.clone().into_tensor_arg());
        let [to, seen, log_sums] = args;
        // SAFETY: a cube writes one row of scores and one sum, and one behind the last row stops.
        unsafe {
            softmax::launch_unchecked(
                &client,
                count,
                cube,
                to,
                seen,
                log_sums,
                place,
                self.rule.scale,
                self.rule.softcap.unwrap_or(0.0),
                self.rule.softcap.is_some(),
                dtype,
            );
        }
        scores
    }

    /// Turns raw scores into p, and ∂p into `scale·∂s`.
    fn slopes(
        &self,
        block: &Block,
        scores: CubeTensor,
        slopes: CubeTensor,
        log_sums: &CubeTensor,
        out: CubeTensor,
        grad: CubeTensor,
    ) -> (CubeTensor, CubeTensor) {
        let client = scores.client.clone();
        let (count, cube) = cube_each(&client, self.batch * self.heads * block.len());
        let (dtype, place) = (element(&scores), self.place(block));
        let args = [&scores, &slopes, &self.seen, log_sums, &out, &grad];
        let [p, ds, seen, log_sums, out, grad] = args.map(|x| x.clone().into_tensor_arg());
        // SAFETY: as above, with a row of slopes.
        unsafe {
            softmax_slopes::launch_unchecked(
                &client,
                count,
                cube,
                p,
                ds,
                seen,
                log_sums,
                out,
                grad,
                place,
                self.rule.scale,
                self.rule.softcap.unwrap_or(0.0),
                self.rule.softcap.is_some(),
                dtype,
            );
        }
        (scores, slopes)
    }

    fn place(&self, block: &Block) -> PlaceLaunch {
        PlaceLaunch::new(
            self.batch as u32,
            self.heads as u32,
            self.queries as u32,
            block.queries[0] as u32,
            block.len() as u32,
            block.keys[0] as u32,
            (block.keys[1] - block.keys[0]) as u32,
        )
    }
}

impl Block {
    fn len(&self) -> usize {
        self.queries[1] - self.queries[0]
    }

    /// The block of `x` `[batch, heads, queries, dim]`, heads with one key head behind each other:
    /// `[batch, kv_heads, group · queries, dim]`.
    fn queries_of(&self, x: &CubeTensor) -> CubeTensor {
        let [batch, kv_heads, group, dim] = self.shape;
        let x = part(x, self.queries);
        CubeBackend::float_reshape(x, [batch, kv_heads, group * self.len(), dim].into())
    }

    /// The way back.
    fn heads(&self, x: CubeTensor) -> CubeTensor {
        let [batch, kv_heads, group, dim] = self.shape;
        CubeBackend::float_reshape(x, [batch, kv_heads * group, self.len(), dim].into())
    }

    /// The keys of `x` `[batch, kv_heads, keys, dim]` that the block sees.
    fn keys_of(&self, x: &CubeTensor) -> CubeTensor {
        part(x, self.keys)
    }

    /// Adds the block's gradients of keys and values to those of blocks before, if there were any.
    fn add(
        &self,
        sums: Option<[CubeTensor; 2]>,
        new: [CubeTensor; 2],
        k: &CubeTensor,
    ) -> [CubeTensor; 2] {
        if sums.is_none() && new[0].shape() == k.shape() {
            return new;
        }
        let zeros = || CubeBackend::float_zeros(k.shape(), &k.device, k.dtype.into());
        let [sum_k, sum_v] = sums.unwrap_or_else(|| [zeros(), zeros()]);
        let [new_k, new_v] = new;
        [(sum_k, new_k), (sum_v, new_v)].map(|(sum, new)| {
            let total = CubeBackend::float_add(part(&sum, self.keys), new);
            CubeBackend::float_slice_assign(sum, &slices(self.keys), total)
        })
    }
}

/// `[start, end)` of the tokens of `x` `[batch, heads, tokens, dim]`.
fn part(x: &CubeTensor, [start, end]: [usize; 2]) -> CubeTensor {
    let [_, _, tokens, _] = x.shape().dims::<4>();
    match [start, end] == [0, tokens] {
        true => x.clone(),
        false => CubeBackend::float_slice(x.clone(), &slices([start, end])),
    }
}

fn slices([start, end]: [usize; 2]) -> [Slice; 3] {
    [Slice::full(), Slice::full(), Slice::from(start..end)]
}

/// Where a block stands in the whole. Its scores are rows `[batch, heads, count]` of `columns`.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct Place {
    batch: u32,
    heads: u32,
    queries: u32,
    /// The first of the block's queries.
    first: u32,
    /// The number of the block's queries.
    count: u32,
    /// The key of the first column.
    first_key: u32,
    columns: u32,
}

#[cube]
impl Place {
    /// The row of the batch, the head and the query of a row of scores.
    fn find(&self, row: usize) -> (usize, usize, usize) {
        let (count, heads) = (self.count as usize, self.heads as usize);
        let query = self.first as usize + row % count;
        (row / count / heads, row / count % heads, query)
    }

    /// Where its l is.
    fn log_sum(&self, b: usize, head: usize, query: usize) -> usize {
        (b * self.queries as usize + query) * self.heads as usize + head
    }
}

/// The columns that one query sees, as `Seen` names the keys.
#[derive(CubeType, Clone, Copy)]
struct Columns {
    prefix_start: u32,
    prefix_end: u32,
    own_start: u32,
    own_end: u32,
}

#[cube]
impl Columns {
    fn of(seen: &Tensor<i32>, place: &Place, b: usize, query: usize) -> Columns {
        // Rows that are all the same are there once.
        let row = b % seen.shape(0);
        let at = (row * place.queries as usize + query) * 4;
        // An empty range may begin before the first key and wrap around: it stays empty.
        let first = place.first_key;
        Columns {
            prefix_start: u32::cast_from(seen[at]) - first,
            prefix_end: u32::cast_from(seen[at + 1]) - first,
            own_start: u32::cast_from(seen[at + 2]) - first,
            own_end: u32::cast_from(seen[at + 3]) - first,
        }
    }

    fn contain(&self, column: usize) -> bool {
        let column = column as u32;
        (column >= self.prefix_start && column < self.prefix_end)
            || (column >= self.own_start && column < self.own_end)
    }
}

#[cube(launch_unchecked)]
fn softmax<F: Float>(
    scores: &mut Tensor<F>,
    seen: &Tensor<i32>,
    log_sums: &mut Tensor<f32>,
    place: Place,
    scale: f32,
    cap: f32,
    #[comptime] with_cap: bool,
    #[define(F)] _dtype: ElemType,
) {
    let row = CUBE_POS;
    if row >= (place.batch * place.heads * place.count) as usize {
        terminate!();
    }
    let mut scratch = scratch();
    let (b, head, query) = place.find(row);
    let visible = Columns::of(seen, &place, b, query);
    let columns = place.columns as usize;
    let (unit, units) = (UNIT_POS as usize, CUBE_DIM as usize);

    // Infinity has no name in WGSL.
    let mut largest = f32::new(-3.0e38);
    let mut i = unit;
    while i < columns {
        if visible.contain(i) {
            let x = capped(f32::cast_from(scores[row * columns + i]) * scale, cap, with_cap);
            largest = max(largest, x);
        }
        i += units;
    }
    let largest = max_of_cube(largest, &mut scratch);
    let mut sum = 0.0f32;
    let mut i = unit;
    while i < columns {
        if visible.contain(i) {
            let x = capped(f32::cast_from(scores[row * columns + i]) * scale, cap, with_cap);
            sum += (x - largest).exp();
        }
        i += units;
    }
    let log_sum = largest + sum_of_cube(sum, &mut scratch).ln();
    if unit == 0 {
        log_sums[place.log_sum(b, head, query)] = log_sum;
    }
    let mut i = unit;
    while i < columns {
        let mut p = 0.0f32;
        if visible.contain(i) {
            let x = capped(f32::cast_from(scores[row * columns + i]) * scale, cap, with_cap);
            p = (x - log_sum).exp();
        }
        scores[row * columns + i] = F::cast_from(p);
        i += units;
    }
}

#[cube(launch_unchecked)]
fn softmax_slopes<F: Float>(
    scores: &mut Tensor<F>,
    slopes: &mut Tensor<F>,
    seen: &Tensor<i32>,
    log_sums: &Tensor<f32>,
    out: &Tensor<F>,
    grad: &Tensor<F>,
    place: Place,
    scale: f32,
    cap: f32,
    #[comptime] with_cap: bool,
    #[define(F)] _dtype: ElemType,
) {
    let row = CUBE_POS;
    if row >= (place.batch * place.heads * place.count) as usize {
        terminate!();
    }
    let mut scratch = scratch();
    let (b, head, query) = place.find(row);
    let visible = Columns::of(seen, &place, b, query);
    let columns = place.columns as usize;
    let (unit, units) = (UNIT_POS as usize, CUBE_DIM as usize);

    // D
    let dim = out.shape(3);
    let mut product = 0.0f32;
    let mut i = unit;
    while i < dim {
        product += f32::cast_from(out[row * dim + i]) * f32::cast_from(grad[row * dim + i]);
        i += units;
    }
    let mean = sum_of_cube(product, &mut scratch);
    let log_sum = log_sums[place.log_sum(b, head, query)];
    let mut i = unit;
    while i < columns {
        let at = row * columns + i;
        let mut p = 0.0f32;
        let mut slope = 0.0f32;
        if visible.contain(i) {
            let x = capped(f32::cast_from(scores[at]) * scale, cap, with_cap);
            p = (x - log_sum).exp();
            slope = p * (f32::cast_from(slopes[at]) - mean) * scale;
            if with_cap {
                slope *= 1.0f32 - (x / cap) * (x / cap);
            }
        }
        scores[at] = F::cast_from(p);
        slopes[at] = F::cast_from(slope);
        i += units;
    }
}
