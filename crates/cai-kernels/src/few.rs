//! Matrix products of few rows, which decoding is made of. A general product packs its operands
//! first, here most of the work; these read each weight once, where it lies.
//!
//! ```text
//! by rows:     y[r, o] = Σ_i x[r, i]·w[o, i]     vectors along i, added up at the end
//! by columns:  y[r, o] = Σ_i x[r, i]·w[i, o]     vectors along o, x[r, i] in every lane
//! ```
//!
//! A tile of rows and outputs stays in registers. Each output is summed in an order that depends
//! neither on the number of rows nor on the number of threads: a sequence gets the same logits in
//! any batch of few rows.

use rayon::prelude::*;

/// Rows up to which these products are used.
pub(super) const FEW: usize = 128;

/// Inputs that are summed before the next outputs: `FEW` rows of them fit into a core's cache.
const INPUTS: usize = 1024;

/// How the weights lie.
#[derive(Clone, Copy)]
pub(super) enum Order {
    /// `w[o, i]`, inputs side by side.
    ByRows,
    /// `w[i, o]`, outputs side by side.
    ByColumns,
}

/// `y = scale·x·w`, or added to y. Rows of x, of w as it lies and of y begin `strides` apart.
#[derive(Clone, Copy)]
pub(super) struct Product {
    pub(super) x: *const f32,
    pub(super) w: *const f32,
    pub(super) y: *mut f32,
    /// Of x, w and y.
    pub(super) strides: [usize; 3],
    pub(super) rows: usize,
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    pub(super) order: Order,
    pub(super) scale: f32,
    pub(super) add: bool,
}

// SAFETY: the parts that threads get write different outputs.
unsafe impl Send for Product {}
unsafe impl Sync for Product {}

impl Product {
    /// Computes it, on all cores if `share`.
    ///
    /// # Safety
    ///
    /// The pointers must be valid for the sizes and strides, y for writing and apart from x and w.
    pub(super) unsafe fn run(self, share: bool) {
        let parts = if share { rayon::current_num_threads() } else { 1 };
        if parts == 1 {
            // SAFETY: the caller's promise.
            return unsafe { self.part() };
        }
        let each = self.outputs.div_ceil(parts).next_multiple_of(64);
        (0..self.outputs.div_ceil(each)).into_par_iter().for_each(|i| {
            let first = i * each;
            // SAFETY: outputs from `first` on, within those of the whole.
            unsafe { self.of_outputs(first, each.min(self.outputs - first)).part() };
        });
    }

    unsafe fn of_outputs(self, first: usize, outputs: usize) -> Self {
        let at = match self.order {
            Order::ByRows => first * self.strides[1],
            Order::ByColumns => first,
        };
        // SAFETY: the caller's promise.
        unsafe { Self { w: self.w.add(at), y: self.y.add(first), outputs, ..self } }
    }

    unsafe fn of_inputs(self, first: usize, inputs: usize) -> Self {
        let at = match self.order {
            Order::ByRows => first,
            Order::ByColumns => first * self.strides[1],
        };
        let add = self.add || first > 0;
        // SAFETY: the caller's promise.
        unsafe { Self { x: self.x.add(first), w: self.w.add(at), inputs, add, ..self } }
    }

    unsafe fn of_rows(self, first: usize) -> Self {
        let [x, _, y] = self.strides;
        // SAFETY: the caller's promise.
        unsafe { Self { x: self.x.add(first * x), y: self.y.add(first * y), ..self } }
    }

