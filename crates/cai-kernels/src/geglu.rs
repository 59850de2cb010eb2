//! GeGLU's element-wise part (Shazeer, arXiv 2002.05202), with the tanh approximation of GELU
//! (Hendrycks and Gimpel, arXiv 1606.08415):
//!
//! ```text
//! gelu(x) = ½x(1 + tanh z) = x·σ(2z)      2z = ax + bx³,  a = 2√(2/π),  b = 0.044715·a
//! gelu'(x) = σ + x·σ(1 − σ)(a + 3bx²)
//! ```
//!
//! `½(1 + tanh z) = σ(2z)`, and exp is several times faster than tanh on CPU.

use std::mem::MaybeUninit;

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
    tensor::{Tensor, activation::sigmoid},
};
use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::{
    cpu::{self, TASK, numbers, vectorized},
    fused,
};

pub(super) const A: f64 = 2.0 * 0.797_884_560_802_865_4;
pub(super) const B: f64 = 0.044715 * A;

/// `gelu(gate) · up`. Any shape, both the same.
pub fn geglu<const D: usize>(gate: Tensor<D>, up: Tensor<D>) -> Tensor<D> {
    if fused([&gate, &up]) {
        let out = <Dispatch as GegluOps>::geglu(gate.into_dispatch(), up.into_dispatch());
        return Tensor::from_dispatch(out);
    }
    reference(gate, up)
}

/// The same in Burn's operations, for other devices and types.
fn reference<const D: usize>(gate: Tensor<D>, up: Tensor<D>) -> Tensor<D> {
    let slope = gate.clone().square().mul_scalar(B).add_scalar(A);
    let open = sigmoid(gate.clone() * slope);
    gate * open * up
}

#[backend_extension(Flex, Cube: cfg(feature = "cube"), Fusion: cfg(feature = "cube"), Autodiff)]
pub(super) trait GegluOps: Backend {
    #[fusion(dtype = gate, shape = gate)]
    fn geglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self>;

    /// Gradients of gate and up.
    #[fusion(meta = |gate, up, _| (gate.clone(), up.clone()))]
    fn geglu_backward(
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}

impl GegluOps for Flex {
    fn geglu(gate: FlexTensor, up: FlexTensor) -> FlexTensor {
        forward(gate, up)
    }

    fn geglu_backward(
        gate: FlexTensor,
        up: FlexTensor,
        grad: FlexTensor,
    ) -> (FlexTensor, FlexTensor) {
        backward(gate, up, grad)
    }
}

impl<B: GegluOps, C: CheckpointStrategy> GegluOps for Autodiff<B, C> {
    fn geglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self> {
        let ((gate, gate_node), (up, up_node)) = (gate.into_parts(), up.into_parts());
        match Geglu.prepare::<C>([gate_node, up_node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let out = B::geglu(gate.clone(), up.clone());
                prep.finish([gate, up], out)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::geglu(gate, up)),
        }
    }

    fn geglu_backward(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        unreachable!("a backward pass is not differentiated")
    }
}

#[derive(Debug)]
struct Geglu;

impl<B: GegluOps> Backward<B, 2> for Geglu {
    type State = [FloatTensor<B>; 2];

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let [gate, up] = ops.state;
        let (gate, up) = B::geglu_backward(gate, up, grad);
        for (node, grad) in ops.parents.iter().zip([gate, up]) {
            if let Some(node) = node {
                grads.register::<B>(node.id, grad);
            }
        }
    }
}

/// `σ(2z)`.
#[inline(always)]
fn open(x: f32) -> f32 {
    let minus_2z = x * (-B as f32 * x).mul_add(x, -A as f32);
    1.0 / (1.0 + cpu::exp(minus_2z))
}

fn forward(gate: FlexTensor, up: FlexTensor) -> FlexTensor {
    let (gate, up) = (cpu::contiguous(gate), cpu::contiguous(up));
    let shape = gate.layout().shape().clone();
    let (gates, ups) = (numbers(&gate).par_chunks(TASK), numbers(&up).par_chunks(TASK));
    let work = |out: &mut [MaybeUninit<f32>]| {
        let tasks = out.par_chunks_mut(TASK).zip(gates).zip(ups);
        tasks.for_each(|((out, gate), up)| forward_task(out, gate, up));
    };
    // SAFETY: gate, up and the output have one shape: every element is written.
    unsafe { cpu::filled(shape, work) }
}

/// Gradients of gate and up, which take the place of gate and up.
fn backward(gate: FlexTensor, up: FlexTensor, grad: FlexTensor) -> (FlexTensor, FlexTensor) {
    let [mut gate, mut up] = [gate, up].map(cpu::contiguous);
    let grad = cpu::contiguous(grad);
    let gates = cpu::numbers_mut(&mut gate).par_chunks_mut(TASK);
    let ups = cpu::numbers_mut(&mut up).par_chunks_mut(TASK);
    let tasks = gates.zip(ups).zip(numbers(&grad).par_chunks(TASK));
    tasks.for_each(|((gate, up), grad)| backward_task(gate, up, grad));
    (gate, up)
}

vectorized! {
    fn forward_task(out: &mut [MaybeUninit<f32>], gate: &[f32], up: &[f32]) {
        for ((out, &gate), &up) in out.iter_mut().zip(gate).zip(up) {
            out.write(gate * open(gate) * up);
        }
    }
}

vectorized! {
    fn backward_task(gate: &mut [f32], up: &mut [f32], grad: &[f32]) {
        for ((gate, up), &grad) in gate.iter_mut().zip(up).zip(grad) {
            let (x, open) = (*gate, open(*gate));
            let gelu = x * open;
            let slope = (3.0 * B as f32 * x).mul_add(x, A as f32);
            *gate = grad * *up * (gelu * (1.0 - open)).mul_add(slope, open);
            *up = grad * gelu;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check, check_half, random};

    #[test]
    fn the_fused_version_is_the_reference() {
        for shape in [[3, 7], [300, 111]] {
            let inputs = [random("gate", shape) * 2.0, random("up", shape)];
            let half = inputs.clone();
            check_half(half, |[gate, up]| geglu(gate, up), |[gate, up]| reference(gate, up));
            check(inputs, |[gate, up]| geglu(gate, up), |[gate, up]| reference(gate, up));
        }
        // Columns of a wider matrix, rows exchanged with columns.
        let wide = random("wide", [20, 40]);
        let inputs = [wide.clone().narrow(1, 3, 20), wide.narrow(1, 20, 20).transpose()];
        check(inputs, |[gate, up]| geglu(gate, up), |[gate, up]| reference(gate, up));
    }
}
