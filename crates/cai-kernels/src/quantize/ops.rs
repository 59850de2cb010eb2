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
        ops::FloatTensorOps,
        tensor::FloatTensor,
    },
    tensor::{Device, Tensor, TensorData},
};
use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::{QuantMatrix, matrix::FEW_ROWS};

/// Weights that are dense at a time inside a product, 16 MiB of f32: enough for the matrix product
/// to be worth its packing of the other operand.
const TILE: usize = 4 << 20;

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
        let [out, width] = weight.size();
        let rows = x.layout().shape()[0];
        // Decoding: each weight is used so rarely that tiles are not worth making.
        if rows <= FEW_ROWS {
            return few_rows(x, &weight);
        }
        let tiles = tiles(out, width).map(|(start, count)| {
            let tile =
                FlexTensor::from_data(TensorData::new(weight.rows(start, count), [count, width]));
            Flex::float_matmul(x.clone(), tile.transpose(0, 1))
        });
        Flex::float_cat(tiles.collect(), 1)
    }

    fn quant_matmul_backward(y: FlexTensor, weight: QuantMatrix) -> FlexTensor {
        let [out, width] = weight.size();
        let products = tiles(out, width).map(|(start, count)| {
            let tile =
                FlexTensor::from_data(TensorData::new(weight.rows(start, count), [count, width]));
            Flex::float_matmul(y.narrow(1, start, count), tile)
        });
        let zero = || {
            let rows = y.layout().shape()[0];
            FlexTensor::from_data(TensorData::new(vec![0f32; rows * width], [rows, width]))
        };
        products.reduce(Flex::float_add).unwrap_or_else(zero)
    }
}

/// Row ranges (start, count) of about [`TILE`] weights each.
fn tiles(rows: usize, width: usize) -> impl Iterator<Item = (usize, usize)> {
    let count = (TILE / width.max(1)).clamp(1, rows.max(1));
    (0..rows).step_by(count).map(move |start| (start, count.min(rows - start)))
}

/// Each weight is read once, as it is stored.
fn few_rows(x: FlexTensor, weight: &QuantMatrix) -> FlexTensor {
    let [out, _] = weight.size();
    let rows = x.layout().shape()[0];
    let x = x.to_contiguous();
    let x: &[f32] = x.storage();
    let mut transposed = vec![0f32; out * rows];
    let parts = transposed.par_chunks_mut(rows).enumerate().with_min_len(64);
    parts.for_each(|(i, y)| weight.dot(i, x, y));
    let y = FlexTensor::from_data(TensorData::new(transposed, [out, rows]));
    y.transpose(0, 1).to_contiguous()
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