    /// On one core, with its widest vectors.
    unsafe fn part(self) {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            if has!("avx512f") && has!("avx512dq") {
                // SAFETY: the machine has these instructions; the caller's promise.
                return unsafe { x86::avx512(self) };
            }
            if has!("avx2") && has!("fma") {
                // SAFETY: the machine has these instructions; the caller's promise.
                return unsafe { x86::avx2(self) };
            }
        }
        // SAFETY: the caller's promise.
        unsafe { self.blocks::<[f32; 8]>() }
    }

    #[inline(always)]
    unsafe fn blocks<V: Vector>(self) {
        for first in (0..self.inputs).step_by(INPUTS) {
            // SAFETY: the caller's promise.
            unsafe { self.of_inputs(first, INPUTS.min(self.inputs - first)).block::<V>() };
        }
    }

    #[inline(always)]
    unsafe fn block<V: Vector>(self) {
        let mut first = 0;
        while first < self.outputs {
            let left = self.outputs - first;
            // SAFETY: the tiles cover `count` outputs, which are left.
            first += unsafe {
                match self.order {
                    Order::ByRows if left >= 4 => self.rows_of::<V, 4>(first),
                    Order::ByRows => self.rows_of::<V, 1>(first),
                    Order::ByColumns if left >= 4 * V::LANES => self.columns_of::<V, 4>(first),
                    Order::ByColumns if left >= V::LANES => self.columns_of::<V, 1>(first),
                    Order::ByColumns => self.columns_of::<f32, 1>(first),
                }
            };
        }
    }

    /// All rows of `O` outputs, by rows.
    #[inline(always)]
    unsafe fn rows_of<V: Vector, const O: usize>(self, first: usize) -> usize {
        let mut row = 0;
        while row < self.rows {
            // SAFETY: the caller's promise, for rows and outputs that are there.
            unsafe {
                let product = self.of_outputs(first, O).of_rows(row);
                row += match (self.rows - row).min(V::ROWS) {
                    1 => product.row_tile::<V, 1, O>(),
                    2 => product.row_tile::<V, 2, O>(),
                    3 => product.row_tile::<V, 3, O>(),
                    _ => product.row_tile::<V, 4, O>(),
                };
            }
        }
        O
    }

    #[inline(always)]
    unsafe fn row_tile<V: Vector, const R: usize, const O: usize>(self) -> usize {
        let ([x_stride, w_stride, y_stride], whole) =
            (self.strides, self.inputs / V::LANES * V::LANES);
        // SAFETY: all reads and writes are within R rows, O outputs and the inputs.
        unsafe {
            let mut sums = [[V::splat(0.0); O]; R];
            for i in (0..whole).step_by(V::LANES) {
                // Those of the next tile. Rows of a few hundred weights are too short for the machine to
                // see by itself where the reading goes on.
                for o in O..2 * O {
                    prefetch(self.w.wrapping_add(o * w_stride + i));
                }
                let x: [V; R] = std::array::from_fn(|r| V::load(self.x.add(r * x_stride + i)));
                let w: [V; O] = std::array::from_fn(|o| V::load(self.w.add(o * w_stride + i)));
                for (sums, x) in sums.iter_mut().zip(x) {
                    for (sum, &w) in sums.iter_mut().zip(&w) {
                        *sum = x.times_plus(w, *sum);
                    }
                }
            }
            for (r, sums) in sums.into_iter().enumerate() {
                for (o, mut sum) in V::sums(sums).into_iter().enumerate() {
                    for i in whole..self.inputs {
                        sum += *self.x.add(r * x_stride + i) * *self.w.add(o * w_stride + i);
                    }
                    let y = self.y.add(r * y_stride + o);
                    *y = if self.add { *y + self.scale * sum } else { self.scale * sum };
                }
            }
        }
        R
    }

    /// All rows of `O` vectors of outputs, by columns.
    #[inline(always)]
    unsafe fn columns_of<V: Vector, const O: usize>(self, first: usize) -> usize {
        let mut row = 0;
        while row < self.rows {
            // SAFETY: the caller's promise, for rows and outputs that are there.
            unsafe {
                let product = self.of_outputs(first, O * V::LANES).of_rows(row);
                row += match (self.rows - row).min(V::ROWS) {
                    1 => product.column_tile::<V, 1, O>(),
                    2 => product.column_tile::<V, 2, O>(),
                    3 => product.column_tile::<V, 3, O>(),
                    _ => product.column_tile::<V, 4, O>(),
                };
            }
        }
        O * V::LANES
    }

    #[inline(always)]
    unsafe fn column_tile<V: Vector, const R: usize, const O: usize>(self) -> usize {
        let [x_stride, w_stride, y_stride] = self.strides;
        // SAFETY: all reads and writes are within R rows, O vectors of outputs and the inputs.
        unsafe {
            let mut sums = [[V::splat(0.0); O]; R];
            for i in 0..self.inputs {
                let w: [V; O] =
                    std::array::from_fn(|o| V::load(self.w.add(i * w_stride + o * V::LANES)));
                for (r, sums) in sums.iter_mut().enumerate() {
                    let x = V::splat(*self.x.add(r * x_stride + i));
                    for (sum, &w) in sums.iter_mut().zip(&w) {
                        *sum = x.times_plus(w, *sum);
                    }
                }
            }
            let scale = V::splat(self.scale);
            for (r, sums) in sums.into_iter().enumerate() {
                for (o, sum) in sums.into_iter().enumerate() {
                    let y = self.y.add(r * y_stride + o * V::LANES);
                    let before = if self.add { V::load(y) } else { V::splat(0.0) };
                    scale.times_plus(sum, before).store(y);
                }
            }
        }
        R
    }
}

/// Has the numbers at `from`, if there are any, on their way before they are loaded.
#[inline(always)]
fn prefetch(from: *const f32) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: every x86-64 has the instruction, which does nothing for an invalid address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = from;
}

