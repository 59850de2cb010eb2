//! Matrices in memory, and their product: by [`few`](super::few) where there are few rows, else by the
//! `gemm` crate, which is what Flex uses too. Strides make transposes and columns of wider matrices
//! free, and a product may be added to what stands in the output.

use std::{marker::PhantomData, mem::MaybeUninit};

use burn_flex::FlexTensor;
use gemm::Parallelism;

use super::few::{FEW, Order, Product};

/// The same for the products of one core's task. Operands that it has in its cache are packed in no
/// time, and what is left favours `gemm` from fewer rows on.
const FEW_IN_CACHE: usize = 16;

/// A matrix to read: `rows × cols` numbers, some strides apart.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    numbers: &'a [f32],
    size: [usize; 2],
    strides: [usize; 2],
}

impl<'a> Matrix<'a> {
    /// Rows that begin `stride` numbers apart.
    pub(super) fn new(numbers: &'a [f32], [rows, cols]: [usize; 2], stride: usize) -> Self {
        assert!(rows == 0 || (rows - 1) * stride + cols <= numbers.len(), "rows beyond the end");
        Self { numbers, size: [rows, cols], strides: [stride, 1] }
    }

    /// A whole tensor with two dimensions, in any order.
    pub(super) fn of(x: &'a FlexTensor) -> Self {
        let (layout, start) = (x.layout(), x.layout().start_offset());
        let size = layout.shape().dims();
        let strides = [0, 1].map(|axis| layout.strides()[axis].max(0) as usize);
        let numbers = &x.storage::<f32>()[start..];
        let last = |axis: usize| size[axis].saturating_sub(1) * strides[axis];
        assert!(last(0) + last(1) < numbers.len().max(1), "a tensor beyond its storage");
        Self { numbers, size, strides }
    }

    pub(super) fn rows(&self) -> usize {
        self.size[0]
    }

    pub(super) fn cols(&self) -> usize {
        self.size[1]
    }

    /// Rows and columns exchanged.
    pub(super) fn t(self) -> Self {
        let ([rows, cols], [row, col]) = (self.size, self.strides);
        Self { numbers: self.numbers, size: [cols, rows], strides: [col, row] }
    }
}

/// A matrix to write.
pub(super) struct MatrixMut<'a> {
    numbers: *mut f32,
    size: [usize; 2],
    stride: usize,
    lifetime: PhantomData<&'a mut [f32]>,
}

impl<'a> MatrixMut<'a> {
    /// Rows that begin `stride` numbers apart.
    pub(super) fn new(numbers: &'a mut [f32], size: [usize; 2], stride: usize) -> Self {
        let [rows, cols] = size;
        assert!(rows == 0 || (rows - 1) * stride + cols <= numbers.len(), "rows beyond the end");
        assert!(rows <= 1 || cols <= stride, "rows that overlap");
        Self { numbers: numbers.as_mut_ptr(), size, stride, lifetime: PhantomData }
    }

    /// Sets it to `scale · lhs · rhs`.
    pub(super) fn set(self, scale: f32, lhs: Matrix, rhs: Matrix, threads: Parallelism) {
        self.product(false, scale, lhs, rhs, threads, FEW);
    }

    /// Adds `scale · lhs · rhs`.
    pub(super) fn add(self, scale: f32, lhs: Matrix, rhs: Matrix, threads: Parallelism) {
        self.product(true, scale, lhs, rhs, threads, FEW);
    }

    /// Sets it to `lhs · rhs`, which are in this core's cache.
    pub(super) fn set_in_cache(self, lhs: Matrix, rhs: Matrix) {
        self.product(false, 1.0, lhs, rhs, Parallelism::None, FEW_IN_CACHE);
    }

    /// Adds `lhs · rhs`, which are in this core's cache.
    pub(super) fn add_in_cache(self, lhs: Matrix, rhs: Matrix) {
        self.product(true, 1.0, lhs, rhs, Parallelism::None, FEW_IN_CACHE);
    }

    fn product(
        self,
        add: bool,
        scale: f32,
        lhs: Matrix,
        rhs: Matrix,
        threads: Parallelism,
        few: usize,
    ) {
        let ([m, k], [_, n]) = (lhs.size, rhs.size);
        assert_eq!((rhs.size[0], self.size), (k, [m, n]), "sizes of a matrix product");
        let product = if m <= few { self.few_rows(add, scale, lhs, rhs) } else { None };
        if let Some(product) = product {
            // SAFETY: as below.
            return unsafe { product.run(!matches!(threads, Parallelism::None)) };
        }
        let [lhs_row, lhs_col] = lhs.strides.map(|s| s as isize);
        let [rhs_row, rhs_col] = rhs.strides.map(|s| s as isize);
        // SAFETY: all three matrices lie within their slices, which the constructors checked; the
        // output is borrowed mutably, so that it overlaps neither input. Without `add` it is not read.
        unsafe {
            gemm::gemm(
                m,
                n,
                k,
                self.numbers,
                1,
                self.stride as isize,
                add,
                lhs.numbers.as_ptr(),
                lhs_col,
                lhs_row,
                rhs.numbers.as_ptr(),
                rhs_col,
                rhs_row,
                1.0f32,
                scale,
                false,
                false,
                false,
                threads,
            );
        }
    }
}

impl MatrixMut<'_> {
    /// The product as one of few rows, if it is one and its operands lie in order.
    fn few_rows(&self, add: bool, scale: f32, lhs: Matrix, rhs: Matrix) -> Option<Product> {
        let ([rows, inputs], outputs) = (lhs.size, rhs.size[1]);
        // Without inputs there is nothing to add up, and it would leave the output as it is.
        if inputs == 0 || lhs.strides[1] != 1 {
            return None;
        }
        let (order, stride) = match rhs.strides {
            [1, column] => (Order::ByRows, column),
            [row, 1] => (Order::ByColumns, row),
            _ => return None,
        };
        let (x, w, y) = (lhs.numbers.as_ptr(), rhs.numbers.as_ptr(), self.numbers);
        let strides = [lhs.strides[0], stride, self.stride];
        Some(Product { x, w, y, strides, rows, inputs, outputs, order, scale, add })
    }
}

/// `scale · lhs · rhs` into memory that holds nothing yet, row-major, all of it.
pub(super) fn product(
    out: &mut [MaybeUninit<f32>],
    scale: f32,
    lhs: Matrix,
    rhs: Matrix,
    threads: Parallelism,
) {
    let size = [lhs.size[0], rhs.size[1]];
    assert_eq!(out.len(), size[0] * size[1]);
    let numbers = out.as_mut_ptr().cast::<f32>();
    let out = MatrixMut { numbers, size, stride: size[1], lifetime: PhantomData };
    out.set(scale, lhs, rhs, threads);
}

/// All cores for a product of `m·n·k` steps, one for a small one.
pub(super) fn threads(steps: usize) -> Parallelism {
    match steps >= 1 << 20 {
        true => Parallelism::Rayon(0),
        false => Parallelism::None,
    }
}
