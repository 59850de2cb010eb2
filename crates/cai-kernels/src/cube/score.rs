//! Scores of logits; the maths is in `score.rs`.

use burn::{backend::TensorMetadata, tensor::DType};
use burn_cubecl::{CubeBackend, cubecl, kernel::into_contiguous, tensor::CubeTensor};
use cubecl::{ir::ElemType, prelude::*};

use super::{capped, cube_each, element, empty, max_of_cube, scratch, sum_of_cube};
use crate::score::{COLUMNS, ScoreOps};

impl ScoreOps for CubeBackend {
    fn score(raw: CubeTensor, targets: CubeTensor, softcap: Option<f32>) -> CubeTensor {
        let raw = into_contiguous(raw);
        let [rows, _] = raw.shape().dims();
        let out = empty(&raw, [rows, COLUMNS], DType::F32);
        let (count, cube) = cube_each(&raw.client, rows);
        let (client, dtypes) = (raw.client.clone(), [element(&raw), element(&targets)]);
        let (cap, with_cap) = (softcap.unwrap_or(0.0), softcap.is_some());
        let [raw, targets, to] = [raw, targets, out.clone()].map(CubeTensor::into_tensor_arg);
        // SAFETY: a cube reads one row, writes its scores, and one behind the last row stops.
        unsafe {
            forward::launch_unchecked(
                &client, count, cube, raw, targets, to, cap, with_cap, COLUMNS, dtypes,
            );
        }
        out
    }

    fn score_gradient(
        raw: CubeTensor,
        targets: CubeTensor,
        scores: CubeTensor,
        softcap: Option<f32>,
    ) -> CubeTensor {
        let raw = into_contiguous(raw);
        let [rows, _] = raw.shape().dims();
        let out = empty(&raw, raw.shape(), raw.dtype);
        let (count, cube) = cube_each(&raw.client, rows);
        let (client, dtypes) = (raw.client.clone(), [element(&raw), element(&targets)]);
        let (cap, with_cap) = (softcap.unwrap_or(0.0), softcap.is_some());
        let [raw, targets, scores, to] =
            [raw, targets, scores, out.clone()].map(CubeTensor::into_tensor_arg);
        // SAFETY: as above, with a row of gradients.
        unsafe {
            gradient::launch_unchecked(
                &client, count, cube, raw, targets, scores, to, cap, with_cap, COLUMNS, dtypes,
            );
        }
        out
    }
}

#[cube(launch_unchecked)]
fn forward<F: Float, I: Int>(
    raw: &Tensor<F>,
    targets: &Tensor<I>,
    out: &mut Tensor<f32>,
    cap: f32,
    #[comptime] with_cap: bool,
    #[comptime] columns: usize,
    #[define(F, I)] _dtypes: [ElemType; 2],
) {
    let row = CUBE_POS;
    let width = raw.shape(1);
    if row >= raw.shape(0) {
        terminate!();
    }
    let mut scratch = scratch();
    let (unit, units) = (UNIT_POS as usize, CUBE_DIM as usize);
    let target = u32::cast_from(targets[row]) as usize;
    let own = capped(f32::cast_from(raw[row * width + target]), cap, with_cap);

    // Infinity has no name in WGSL.
    let mut largest = f32::new(-3.0e38);
    let mut total = 0.0f32;
    // Logits that come before the target's: larger ones, and the same earlier.
    let mut before = 0.0f32;
    let mut i = unit;
    while i < width {
        let z = capped(f32::cast_from(raw[row * width + i]), cap, with_cap);
        largest = max(largest, z);
        total += z;
        if z > own || (z == own && i < target) {
            before += 1.0f32;
        }
        i += units;
    }
    let largest = max_of_cube(largest, &mut scratch);
    let total = sum_of_cube(total, &mut scratch);
    let before = sum_of_cube(before, &mut scratch);
    let mut sum = 0.0f32;
    let mut product = 0.0f32;
    let mut square = 0.0f32;
    let mut i = unit;
    while i < width {
        let z = capped(f32::cast_from(raw[row * width + i]), cap, with_cap) - largest;
        let e = z.exp();
        sum += e;
        product += e * z;
        square += e * e;
        i += units;
    }
    let sum = sum_of_cube(sum, &mut scratch);
    let product = sum_of_cube(product, &mut scratch);
    let square = sum_of_cube(square, &mut scratch);
    if unit == 0 {
        let log_sum = sum.ln();
        let at = row * columns;
        out[at] = own - largest - log_sum;
        out[at + 1] = log_sum - product / sum;
        out[at + 2] = select(before == 0.0f32, 1.0f32, 0.0f32);
        out[at + 3] = total / f32::cast_from(width as u32);
        out[at + 4] = square.ln() - 2.0f32 * log_sum;
        out[at + 5] = largest + log_sum;
    }
}

#[cube(launch_unchecked)]
fn gradient<F: Float, I: Int>(
    raw: &Tensor<F>,
    targets: &Tensor<I>,
    scores: &Tensor<f32>,
    out: &mut Tensor<F>,
    cap: f32,
    #[comptime] with_cap: bool,
    #[comptime] columns: usize,
    #[define(F, I)] _dtypes: [ElemType; 2],
) {
    let row = CUBE_POS;
    let width = raw.shape(1);
    if row >= raw.shape(0) {
        terminate!();
    }
    let target = u32::cast_from(targets[row]) as usize;
    let log_sum = scores[row * columns + 5];
    let mut i = UNIT_POS as usize;
    while i < width {
        let z = capped(f32::cast_from(raw[row * width + i]), cap, with_cap);
        let mut slope = -(z - log_sum).exp();
        if i == target {
            slope += 1.0f32;
        }
        if with_cap {
            slope *= 1.0f32 - (z / cap) * (z / cap);
        }
        out[row * width + i] = F::cast_from(slope);
        i += CUBE_DIM as usize;
    }
}
