//! RMSNorm (Zhang and Sennrich, arXiv 1910.07467). The scale is o + w, where the offset o is 1 in
//! Gemma 1 to 3 and 0 elsewhere:
//!
//! ```text
//! r = 1/√(mean(x²) + ε)        y = r·x·(o + w)
//! ∂x = r·(d − x·r²·mean(d·x))  with d = ∂y·(o + w)          ∂w = Σ_rows ∂y·r·x
//! ```

use std::mem::MaybeUninit;

#[cfg(feature = "cube")]
use burn::backend::fusion::custom::TensorSpec;
use burn::{
    backend::{
        Autodiff, Backend, Dispatch, Flex,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
            grads::Gradients,
            ops::{Backward, Ops, OpsKind},
        },
        backend_extension,
        tensor::FloatTensor,
    },
    tensor::{DType, Tensor, TensorData},
};
use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::{
    cpu::{self, numbers, vectorized},
    fused,
};

/// `x / √(mean(x²) + ε) · (offset + w)` over the last dimension, in f32, cast back.
///
/// `x`: `[.., width]`, `weight`: `[width]`.
pub fn rms_norm<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<1>,
    offset: f64,
    eps: f64,
) -> Tensor<D> {
    if fused([&x]) && fused([&weight]) {
        let (x, weight) = (x.into_dispatch(), weight.into_dispatch());
        let (offset, eps) = (offset as f32, eps as f32);
        return Tensor::from_dispatch(<Dispatch as NormOps>::rms_norm(x, weight, offset, eps).0);
    }
    reference(x, weight, offset, eps)
}

/// `x / √(mean(x²) + ε)` over the last dimension: a norm without a weight.
pub fn rms_norm_plain<const D: usize>(x: Tensor<D>, eps: f64) -> Tensor<D> {
    let no_weight = Tensor::zeros([x.dims()[D - 1]], &x.device());
    rms_norm(x, no_weight, 1.0, eps)
}

/// The same in Burn's operations, for other devices and types.
fn reference<const D: usize>(x: Tensor<D>, weight: Tensor<1>, offset: f64, eps: f64) -> Tensor<D> {
    let dtype = x.dtype();
    let x = x.cast(DType::F32);
    let mean_square = x.clone().square().mean_dim(D - 1);
    let scale = weight.cast(DType::F32).add_scalar(offset).unsqueeze::<D>();
    (x / mean_square.add_scalar(eps).sqrt() * scale).cast(dtype)
}

#[backend_extension(Flex, Cube: cfg(feature = "cube"), Fusion: cfg(feature = "cube"), Autodiff)]
pub(super) trait NormOps: Backend {
    /// The output, and r of each row.
    #[fusion(meta = |x, _, _, _| (x.clone(), rows_of(x)))]
    fn rms_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        offset: f32,
        eps: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// The gradient of x.
    #[fusion(dtype = grad, shape = grad)]
    fn rms_norm_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        inverse: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        offset: f32,
    ) -> FloatTensor<Self>;

    /// The gradient of w.
    #[fusion(dtype = weight, shape = weight)]
    fn rms_norm_weight_gradient(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        inverse: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
}

/// Of one f32 for each row of `x`.
#[cfg(feature = "cube")]
fn rows_of(x: &TensorSpec) -> TensorSpec {
    let width = x.shape[x.shape.num_dims() - 1];
    TensorSpec::new([x.shape.num_elements() / width].into(), DType::F32)
}

impl NormOps for Flex {
    fn rms_norm(
        x: FlexTensor,
        weight: FlexTensor,
        offset: f32,
        eps: f32,
    ) -> (FlexTensor, FlexTensor) {
        forward(&cpu::contiguous(x), &cpu::contiguous(weight), offset, eps)
    }

    fn rms_norm_backward(
        x: FlexTensor,
        weight: FlexTensor,
        inverse: FlexTensor,
        grad: FlexTensor,
        offset: f32,
    ) -> FlexTensor {
        let [x, weight, grad] = [x, weight, grad].map(cpu::contiguous);
        backward(&x, &weight, numbers(&inverse), grad, offset)
    }

    fn rms_norm_weight_gradient(
        x: FlexTensor,
        _: FlexTensor,
        inverse: FlexTensor,
        grad: FlexTensor,
    ) -> FlexTensor {
        weight_gradient(&cpu::contiguous(x), numbers(&inverse), &cpu::contiguous(grad))
    }
}

impl<B: NormOps, C: CheckpointStrategy> NormOps for Autodiff<B, C> {
    fn rms_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        offset: f32,
        eps: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let ((x, x_node), (weight, weight_node)) = (x.into_parts(), weight.into_parts());
        let (out, inverse) = B::rms_norm(x.clone(), weight.clone(), offset, eps);
        let out = match RmsNorm.prepare::<C>([x_node, weight_node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(([x, weight, inverse.clone()], offset), out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        };
        (out, FloatTensor::<Self>::new(inverse))
    }

    fn rms_norm_backward(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: f32,
    ) -> FloatTensor<Self> {
        unreachable!("a backward pass is not differentiated")
    }

    fn rms_norm_weight_gradient(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        unreachable!("a backward pass is not differentiated")
    }
}

#[derive(Debug)]
struct RmsNorm;

impl<B: NormOps> Backward<B, 2> for RmsNorm {
    /// x, w, and r of each row; the offset.
    type State = ([FloatTensor<B>; 3], f32);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let ([x, weight, inverse], offset) = ops.state;
        let [x_node, weight_node] = ops.parents;
        if let Some(node) = weight_node {
            let [x, weight, inverse, grad] = [&x, &weight, &inverse, &grad].map(Clone::clone);
            let gradient = B::rms_norm_weight_gradient(x, weight, inverse, grad);
            grads.register::<B>(node.id, gradient);
        }
        if let Some(node) = x_node {
            grads.register::<B>(node.id, B::rms_norm_backward(x, weight, inverse, grad, offset));
        }
    }
}

