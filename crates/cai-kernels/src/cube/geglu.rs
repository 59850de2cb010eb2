//! GeGLU's element-wise part; the maths is in `kernels/geglu.rs`.

use burn::backend::TensorMetadata;
use burn_cubecl::{CubeBackend, cubecl, kernel::into_contiguous, tensor::CubeTensor};
use cubecl::{ir::ElemType, prelude::*};

use super::{element, empty, one_each, vector};
use crate::geglu::{A, B, GegluOps};

impl GegluOps for CubeBackend {
    fn geglu(gate: CubeTensor, up: CubeTensor) -> CubeTensor {
        let [gate, up] = [gate, up].map(into_contiguous);
        let out = empty(&gate, gate.shape(), gate.dtype);
        let len = gate.shape().num_elements();
        let vector = vector(&gate, len);
        let (count, cube) = one_each(&gate.client, len / vector);
        let (client, dtype) = (gate.client.clone(), element(&gate));
        let [gate, up, target] = [gate, up, out.clone()].map(CubeTensor::into_tensor_arg);
        // SAFETY: the three tensors have one shape, and a unit behind its end stops.
        unsafe {
            forward::launch_unchecked(&client, count, cube, vector, gate, up, target, dtype);
        }
        out
    }

    fn geglu_backward(
        gate: CubeTensor,
        up: CubeTensor,
        grad: CubeTensor,
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
                &client, count, cube, vector, gate, up, grad, to_gate, to_up, dtype,
            );
        }
        outs.into()
    }
}

/// `σ(2z)`.
#[cube]
fn open<N: Size>(x: Vector<f32, N>) -> Vector<f32, N> {
    let minus_2z = x * (Vector::new(-B as f32) * x * x - Vector::new(A as f32));
    Vector::new(1.0f32) / (Vector::new(1.0f32) + minus_2z.exp())
}

#[cube(launch_unchecked)]
fn forward<F: Float, N: Size>(
    gate: &Tensor<Vector<F, N>>,
    up: &Tensor<Vector<F, N>>,
    out: &mut Tensor<Vector<F, N>>,
    #[define(F)] _dtype: ElemType,
) {
    if ABSOLUTE_POS >= out.len() {
        terminate!();
    }
    let x = Vector::<f32, N>::cast_from(gate[ABSOLUTE_POS]);
    let up = Vector::<f32, N>::cast_from(up[ABSOLUTE_POS]);
    out[ABSOLUTE_POS] = Vector::cast_from(x * open::<N>(x) * up);
}

#[cube(launch_unchecked)]
fn backward<F: Float, N: Size>(
    gate: &Tensor<Vector<F, N>>,
    up: &Tensor<Vector<F, N>>,
    grad: &Tensor<Vector<F, N>>,
    gate_grad: &mut Tensor<Vector<F, N>>,
    up_grad: &mut Tensor<Vector<F, N>>,
    #[define(F)] _dtype: ElemType,
) {
    if ABSOLUTE_POS >= gate_grad.len() {
        terminate!();
    }
    let x = Vector::<f32, N>::cast_from(gate[ABSOLUTE_POS]);
    let up = Vector::<f32, N>::cast_from(up[ABSOLUTE_POS]);
    let grad = Vector::<f32, N>::cast_from(grad[ABSOLUTE_POS]);
    let open = open::<N>(x);
    let slope = Vector::new(A as f32) + Vector::new(3.0f32 * B as f32) * x * x;
    let gelu_slope = open + x * open * (Vector::new(1.0f32) - open) * slope;
    gate_grad[ABSOLUTE_POS] = Vector::cast_from(grad * up * gelu_slope);
    up_grad[ABSOLUTE_POS] = Vector::cast_from(grad * x * open);
}