/// Numbers that one instruction handles.
trait Vector: Copy {
    const LANES: usize;
    /// Rows of a tile of four outputs: as many as registers hold, at most 4.
    const ROWS: usize;

    unsafe fn splat(x: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    /// `self·b + c`.
    unsafe fn times_plus(self, b: Self, c: Self) -> Self;
    /// The sum of the lanes.
    unsafe fn sum(self) -> f32;

    /// The sum of the lanes of each.
    #[inline(always)]
    unsafe fn four_sums(vectors: [Self; 4]) -> [f32; 4] {
        let [a, b, c, d] = vectors;
        // SAFETY: the caller has this kind of vector.
        unsafe { [a.sum(), b.sum(), c.sum(), d.sum()] }
    }

    /// The sum of the lanes of each.
    #[inline(always)]
    unsafe fn sums<const O: usize>(vectors: [Self; O]) -> [f32; O] {
        let mut sums = [0.0; O];
        let (fours, rest) = vectors.as_chunks::<4>();
        let (four_sums, rest_sums) = sums.as_chunks_mut::<4>();
        // SAFETY: the caller has this kind of vector.
        unsafe {
            for (sums, vectors) in four_sums.iter_mut().zip(fours) {
                *sums = Self::four_sums(*vectors);
            }
            for (sum, vector) in rest_sums.iter_mut().zip(rest) {
                *sum = vector.sum();
            }
        }
        sums
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Product, Vector};

    #[target_feature(enable = "avx512f,avx512dq,avx2,fma")]
    pub(super) unsafe fn avx512(product: Product) {
        // SAFETY: the caller's promise, here and below.
        unsafe { product.blocks::<__m512>() }
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn avx2(product: Product) {
        unsafe { product.blocks::<__m256>() }
    }

    impl Vector for __m512 {
        const LANES: usize = 16;
        const ROWS: usize = 4;

        #[inline(always)]
        unsafe fn splat(x: f32) -> Self {
            // SAFETY: the caller has AVX-512, here and below.
            unsafe { _mm512_set1_ps(x) }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            unsafe { _mm512_loadu_ps(from) }
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            unsafe { _mm512_storeu_ps(to, self) }
        }
        #[inline(always)]
        unsafe fn times_plus(self, b: Self, c: Self) -> Self {
            unsafe { _mm512_fmadd_ps(self, b, c) }
        }
        #[inline(always)]
        unsafe fn sum(self) -> f32 {
            unsafe { halves(self).sum() }
        }
        #[inline(always)]
        unsafe fn four_sums([a, b, c, d]: [Self; 4]) -> [f32; 4] {
            unsafe { __m256::four_sums([halves(a), halves(b), halves(c), halves(d)]) }
        }
    }

    /// The sum of the two halves.
    #[inline(always)]
    unsafe fn halves(x: __m512) -> __m256 {
        // SAFETY: the caller has AVX-512.
        unsafe { _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps::<1>(x)) }
    }

    impl Vector for __m256 {
        const LANES: usize = 8;
        const ROWS: usize = 2;

        #[inline(always)]
        unsafe fn splat(x: f32) -> Self {
            // SAFETY: the caller has AVX2, here and below.
            unsafe { _mm256_set1_ps(x) }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            unsafe { _mm256_loadu_ps(from) }
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            unsafe { _mm256_storeu_ps(to, self) }
        }
        #[inline(always)]
        unsafe fn times_plus(self, b: Self, c: Self) -> Self {
            unsafe { _mm256_fmadd_ps(self, b, c) }
        }
        #[inline(always)]
        unsafe fn sum(self) -> f32 {
            unsafe {
                let four =
                    _mm_add_ps(_mm256_castps256_ps128(self), _mm256_extractf128_ps::<1>(self));
                let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
                _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
            }
        }
        #[inline(always)]
        unsafe fn four_sums([a, b, c, d]: [Self; 4]) -> [f32; 4] {
            unsafe {
                // Neighbours are added, then pairs of neighbours: each half holds a half of each sum.
                let both = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
                let four =
                    _mm_add_ps(_mm256_castps256_ps128(both), _mm256_extractf128_ps::<1>(both));
                let mut sums = [0.0; 4];
                _mm_storeu_ps(sums.as_mut_ptr(), four);
                sums
            }
        }
    }
}

/// For other machines, whose compiler turns it into the vectors that they have.
impl Vector for [f32; 8] {
    const LANES: usize = 8;
    const ROWS: usize = 2;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        [x; 8]
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's promise, here and below.
        unsafe { from.cast::<Self>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { to.cast::<Self>().write_unaligned(self) }
    }
    #[inline(always)]
    unsafe fn times_plus(self, b: Self, c: Self) -> Self {
        // Not `mul_add`, which is a call where the machine has no such instruction.
        std::array::from_fn(|i| self[i] * b[i] + c[i])
    }
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        let [a, b, c, d, e, f, g, h] = self;
        ((a + e) + (c + g)) + ((b + f) + (d + h))
    }
}

