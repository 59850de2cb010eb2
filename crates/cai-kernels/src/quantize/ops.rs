//! Products with a quantised matrix, as one operation of the backend, so that autodiff keeps the
//! blocks and no dense weight.

use burn::{
    backend::{
        Autodiff, Backend, Dispatch, Flex,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
            grads::Gradients,
            ops::{Backward, Ops, OpsKind, unary},
        },
        backend_extension,
        tensor::FloatTensor,
    },
    tensor::{Device, Tensor, TensorData},
};
use burn_flex::FlexTensor;
use gemm::Parallelism;
use rayon::prelude::*;

use super::QuantMatrix;
use crate::{
    few::FEW,
    matrix::{Matrix, MatrixMut, threads},
};

/// Weights that are dense at a time inside a product, 16 MiB of f32: enough for the matrix product
/// to be worth its packing of the other operand.
const TILE: usize = 4 << 20;
/// The same in a product of few rows, which packs nothing, for each core: an eighth of a second-level
/// cache.
const CACHED_TILE: usize = 1 << 15;

/// `x·Wᵀ`: `[rows, in]` to `[rows, out]`, in the type of `x`.
pub fn matmul_transposed(x: Tensor<2>, weight: &QuantMatrix) -> Tensor<2> {
    let dtype = x.dtype();
    if x.device() != Device::flex() {
        return x.clone().matmul(dense(weight, &x.device()).cast(dtype).transpose());
    }
    let x = x.cast(burn::tensor::DType::F32);
    let y = Dispatch::quant_matmul(x.into_dispatch(), weight.clone());
    Tensor::<2>::from_dispatch(y).cast(dtype)
}

/// `y·W`: `[rows, out]` to `[rows, in]`, in the type of `y`.
pub fn matmul(y: Tensor<2>, weight: &QuantMatrix) -> Tensor<2> {
    let dtype = y.dtype();
    if y.device() != Device::flex() {
        return y.clone().matmul(dense(weight, &y.device()).cast(dtype));
    }
    let y = y.cast(burn::tensor::DType::F32);
    let x = Dispatch::quant_matmul_backward(y.into_dispatch(), weight.clone());
    Tensor::<2>::from_dispatch(x).cast(dtype)
}

/// The whole matrix as a dense tensor, `[out, in]` in f32.
pub fn dense(weight: &QuantMatrix, device: &Device) -> Tensor<2> {
    let [rows, width] = weight.size();
    Tensor::from_data(TensorData::new(weight.rows(0, rows), [rows, width]), device)
}

/// The two products, in f32.
#[backend_extension(Flex, Autodiff)]
pub trait QuantOps: Backend {
    /// `x·Wᵀ`.
    fn quant_matmul(x: FloatTensor<Self>, weight: QuantMatrix) -> FloatTensor<Self>;
    /// `y·W`, the gradient of the first with respect to x where y is that of its result.
    fn quant_matmul_backward(y: FloatTensor<Self>, weight: QuantMatrix) -> FloatTensor<Self>;
}

impl QuantOps for Flex {
    fn quant_matmul(x: FlexTensor, weight: QuantMatrix) -> FlexTensor {
        let x = Matrix::of(&x);
        match x.rows() <= FEW {
            true => few_rows(x, &weight),
            false => many_rows(x, &weight),
        }
    }

    fn quant_matmul_backward(y: FlexTensor, weight: QuantMatrix) -> FlexTensor {
        let [_, width] = weight.size();
        let rows = y.layout().shape()[0];
        let mut x = vec![0f32; rows * width];
        for_each_tile(&weight, |start, tile| {
            let y = y.narrow(1, start, tile.rows());
            let threads = threads(rows * tile.rows() * width);
            let x = MatrixMut::new(&mut x, [rows, width], width);
            x.add(1.0, Matrix::of(&y), tile, threads);
        });
        FlexTensor::from_data(TensorData::new(x, [rows, width]))
    }
}

