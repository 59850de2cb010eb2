//! RMSNorm; the maths is in `norm.rs`.

use burn::{backend::TensorMetadata, tensor::DType};
use burn_cubecl::{CubeBackend, cubecl, kernel::into_contiguous, tensor::CubeTensor};
use cubecl::{ir::ElemType, prelude::*};

use super::{cube_each, element, empty, one_each, scratch, sum_of_cube};
use crate::norm::NormOps;

impl NormOps for CubeBackend {
    fn rms_norm(
        x: CubeTensor,
        weight: CubeTensor,
        offset: f32,
        eps: f32,
    ) -> (CubeTensor, CubeTensor) {
        let [x, weight] = [x, weight].map(into_contiguous);
        let rows = x.shape().num_elements() / weight.shape().num_elements();
        let out = empty(&x, x.shape(), x.dtype);
        let inverse = empty(&x, [rows], DType::F32);
        let (count, cube) = cube_each(&x.client, rows);
        let (client, dtypes) = (x.client.clone(), [element(&x), element(&weight)]);
        let [x, weight, to, to_inverse] =
            [x, weight, out.clone(), inverse.clone()].map(CubeTensor::into_tensor_arg);
        // SAFETY: a cube reads and writes one row of x and out, and one behind the last row stops.
        unsafe {
            forward::launch_unchecked(
                &client, count, cube, x, weight, to, to_inverse, offset, eps, dtypes,
            );
        }
        (out, inverse)
    }

    fn rms_norm_backward(
        x: CubeTensor,
        weight: CubeTensor,
        inverse: CubeTensor,
        grad: CubeTensor,
        offset: f32,
    ) -> CubeTensor {
        let [x, weight, grad] = [x, weight, grad].map(into_contiguous);
        let out = empty(&x, x.shape(), x.dtype);
        let (count, cube) = cube_each(&x.client, inverse.shape().num_elements());
        let (client, dtypes) = (x.client.clone(), [element(&x), element(&weight)]);
        let [x, weight, inverse, grad, to] =
            [x, weight, inverse, grad, out.clone()].map(CubeTensor::into_tensor_arg);
        // SAFETY: as in the forward pass.
        unsafe {
            backward::launch_unchecked(
                &client, count, cube, x, weight, inverse, grad, to, offset, dtypes,
            );
        }
        out
    }

    fn rms_norm_weight_gradient(
        x: CubeTensor,
        weight: CubeTensor,
        inverse: CubeTensor,
        grad: CubeTensor,
    ) -> CubeTensor {
        let [x, grad] = [x, grad].map(into_contiguous);
        let out = empty(&x, weight.shape(), weight.dtype);
        let (count, cube) = one_each(&x.client, weight.shape().num_elements());
        let (client, dtypes) = (x.client.clone(), [element(&x), element(&weight)]);
        let [x, inverse, grad, to] =
            [x, inverse, grad, out.clone()].map(CubeTensor::into_tensor_arg);
        // SAFETY: a unit reads one column of x and grad, and one behind the last column stops.
        unsafe {
            weight_gradient::launch_unchecked(&client, count, cube, x, inverse, grad, to, dtypes);
        }
        out
    }
}

#[cube(launch_unchecked)]
fn forward<F: Float, W: Float>(
    x: &Tensor<F>,
    weight: &Tensor<W>,
    out: &mut Tensor<F>,
    inverse: &mut Tensor<f32>,
    offset: f32,
    eps: f32,
    #[define(F, W)] _dtypes: [ElemType; 2],
) {
    let row = CUBE_POS;
    if row >= inverse.len() {
        terminate!();
    }
    let mut scratch = scratch();
    let width = weight.len();
    let (unit, units) = (UNIT_POS as usize, CUBE_DIM as usize);
    let mut squares = 0.0f32;
    let mut i = unit;
    while i < width {
        let x = f32::cast_from(x[row * width + i]);
        squares += x * x;
        i += units;
    }
    let mean = sum_of_cube(squares, &mut scratch) / f32::cast_from(width as u32);
    let r = 1.0f32 / (mean + eps).sqrt();
    if unit == 0 {
        inverse[row] = r;
    }
    let mut i = unit;
    while i < width {
        let x = f32::cast_from(x[row * width + i]);
        out[row * width + i] = F::cast_from(r * x * (offset + f32::cast_from(weight[i])));
        i += units;
    }
}

#[cube(launch_unchecked)]
fn backward<F: Float, W: Float>(
    x: &Tensor<F>,
    weight: &Tensor<W>,
    inverse: &Tensor<f32>,
    grad: &Tensor<F>,
    out: &mut Tensor<F>,
    offset: f32,
    #[define(F, W)] _dtypes: [ElemType; 2],
) {
    let row = CUBE_POS;
    if row >= inverse.len() {
        terminate!();
    }
    let mut scratch = scratch();
    let width = weight.len();
    let (unit, units) = (UNIT_POS as usize, CUBE_DIM as usize);
    let mut product = 0.0f32;
    let mut i = unit;
    while i < width {
        let d = f32::cast_from(grad[row * width + i]) * (offset + f32::cast_from(weight[i]));
        product += d * f32::cast_from(x[row * width + i]);
        i += units;
    }
    let r = inverse[row];
    let mean = sum_of_cube(product, &mut scratch) / f32::cast_from(width as u32);
    let slope = mean * r * r;
    let mut i = unit;
    while i < width {
        let d = f32::cast_from(grad[row * width + i]) * (offset + f32::cast_from(weight[i]));
        out[row * width + i] = F::cast_from(r * (d - slope * f32::cast_from(x[row * width + i])));
        i += units;
    }
}

/// One column for each unit.
#[cube(launch_unchecked)]
fn weight_gradient<F: Float, W: Float>(
    x: &Tensor<F>,
    inverse: &Tensor<f32>,
    grad: &Tensor<F>,
    out: &mut Tensor<W>,
    #[define(F, W)] _dtypes: [ElemType; 2],
) {
    let width = out.len();
    if ABSOLUTE_POS >= width {
        terminate!();
    }
    let mut sum = 0.0f32;
    for row in 0..inverse.len() {
        let at = row * width + ABSOLUTE_POS;
        sum += f32::cast_from(grad[at]) * inverse[row] * f32::cast_from(x[at]);
    }
    out[ABSOLUTE_POS] = W::cast_from(sum);
}
