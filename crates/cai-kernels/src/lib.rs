//! The operations that a decoder is made of, each behind one function, and the devices they run on.
//!
//! Each has a reference in Burn's operations, which runs on every device, and a trait with its forward
//! and its backward pass, written by hand, for those devices that have a fused version: f32 on CPU (one
//! pass over memory, on all cores), and CUDA, Vulkan and WGPU (kernels in CubeCL). What differs between
//! families of models is an argument: [`Activation`], a norm's offset, the scale of attention, what a
//! query sees.
//!
//! The LoRA projection is fused for CPU alone: it is products, and Burn has its own for GPUs. So are
//! products with a matrix that stays in blocks of a few bits ([`quantize`]).
//!
//! # Adding a kernel
//!
//! `gated.rs` is the shortest to copy from.
//!
//! 1. A file of its own, with the maths of both passes at its head, and a public function that takes
//!    tensors. Where `fused` says no, it calls `reference`, the same in a few of Burn's operations.
//! 2. A trait with the two passes, under `#[backend_extension]`. For GPUs, `#[fusion]` tells the shapes
//!    and types of what comes out.
//! 3. The trait for `Flex`: tasks of `par_chunks`, whose loops are `vectorized!` and
//!    call only `inline(always)` functions, such as `cpu::exp`.
//! 4. The trait for `Autodiff` of any backend: forward keeps what backward needs, and `Backward`
//!    registers the gradients.
//! 5. The trait for `CubeBackend` in `cube/`, under the same name.
//! 6. Tests at the foot: `testing::check` compares output and gradients with the reference and gradients
//!    with differences of the output; `check_half` does so in half precision where a device has it.
//!
//! A format of quantised weights is smaller: see [`quantize`].

mod attention;
mod cpu;
#[cfg(feature = "cube")]
mod cube;
pub mod device;
mod few;
mod gated;
mod linear;
mod matrix;
mod norm;
pub mod quantize;
mod rope;
mod score;
#[cfg(test)]
mod testing;
mod visibility;

pub use attention::attention;
pub use device::DeviceError;
pub use gated::{Activation, gated};
pub use linear::{linear, lora_linear};
pub use norm::{rms_norm, rms_norm_plain};
pub use rope::rotate;
pub use score::{RowScore, RowScores, score_rows};
pub use visibility::{Seen, Segment, Visibility};

use burn::tensor::Tensor;

/// Whether there is a fused version for these tensors: for f32 on CPU, and for one float type on a GPU.
fn fused<const N: usize, const D: usize>(tensors: [&Tensor<D>; N]) -> bool {
    let one_type = tensors.windows(2).all(|pair| pair[0].dtype() == pair[1].dtype());
    tensors.into_iter().all(cpu::takes) || (one_type && tensors.into_iter().all(on_cube))
}

/// Whether the tensor is on a device of CubeCL.
#[cfg(feature = "cube")]
fn on_cube<const D: usize>(x: &Tensor<D>) -> bool {
    use burn::backend::DispatchDevice;
    let device = x.device();
    match device.as_dispatch() {
        DispatchDevice::Autodiff(device) => matches!(**device, DispatchDevice::Cube(_)),
        device => matches!(device, DispatchDevice::Cube(_)),
    }
}

#[cfg(not(feature = "cube"))]
fn on_cube<const D: usize>(_: &Tensor<D>) -> bool {
    false
}
