//! The element-wise part of a gated MLP; the maths is in `gated.rs`.

use burn::backend::TensorMetadata;
use burn_cubecl::{CubeBackend, cubecl, kernel::into_contiguous, tensor::CubeTensor};
use cubecl::{ir::ElemType, prelude::*};

use super::{element, empty, one_each, vector};
use crate::gated::{A, Activation, B, DENSITY, GatedOps};

impl GatedOps for CubeBackend {
    fn gated(gate: CubeTensor, up: CubeTensor, activation: Activation) -> CubeTensor {
        let [gate, up] = [gate, up].map(into_contiguous);
        let out = empty(&gate, gate.shape(), gate.dtype);
        let len = gate.shape().num_elements();
        let vector = vector(&gate, len);
        let (count, cube) = one_each(&gate.client, len / vector);
        let (client, dtype) = (gate.client.clone(), element(&gate));
        let [gate, up, target] = [gate, up, out.clone()].map(CubeTensor::into_tensor_arg);
        // SAFETY: the three tensors have one shape, and a unit behind its end stops.
        unsafe {
            forward::launch_unchecked(
                &client, count, cube, vector, gate, up, target, activation, dtype,
            );
        }
        out
    }

    fn gated_backward(
        gate: CubeTensor,
        up: CubeTensor,
        grad: CubeTensor,
        activation: Activation,
    ) -> (CubeTensor, CubeTensor) {
        let [gate, up, grad] = [gate, up, grad].map(into_contiguous);
        let outs = [(); 2].map(|()| empty(&gate, gate.shape(), gate.dtype));
        let len = gate.shape().num_elements();
        let vector = vector(&gate, len);
        let (count, cube) = one_each(&gate.client, len / vector);
        let (client, dtype) = (gate.client.clone(), element(&gate));
        let [gate, up, grad] = [gate, up, grad].map(CubeTensor::into_tensor_arg);
        let [to_gate, to_up] = outs.clone().map(CubeTensor::into_tensor_arg);
        // SAFETY: as in the forward pass.
        unsafe {
            backward::launch_unchecked(
                &client, count, cube, vector, gate, up, grad, to_gate, to_up, activation, dtype,
            );
        }
        outs.into()
    }
}

/// `open(x)`
#[cube]
fn open<N: Size>(x: Vector<f32, N>, #[comptime] activation: Activation) -> Vector<f32, N> {
    let one = Vector::new(1.0f32);
    match activation {
        Activation::Silu => one / (one + (-x).exp()),
        Activation::Gelu => {
            let root_half = Vector::new(std::f32::consts::FRAC_1_SQRT_2);
            (one + (x * root_half).erf()) * Vector::new(0.5f32)
        }
        Activation::GeluTanh => {
            let minus_2z = x * (Vector::new(-B as f32) * x * x - Vector::new(A as f32));
            one / (one + minus_2z.exp())
        }
    }
}

/// `open'(x)`
#[cube]
fn open_slope<N: Size>(
    x: Vector<f32, N>,
    open: Vector<f32, N>,
    #[comptime] activation: Activation,
) -> Vector<f32, N> {
    let one = Vector::new(1.0f32);
    match activation {
        Activation::Silu => open * (one - open),
        Activation::Gelu => (x * x * Vector::new(-0.5f32)).exp() * Vector::new(DENSITY as f32),
        Activation::GeluTanh => {
            let slope = Vector::new(A as f32) + Vector::new(3.0f32 * B as f32) * x * x;
            open * (one - open) * slope
        }
    }
}

#[cube(launch_unchecked)]
fn forward<F: Float, N: Size>(
    gate: &Tensor<Vector<F, N>>,
    up: &Tensor<Vector<F, N>>,
    out: &mut Tensor<Vector<F, N>>,
    #[comptime] activation: Activation,
    #[define(F)] _dtype: ElemType,
) {
    if ABSOLUTE_POS >= out.len() {
        terminate!();
    }
    let x = Vector::<f32, N>::cast_from(gate[ABSOLUTE_POS]);
    let up = Vector::<f32, N>::cast_from(up[ABSOLUTE_POS]);
    out[ABSOLUTE_POS] = Vector::cast_from(x * open::<N>(x, activation) * up);
}

#[cube(launch_unchecked)]
fn backward<F: Float, N: Size>(
    gate: &Tensor<Vector<F, N>>,
    up: &Tensor<Vector<F, N>>,
    grad: &Tensor<Vector<F, N>>,
    gate_grad: &mut Tensor<Vector<F, N>>,
    up_grad: &mut Tensor<Vector<F, N>>,
    #[comptime] activation: Activation,
    #[define(F)] _dtype: ElemType,
) {
    if ABSOLUTE_POS >= gate_grad.len() {
        terminate!();
    }
    let x = Vector::<f32, N>::cast_from(gate[ABSOLUTE_POS]);
    let up = Vector::<f32, N>::cast_from(up[ABSOLUTE_POS]);
    let grad = Vector::<f32, N>::cast_from(grad[ABSOLUTE_POS]);
    let open = open::<N>(x, activation);
    let act_slope = open + x * open_slope::<N>(x, open, activation);
    gate_grad[ABSOLUTE_POS] = Vector::cast_from(grad * up * act_slope);
    up_grad[ABSOLUTE_POS] = Vector::cast_from(grad * x * open);
}
