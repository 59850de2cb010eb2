//! A frozen projection with a low-rank update (LoRA, Hu et al., arXiv 2106.09685, section 4.1):
//!
//! ```text
//! u = s·x·Aᵀ       y = x·Wᵀ + u·Bᵀ
//! g = s·∂y·B       ∂x = ∂y·W + g·A       ∂A = gᵀ·x       ∂B = ∂yᵀ·u
//! ```
//!
//! Both sums are products that are added to the output where it stands.

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
    tensor::Tensor,
};
use burn_flex::FlexTensor;

use super::{
    cpu,
    matrix::{Matrix, MatrixMut, product, threads},
};

/// `x·Wᵀ`: `[rows, in]` to `[rows, out]`. `weight`: `[out, in]`.
pub fn linear(x: Tensor<2>, weight: Tensor<2>) -> Tensor<2> {
    match cpu::untracked([&x, &weight]) {
        Some([x, weight]) => {
            let out = times(1.0, Matrix::of(&x), Matrix::of(&weight).t());
            Tensor::from_primitive::<Flex>(out)
        }
        None => x.matmul(weight.transpose()),
    }
}

/// `x·Wᵀ + scale·(x·Aᵀ)·Bᵀ`: `[rows, in]` to `[rows, out]`. `weight`: `[out, in]`; `a`: `[r, in]`,
/// `b`: `[out, r]`, which are cast to the activations' type.
pub fn lora_linear(
    x: Tensor<2>,
    weight: Tensor<2>,
    a: Tensor<2>,
    b: Tensor<2>,
    scale: f64,
) -> Tensor<2> {
    if [&x, &weight, &a, &b].into_iter().all(cpu::takes) {
        let [x, weight, a, b] = [x, weight, a, b].map(Tensor::into_dispatch);
        let out = <Dispatch as LinearOps>::lora_linear(x, weight, a, b, scale as f32);
        return Tensor::from_dispatch(out);
    }
    reference(x, weight, a, b, scale)
}

/// The same in Burn's operations, for other devices and types.
fn reference(x: Tensor<2>, weight: Tensor<2>, a: Tensor<2>, b: Tensor<2>, scale: f64) -> Tensor<2> {
    let dtype = x.dtype();
    let low = x.clone().matmul(a.cast(dtype).transpose()).mul_scalar(scale);
    x.matmul(weight.transpose()) + low.matmul(b.cast(dtype).transpose())
}

#[backend_extension(Flex, Autodiff)]
trait LinearOps: Backend {
    fn lora_linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        scale: f32,
    ) -> FloatTensor<Self>;
}

impl LinearOps for Flex {
    fn lora_linear(
        x: FlexTensor,
        weight: FlexTensor,
        a: FlexTensor,
        b: FlexTensor,
        scale: f32,
    ) -> FlexTensor {
        forward(&x, &weight, &a, &b, scale).0
    }
}

impl<C: CheckpointStrategy> LinearOps for Autodiff<Flex, C> {
    fn lora_linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        scale: f32,
    ) -> FloatTensor<Self> {
        let [(x, x_node), (weight, weight_node), (a, a_node), (b, b_node)] =
            [x, weight, a, b].map(FloatTensor::<Self>::into_parts);
        let (out, low) = forward(&x, &weight, &a, &b, scale);
        let nodes = [x_node, weight_node, a_node, b_node];
        match LoraLinear.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(State { x, weight, a, b, low, scale }, out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }
}

#[derive(Debug)]
struct LoraLinear;

#[derive(Clone, Debug)]
struct State {
    x: FlexTensor,
    weight: FlexTensor,
    a: FlexTensor,
    b: FlexTensor,
    /// u, `[rows, r]`.
    low: FlexTensor,
    scale: f32,
}

impl Backward<Flex, 4> for LoraLinear {
    type State = State;

    fn backward(self, ops: Ops<State, 4>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<Flex>(&ops.node);
        let State { x, weight, a, b, low, scale } = ops.state;
        let [x_node, weight_node, a_node, b_node] = ops.parents;
        let [grad, x, weight, a, b] = [&grad, &x, &weight, &a, &b].map(Matrix::of);
        let low_grad = times(scale, grad, b);
        let low_grad = Matrix::of(&low_grad);
        if let Some(node) = x_node {
            let mut dx = times(1.0, grad, weight);
            add(&mut dx, low_grad, a);
            grads.register::<Flex>(node.id, dx);
        }
        if let Some(node) = weight_node {
            grads.register::<Flex>(node.id, times(1.0, grad.t(), x));
        }
        if let Some(node) = a_node {
            grads.register::<Flex>(node.id, times(1.0, low_grad.t(), x));
        }
        if let Some(node) = b_node {
            grads.register::<Flex>(node.id, times(1.0, grad.t(), Matrix::of(&low)));
        }
    }
}

/// The output, and u.
fn forward(
    x: &FlexTensor,
    weight: &FlexTensor,
    a: &FlexTensor,
    b: &FlexTensor,
    scale: f32,
) -> (FlexTensor, FlexTensor) {
    let [x, weight, a, b] = [x, weight, a, b].map(Matrix::of);
    let low = times(scale, x, a.t());
    let mut out = times(1.0, x, weight.t());
    add(&mut out, Matrix::of(&low), b.t());
    (out, low)
}

/// `scale·lhs·rhs`.
fn times(scale: f32, lhs: Matrix, rhs: Matrix) -> FlexTensor {
    let threads = threads(lhs.rows() * lhs.cols() * rhs.cols());
    let fill = |out: &mut [_]| product(out, scale, lhs, rhs, threads);
    // SAFETY: a product writes the whole of its output.
    unsafe { cpu::filled([lhs.rows(), rhs.cols()], fill) }
}

/// Adds `lhs·rhs` to `out`.
fn add(out: &mut FlexTensor, lhs: Matrix, rhs: Matrix) {
    let size = [lhs.rows(), rhs.cols()];
    let threads = threads(lhs.rows() * lhs.cols() * rhs.cols());
    MatrixMut::new(cpu::numbers_mut(out), size, size[1]).add(1.0, lhs, rhs, threads);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check, close, random};

    #[test]
    fn a_projection_is_a_product() {
        for [rows, input, output] in [[1, 70, 50], [9, 33, 20], [300, 70, 50]] {
            let (x, w) = (random("x", [rows, input]), random("w", [output, input]));
            let expected = x.clone().matmul(w.clone().transpose());
            close(&linear(x.clone(), w.clone()), &expected, "untracked");
            let tracked = linear(x.autodiff().require_grad(), w.autodiff());
            close(&tracked.inner(), &expected, "tracked");
        }
    }

    #[test]
    fn the_fused_version_is_the_reference() {
        for [rows, input, output, r] in [[5, 6, 7, 2], [300, 70, 50, 8]] {
            let scaled =
                |name: &str, shape: [usize; 2]| random(name, shape) / (shape[1] as f64).sqrt();
            let weights =
                [scaled("w", [output, input]), scaled("a", [r, input]), scaled("b", [output, r])];
            let [w, a, b] = weights;
            check(
                [random("x", [rows, input]), w, a, b],
                |[x, w, a, b]| lora_linear(x, w, a, b, 2.0),
                |[x, w, a, b]| reference(x, w, a, b, 2.0),
            );
        }
    }
}