/// Decoding: a tile stays in the cache of its core between being made and being used, and each weight
/// is read from memory once, as it is stored.
fn few_rows(x: Matrix, weight: &QuantMatrix) -> FlexTensor {
    let ([out, width], rows) = (weight.size(), x.rows());
    let count = (CACHED_TILE / width.max(1)).max(4);
    let starts: Vec<usize> = (0..out).step_by(count).collect();
    let products = starts.into_par_iter().map_init(Vec::new, |tile, start| {
        let count = count.min(out - start);
        tile.resize(count * width, 0.0);
        for (i, row) in tile.chunks_exact_mut(width.max(1)).enumerate() {
            weight.row(start + i, row);
        }
        let mut y = vec![0f32; rows * count];
        let tile = Matrix::new(tile, [count, width], width);
        MatrixMut::new(&mut y, [rows, count], count).set(1.0, x, tile.t(), Parallelism::None);
        (start, count, y)
    });
    let mut y = vec![0f32; rows * out];
    for (start, count, product) in products.collect::<Vec<_>>() {
        for (y, product) in y.chunks_exact_mut(out).zip(product.chunks_exact(count)) {
            y[start..start + count].copy_from_slice(product);
        }
    }
    FlexTensor::from_data(TensorData::new(y, [rows, out]))
}

fn many_rows(x: Matrix, weight: &QuantMatrix) -> FlexTensor {
    let ([out, width], rows) = (weight.size(), x.rows());
    let mut y = vec![0f32; rows * out];
    for_each_tile(weight, |start, tile| {
        let size = [rows, tile.rows()];
        let threads = threads(rows * tile.rows() * width);
        MatrixMut::new(&mut y[start..], size, out).set(1.0, x, tile.t(), threads);
    });
    FlexTensor::from_data(TensorData::new(y, [rows, out]))
}

/// Calls `product` with rows of the matrix, about [`TILE`] weights at a time, and the first row's number.
fn for_each_tile(weight: &QuantMatrix, mut product: impl FnMut(usize, Matrix)) {
    let [out, width] = weight.size();
    let count = (TILE / width.max(1)).clamp(1, out.max(1));
    let mut tile = vec![0f32; count * width];
    for start in (0..out).step_by(count) {
        let count = count.min(out - start);
        let tile = &mut tile[..count * width];
        weight.decode(start, tile);
        product(start, Matrix::new(tile, [count, width], width));
    }
}

#[derive(Debug)]
struct QuantMatmul;

impl<B: QuantOps> Backward<B, 1> for QuantMatmul {
    type State = QuantMatrix;

    fn backward(self, ops: Ops<QuantMatrix, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let weight = ops.state;
        unary::<B, _>(ops.parents, ops.node, grads, |y| B::quant_matmul_backward(y, weight));
    }
}

#[derive(Debug)]
struct QuantMatmulBackward;

impl<B: QuantOps> Backward<B, 1> for QuantMatmulBackward {
    type State = QuantMatrix;

    fn backward(self, ops: Ops<QuantMatrix, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let weight = ops.state;
        unary::<B, _>(ops.parents, ops.node, grads, |x| B::quant_matmul(x, weight));
    }
}

impl<B: QuantOps, C: CheckpointStrategy> QuantOps for Autodiff<B, C> {
    fn quant_matmul(x: FloatTensor<Self>, weight: QuantMatrix) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        match QuantMatmul.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(weight.clone(), B::quant_matmul(x, weight)),
            OpsKind::UnTracked(prep) => prep.finish(B::quant_matmul(x, weight)),
        }
    }

    fn quant_matmul_backward(y: FloatTensor<Self>, weight: QuantMatrix) -> FloatTensor<Self> {
        let (y, node) = y.into_parts();
        match QuantMatmulBackward.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                prep.finish(weight.clone(), B::quant_matmul_backward(y, weight))
            }
            OpsKind::UnTracked(prep) => prep.finish(B::quant_matmul_backward(y, weight)),
        }
    }
}
