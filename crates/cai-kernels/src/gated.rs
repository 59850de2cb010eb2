//! The element-wise part of a gated MLP, `act(gate)·up` (Shazeer, arXiv 2002.05202). Every activation
//! here is `act(x) = x·open(x)`, with `open` between 0 and 1:
//!
//! ```text
//! SiLU         open = σ(x)                                        open' = open(1 − open)
//! GELU         open = Φ(x) = ½(1 + erf(x/√2))                     open' = exp(−x²/2)/√(2π)
//! GELU, tanh   open = ½(1 + tanh z) = σ(2z),  2z = ax + bx³       open' = open(1 − open)(a + 3bx²)
//!
//! act' = open + x·open'        a = 2√(2/π),  b = 0.044715·a
//! ```
//!
//! GELU is by Hendrycks and Gimpel (arXiv 1606.08415), its tanh approximation too; SiLU, which they
//! name, makes SwiGLU. σ is used for tanh because one exp is several times faster on CPU.

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
    tensor::{
        Tensor,
        activation::{gelu, sigmoid},
    },
};
use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::{
    cpu::{self, TASK, numbers, vectorized},
    fused,
};

pub(super) const A: f64 = 2.0 * 0.797_884_560_802_865_4;
pub(super) const B: f64 = 0.044715 * A;
/// 1/√(2π)
pub(super) const DENSITY: f64 = 0.398_942_280_401_432_7;

/// What opens the gate of an MLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// GELU's tanh approximation (`gelu_pytorch_tanh`): Gemma.
    GeluTanh,
    /// GELU itself, with erf (`gelu`).
    Gelu,
    /// `x·σ(x)` (`silu`): Llama, Qwen.
    Silu,
}

/// `act(gate)·up`. Any shape, both the same.
pub fn gated<const D: usize>(gate: Tensor<D>, up: Tensor<D>, activation: Activation) -> Tensor<D> {
    if fused([&gate, &up]) {
        let (gate, up) = (gate.into_dispatch(), up.into_dispatch());
        return Tensor::from_dispatch(<Dispatch as GatedOps>::gated(gate, up, activation));
    }
    reference(gate, up, activation)
}

/// The same in Burn's operations, for other devices and types.
fn reference<const D: usize>(gate: Tensor<D>, up: Tensor<D>, activation: Activation) -> Tensor<D> {
    let opened = match activation {
        Activation::Gelu => gelu(gate),
        Activation::Silu => gate.clone() * sigmoid(gate),
        Activation::GeluTanh => {
            let slope = gate.clone().square().mul_scalar(B).add_scalar(A);
            gate.clone() * sigmoid(gate * slope)
        }
    };
    opened * up
}

#[backend_extension(Flex, Cube: cfg(feature = "cube"), Fusion: cfg(feature = "cube"), Autodiff)]
pub(super) trait GatedOps: Backend {
    #[fusion(dtype = gate, shape = gate)]
    fn gated(
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        activation: Activation,
    ) -> FloatTensor<Self>;

    /// Gradients of gate and up.
    #[fusion(meta = |gate, up, _, _| (gate.clone(), up.clone()))]
    fn gated_backward(
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        activation: Activation,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}

impl GatedOps for Flex {
    fn gated(gate: FlexTensor, up: FlexTensor, activation: Activation) -> FlexTensor {
        forward(gate, up, activation)
    }

    fn gated_backward(
        gate: FlexTensor,
        up: FlexTensor,
        grad: FlexTensor,
        activation: Activation,
    ) -> (FlexTensor, FlexTensor) {
        backward(gate, up, grad, activation)
    }
}

impl<B: GatedOps, C: CheckpointStrategy> GatedOps for Autodiff<B, C> {
    fn gated(
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        activation: Activation,
    ) -> FloatTensor<Self> {
        let ((gate, gate_node), (up, up_node)) = (gate.into_parts(), up.into_parts());
        match Gated.prepare::<C>([gate_node, up_node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let out = B::gated(gate.clone(), up.clone(), activation);
                prep.finish(([gate, up], activation), out)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::gated(gate, up, activation)),
        }
    }

    fn gated_backward(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: Activation,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        unreachable!("a backward pass is not differentiated")
    }
}

#[derive(Debug)]
struct Gated;

impl<B: GatedOps> Backward<B, 2> for Gated {
    type State = ([FloatTensor<B>; 2], Activation);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let ([gate, up], activation) = ops.state;
        let (gate, up) = B::gated_backward(gate, up, grad, activation);
        for (node, grad) in ops.parents.iter().zip([gate, up]) {
            if let Some(node) = node {
                grads.register::<B>(node.id, grad);
            }
        }
    }
}

fn forward(gate: FlexTensor, up: FlexTensor, activation: Activation) -> FlexTensor {
    let (gate, up) = (cpu::contiguous(gate), cpu::contiguous(up));
    let shape = gate.layout().shape().clone();
    let (gates, ups) = (numbers(&gate).par_chunks(TASK), numbers(&up).par_chunks(TASK));
    let work = |out: &mut [MaybeUninit<f32>]| {
        let tasks = out.par_chunks_mut(TASK).zip(gates).zip(ups);
        tasks.for_each(|((out, gate), up)| forward_task(out, gate, up, activation));
    };
    // SAFETY: gate, up and the output have one shape: every element is written.
    unsafe { cpu::filled(shape, work) }
}