/// The output, and r of each row.
fn forward(x: &FlexTensor, weight: &FlexTensor, offset: f32, eps: f32) -> (FlexTensor, FlexTensor) {
    let (values, weight) = (numbers(x), numbers(weight));
    let width = weight.len();
    let task = cpu::task_rows(width);
    let mut inverse = vec![0.0; values.len() / width];
    let work = |out: &mut [MaybeUninit<f32>]| {
        let tasks = out.par_chunks_mut(task * width).zip(values.par_chunks(task * width));
        let tasks = tasks.zip(inverse.par_chunks_mut(task));
        tasks.for_each(|((out, x), inverse)| forward_task(out, x, weight, inverse, offset, eps));
    };
    // SAFETY: x and the output have one shape, of whole rows: every element is written.
    let out = unsafe { cpu::filled(x.layout().shape().clone(), work) };
    let rows = inverse.len();
    (out, FlexTensor::from_data(TensorData::new(inverse, [rows])))
}

/// The gradient of x, which takes the place of the output's.
fn backward(
    x: &FlexTensor,
    weight: &FlexTensor,
    inverse: &[f32],
    grad: FlexTensor,
    offset: f32,
) -> FlexTensor {
    let (values, weight) = (numbers(x), numbers(weight));
    let width = weight.len();
    let task = cpu::task_rows(width);
    let mut grad = grad;
    let tasks = cpu::numbers_mut(&mut grad).par_chunks_mut(task * width);
    let tasks = tasks.zip(values.par_chunks(task * width)).zip(inverse.par_chunks(task));
    tasks.for_each(|((grad, x), inverse)| backward_task(grad, x, weight, inverse, offset));
    grad
}

/// The gradient of w. Partial sums of the tasks are added in order: the same bytes every time.
fn weight_gradient(x: &FlexTensor, inverse: &[f32], grad: &FlexTensor) -> FlexTensor {
    let width = x.layout().shape()[x.layout().num_dims() - 1];
    let task = cpu::task_rows(width);
    let tasks = numbers(x).par_chunks(task * width).zip(numbers(grad).par_chunks(task * width));
    let partial = |((x, grad), inverse): ((&[f32], &[f32]), &[f32])| {
        let mut sum = vec![0.0f32; width];
        weight_task(&mut sum, x, grad, inverse);
        sum
    };
    let partials: Vec<Vec<f32>> = tasks.zip(inverse.par_chunks(task)).map(partial).collect();
    let mut total = vec![0.0f32; width];
    for partial in partials {
        total.iter_mut().zip(partial).for_each(|(total, partial)| *total += partial);
    }
    FlexTensor::from_data(TensorData::new(total, [width]))
}

vectorized! {
    fn forward_task(
        out: &mut [MaybeUninit<f32>],
        x: &[f32],
        weight: &[f32],
        inverse: &mut [f32],
        offset: f32,
        eps: f32,
    ) {
        let width = weight.len();
        let rows = out.chunks_exact_mut(width).zip(x.chunks_exact(width));
        for ((out, x), inverse) in rows.zip(inverse) {
            let r = 1.0 / (cpu::dot(x, x) / width as f32 + eps).sqrt();
            *inverse = r;
            for ((out, &x), &w) in out.iter_mut().zip(x).zip(weight) {
                out.write(r * x * (offset + w));
            }
        }
    }
}

vectorized! {
    fn backward_task(
        grad: &mut [f32],
        x: &[f32],
        weight: &[f32],
        inverse: &[f32],
        offset: f32,
    ) {
        let width = weight.len();
        let rows = grad.chunks_exact_mut(width).zip(x.chunks_exact(width));
        for ((grad, x), &r) in rows.zip(inverse) {
            for (grad, &w) in grad.iter_mut().zip(weight) {
                *grad *= offset + w;
            }
            let slope = cpu::dot(grad, x) / width as f32 * r * r;
            for (grad, &x) in grad.iter_mut().zip(x) {
                *grad = r * (-slope).mul_add(x, *grad);
            }
        }
    }
}

vectorized! {
    fn weight_task(sum: &mut [f32], x: &[f32], grad: &[f32], inverse: &[f32]) {
        let width = sum.len();
        let rows = x.chunks_exact(width).zip(grad.chunks_exact(width));
        for ((x, grad), &r) in rows.zip(inverse) {
            for ((sum, &x), &grad) in sum.iter_mut().zip(x).zip(grad) {
                *sum = (grad * r).mul_add(x, *sum);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check, check_half, random};

    #[test]
    fn the_fused_version_is_the_reference() {
        for (offset, [rows, width]) in [(1.0, [5, 6]), (0.0, [900, 70])] {
            let weight = random("weight", [1, width]);
            let flat = |w: Tensor<2>| w.reshape([width]);
            check_half(
                [random("x", [rows, width]), weight.clone()],
                |[x, w]| rms_norm(x, flat(w), offset, 1e-6),
                |[x, w]| reference(x, flat(w), offset, 1e-6),
            );
            check(
                // The gradient of the weight is summed over rows: as many copies as rows.
                [random("x", [rows, width]), weight],
                |[x, w]| rms_norm(x, flat(w), offset, 1e-6),
                |[x, w]| reference(x, flat(w), offset, 1e-6),
            );
        }
    }

    #[test]
    fn a_norm_without_a_weight_only_scales() {
        check(
            [random("x", [3, 5, 33])],
            |[x]| rms_norm_plain(x, 1e-6),
            |[x]| x.clone() / x.square().mean_dim(2).add_scalar(1e-6).sqrt(),
        );
    }
}
