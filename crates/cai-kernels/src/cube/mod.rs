//! The fused versions for GPUs, in CubeCL: one source for CUDA, Vulkan and WGPU, compiled for the
//! device when a kernel is first launched.
//!
//! They read and write the tensors' own type and compute in f32. Each tensor is contiguous where a
//! kernel sees it. Kernels over rows give a row to one cube, whose units take every
//! `CUBE_DIM`-th number: neighbours read neighbours.

// The macros of CubeCL name its crate.
use burn_cubecl::cubecl;

mod attention;
mod gated;
mod norm;
mod rope;
mod score;

use burn::{
    backend::cubecl::dtype_to_storage_type,
    tensor::{DType, Shape},
};
use burn_cubecl::{ops::numeric::empty_device_contiguous_dtype, tensor::CubeTensor};
use cubecl::{
    calculate_cube_count_elemwise,
    client::Client,
    ir::{ElemType, VectorSize},
    prelude::*,
};

/// A contiguous tensor beside `like`, of whatever its memory holds.
fn empty(like: &CubeTensor, shape: impl Into<Shape>, dtype: DType) -> CubeTensor {
    let (client, device) = (like.client.clone(), like.device.clone());
    empty_device_contiguous_dtype(client, device, shape.into(), dtype)
}

/// The type of the tensor's numbers, for kernels.
fn element(x: &CubeTensor) -> ElemType {
    dtype_to_storage_type(x.dtype)
}

/// Cubes for `units` units of work that know nothing of each other.
fn one_each(client: &Client, units: usize) -> (CubeCount, CubeDim) {
    let cube = CubeDim::new(client, units);
    (calculate_cube_count_elemwise(client, units, cube), cube)
}

/// A cube for each of `rows` rows; there may be some more.
fn cube_each(client: &Client, rows: usize) -> (CubeCount, CubeDim) {
    let most = client.properties().hardware.max_units_per_cube;
    // A power of two, for `fold_cube`.
    let units = 256.min(1 << most.ilog2());
    let cube = CubeDim::new_1d(units);
    (calculate_cube_count_elemwise(client, rows * units as usize, cube), cube)
}

/// Numbers that one unit takes at once from contiguous tensors of `len` numbers.
fn vector(x: &CubeTensor, len: usize) -> VectorSize {
    let sizes = x.client.io_optimized_vector_sizes(x.dtype.size());
    sizes.filter(|&size| len.is_multiple_of(size)).max().unwrap_or(1)
}

/// `x`, or `cap·tanh(x/cap)`.
#[cube]
fn capped(x: f32, cap: f32, #[comptime] with_cap: bool) -> f32 {
    if with_cap { (x / cap).tanh() * cap } else { x }
}

/// Memory for sums and maxima of a cube.
#[cube]
fn scratch() -> Shared<[f32]> {
    Shared::new_slice(256usize)
}

/// The sum of all units' values, the same in each unit.
#[cube]
fn sum_of_cube(value: f32, scratch: &mut Shared<[f32]>) -> f32 {
    fold_cube(value, scratch, false)
}

/// The largest of all units' values, the same in each unit.
#[cube]
fn max_of_cube(value: f32, scratch: &mut Shared<[f32]>) -> f32 {
    fold_cube(value, scratch, true)
}

/// As a tree, in the same order every time.
#[cube]
fn fold_cube(value: f32, scratch: &mut Shared<[f32]>, #[comptime] largest: bool) -> f32 {
    // Others may still read what came out before.
    sync_cube();
    scratch[UNIT_POS as usize] = value;
    sync_cube();
    let mut half = CUBE_DIM / 2;
    while half > 0 {
        if UNIT_POS < half {
            let own = scratch[UNIT_POS as usize];
            let other = scratch[(UNIT_POS + half) as usize];
            scratch[UNIT_POS as usize] = if largest { max(own, other) } else { own + other };
        }
        sync_cube();
        half /= 2;
    }
    scratch[0]
}