/// Gradients of gate and up, which take the place of gate and up.
fn backward(
    gate: FlexTensor,
    up: FlexTensor,
    grad: FlexTensor,
    activation: Activation,
) -> (FlexTensor, FlexTensor) {
    let [mut gate, mut up] = [gate, up].map(cpu::contiguous);
    let grad = cpu::contiguous(grad);
    let gates = cpu::numbers_mut(&mut gate).par_chunks_mut(TASK);
    let ups = cpu::numbers_mut(&mut up).par_chunks_mut(TASK);
    let tasks = gates.zip(ups).zip(numbers(&grad).par_chunks(TASK));
    tasks.for_each(|((gate, up), grad)| backward_task(gate, up, grad, activation));
    (gate, up)
}

// The activation is chosen outside of the loops, so that each is a loop of its own over vectors.
vectorized! {
    fn forward_task(
        out: &mut [MaybeUninit<f32>],
        gate: &[f32],
        up: &[f32],
        activation: Activation,
    ) {
        match activation {
            Activation::GeluTanh => open_gates(out, gate, up, gelu_tanh),
            Activation::Gelu => open_gates(out, gate, up, gelu_erf),
            Activation::Silu => open_gates(out, gate, up, silu),
        }
    }
}

vectorized! {
    fn backward_task(gate: &mut [f32], up: &mut [f32], grad: &[f32], activation: Activation) {
        match activation {
            Activation::GeluTanh => gradients(gate, up, grad, gelu_tanh),
            Activation::Gelu => gradients(gate, up, grad, gelu_erf),
            Activation::Silu => gradients(gate, up, grad, silu),
        }
    }
}

/// `open(x)` and `open'(x)`.
#[inline(always)]
fn silu(x: f32) -> [f32; 2] {
    let open = cpu::sigmoid(x);
    [open, open * (1.0 - open)]
}

/// `open(x)` and `open'(x)`.
#[inline(always)]
fn gelu_tanh(x: f32) -> [f32; 2] {
    let open = cpu::sigmoid(x * (B as f32 * x).mul_add(x, A as f32));
    let slope = (3.0 * B as f32 * x).mul_add(x, A as f32);
    [open, open * (1.0 - open) * slope]
}

/// `open(x)` and `open'(x)`.
#[inline(always)]
fn gelu_erf(x: f32) -> [f32; 2] {
    let bell = cpu::exp(-0.5 * x * x);
    [cpu::normal_cdf(x, bell), DENSITY as f32 * bell]
}

#[inline(always)]
fn open_gates(
    out: &mut [MaybeUninit<f32>],
    gate: &[f32],
    up: &[f32],
    open: impl Fn(f32) -> [f32; 2],
) {
    for ((out, &gate), &up) in out.iter_mut().zip(gate).zip(up) {
        out.write(gate * open(gate)[0] * up);
    }
}

#[inline(always)]
fn gradients(gate: &mut [f32], up: &mut [f32], grad: &[f32], open: impl Fn(f32) -> [f32; 2]) {
    for ((gate, up), &grad) in gate.iter_mut().zip(up).zip(grad) {
        let (x, [open, slope]) = (*gate, open(*gate));
        *gate = grad * *up * x.mul_add(slope, open);
        *up = grad * x * open;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check, check_half, random};

    const ALL: [Activation; 3] = [Activation::GeluTanh, Activation::Gelu, Activation::Silu];

    #[test]
    fn the_fused_version_is_the_reference() {
        for activation in ALL {
            let ours = |[gate, up]: [Tensor<2>; 2]| gated(gate, up, activation);
            let theirs = |[gate, up]: [Tensor<2>; 2]| reference(gate, up, activation);
            for shape in [[3, 7], [300, 111]] {
                let inputs = [random("gate", shape) * 2.0, random("up", shape)];
                check_half(inputs.clone(), ours, theirs);
                check(inputs, ours, theirs);
            }
            // Columns of a wider matrix, rows exchanged with columns.
            let wide = random("wide", [20, 40]);
            let inputs = [wide.clone().narrow(1, 3, 20), wide.narrow(1, 20, 20).transpose()];
            check(inputs, ours, theirs);
        }
    }

    /// What PyTorch's `silu`, `gelu` and `gelu(approximate="tanh")` say.
    #[test]
    fn known_values() {
        let x = [-20.0, -3.0, -0.5, 0.0, 1.0, 4.0, 100.0];
        let expected = [
            (
                Activation::Silu,
                [-4.1e-8, -0.142_277_6, -0.188_770_3, 0.0, 0.731_058_6, 3.928_055, 100.0],
            ),
            (
                Activation::Gelu,
                [0.0, -0.004_049_7, -0.154_268_8, 0.0, 0.841_344_7, 3.999_873, 100.0],
            ),
            (
                Activation::GeluTanh,
                [0.0, -0.003_637_4, -0.154_286, 0.0, 0.841_192, 3.999_93, 100.0],
            ),
        ];
        let device = burn::tensor::Device::flex();
        for (activation, expected) in expected {
            let gate = Tensor::<1>::from_floats(x, &device);
            let out = gated(gate.clone(), gate.ones_like(), activation).into_data();
            for (ours, expected) in out.iter::<f32>().zip(expected) {
                assert!(
                    (ours - expected).abs() < 1e-6 * expected.abs().max(1.0),
                    "{activation:?} {ours} {expected}"
                );
            }
        }
    }
}
