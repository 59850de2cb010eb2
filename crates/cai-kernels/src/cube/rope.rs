//! Rotary position embedding; the maths is in `rope.rs`.

use burn::backend::TensorMetadata;
use burn_cubecl::{CubeBackend, cubecl, kernel::into_contiguous, tensor::CubeTensor};
use cubecl::{ir::ElemType, prelude::*};

use super::{element, empty, one_each};
use crate::rope::RopeOps;

impl RopeOps for CubeBackend {
    fn rotate(x: CubeTensor, cos: CubeTensor, sin: CubeTensor, sign: f32) -> CubeTensor {
        let [cos, sin] = [cos, sin].map(into_contiguous);
        let out = empty(&x, x.shape(), x.dtype);
        let [rows, ..] = cos.shape().dims::<4>();
        let (count, cube) = one_each(&x.client, x.shape().num_elements() / 2);
        let (client, dtypes) = (x.client.clone(), [element(&x), element(&cos)]);
        let [x, cos, sin, target] = [x, cos, sin, out.clone()].map(CubeTensor::into_tensor_arg);
        // SAFETY: a unit reads and writes one pair of a head, and one behind the last pair stops.
        unsafe {
            turn::launch_unchecked(
                &client,
                count,
                cube,
                x,
                cos,
                sin,
                target,
                rows as u32,
                sign,
                dtypes,
            );
        }
        out
    }
}

/// One pair for each unit. `x` `[batch, heads, tokens, dim]` may lie in any order, such as that of a
/// projection's output; `out` is contiguous, as attention's products want it.
#[cube(launch_unchecked)]
fn turn<F: Float, T: Float>(
    x: &Tensor<F>,
    cos: &Tensor<T>,
    sin: &Tensor<T>,
    out: &mut Tensor<F>,
    rows: u32,
    sign: f32,
    #[define(F, T)] _dtypes: [ElemType; 2],
) {
    let (heads, tokens, half) = (out.shape(1), out.shape(2), out.shape(3) / 2);
    if ABSOLUTE_POS >= out.shape(0) * heads * tokens * half {
        terminate!();
    }
    let (i, vector) = (ABSOLUTE_POS % half, ABSOLUTE_POS / half);
    let (token, b) = (vector % tokens, vector / tokens / heads);
    let head = vector / tokens % heads;
    let angle = (b % rows as usize * tokens + token) * half + i;
    let c = f32::cast_from(cos[angle]);
    let s = f32::cast_from(sin[angle]) * sign;
    let from = b * x.stride(0) + head * x.stride(1) + token * x.stride(2) + i * x.stride(3);
    let x1 = f32::cast_from(x[from]);
    let x2 = f32::cast_from(x[from + half * x.stride(3)]);
    let to = vector * 2 * half + i;
    out[to] = F::cast_from(x1 * c - x2 * s);
    out[to + half] = F::cast_from(x2 * c + x1 * s);
}