/// For outputs that do not fill a vector.
impl Vector for f32 {
    const LANES: usize = 1;
    const ROWS: usize = 4;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        x
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's promise, here and below.
        unsafe { *from }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { *to = self }
    }
    #[inline(always)]
    unsafe fn times_plus(self, b: Self, c: Self) -> Self {
        self * b + c
    }
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::random;

    fn numbers(name: &str, count: usize) -> Vec<f32> {
        random(name, [1, count]).into_data().iter().collect()
    }

    /// What this machine can run. SAFETY: of each, the caller's promise that the product's pointers
    /// are valid.
    fn units() -> Vec<unsafe fn(Product)> {
        let whole: unsafe fn(Product) = |product| unsafe { product.run(true) };
        let portable: unsafe fn(Product) = |product| unsafe { product.blocks::<[f32; 8]>() };
        let mut units = vec![whole, portable];
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma")
        {
            units.push(|product| unsafe { x86::avx2(product) });
        }
        units
    }

    /// Every vector unit, both orders, sizes around those of tiles, wider rows than they are read.
    #[test]
    fn products_are_the_sums() {
        let sizes =
            [(1, 1, 1), (1, 40, 19), (2, 16, 64), (5, 7, 3), (7, 100, 131), (FEW, 2100, 70)];
        for (rows, inputs, outputs) in sizes {
            for (order, w_rows, w_width) in
                [(Order::ByRows, outputs, inputs), (Order::ByColumns, inputs, outputs)]
            {
                let strides = [inputs + 3, w_width + 2, outputs + 1];
                let x = numbers("x", rows * strides[0]);
                let w = numbers("w", w_rows * strides[1]);
                let start = numbers("y", rows * strides[2]);
                let weight = |i: usize, o: usize| match order {
                    Order::ByRows => w[o * strides[1] + i],
                    Order::ByColumns => w[i * strides[1] + o],
                };
                for (add, scale) in [(false, 1.0), (true, 0.5)] {
                    let (x_at, w_at) = (x.as_ptr(), w.as_ptr());
                    let computed = |by: unsafe fn(Product)| {
                        let mut numbers = start.clone();
                        let y = numbers.as_mut_ptr();
                        // SAFETY: the vectors have rows of these strides.
                        unsafe {
                            by(Product {
                                x: x_at,
                                w: w_at,
                                y,
                                strides,
                                rows,
                                inputs,
                                outputs,
                                order,
                                scale,
                                add,
                            })
                        };
                        numbers
                    };
                    let all: Vec<Vec<f32>> = units().into_iter().map(computed).collect();
                    for r in 0..rows {
                        for o in 0..strides[2] {
                            let at = r * strides[2] + o;
                            if o >= outputs {
                                assert!(all.iter().all(|y| y[at].to_bits() == start[at].to_bits()));
                                continue;
                            }
                            let terms = (0..inputs)
                                .map(|i| x[r * strides[0] + i] as f64 * weight(i, o) as f64);
                            let before = if add { start[at] as f64 } else { 0.0 };
                            let exact = before + scale as f64 * terms.sum::<f64>();
                            let bound = 1e-6 * (inputs as f64).max(4.0);
                            for got in all.iter().map(|y| y[at]) {
                                let error = (got as f64 - exact).abs();
                                assert!(
                                    error < bound,
                                    "{rows}×{inputs}×{outputs}: {got}, not {exact}"
                                );
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_row_is_the_same_among_others() {
        let (inputs, outputs) = (3000, 700);
        let (x, w) = (numbers("x", FEW * inputs), numbers("w", outputs * inputs));
        let of = |rows: usize| {
            let mut y = vec![0.0f32; rows * outputs];
            let strides = [inputs, inputs, outputs];
            let (x, w, y_at) = (x.as_ptr(), w.as_ptr(), y.as_mut_ptr());
            let (order, scale, add) = (Order::ByRows, 1.0, false);
            let product =
                Product { x, w, y: y_at, strides, rows, inputs, outputs, order, scale, add };
            // SAFETY: the vectors have these sizes.
            unsafe { product.run(true) };
            y
        };
        let all = of(FEW);
        for rows in [1, 2, 3, 5, 17] {
            assert!(of(rows).iter().zip(&all).all(|(a, b)| a.to_bits() == b.to_bits()), "{rows}");
        }
    }
}
