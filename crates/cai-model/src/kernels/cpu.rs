//! What the CPU kernels share: access to Flex tensors, loops compiled for the machine's vectors, and
//! an exponential that such a loop can inline.

use std::mem::MaybeUninit;

use burn::tensor::{DType, Device, Shape, Tensor, TensorData};
use burn_flex::FlexTensor;
use pulp::Arch;

/// Numbers that one task of an element-wise kernel handles: small enough to share work evenly, big
/// enough that handing it out costs nothing.
pub(super) const TASK: usize = 1 << 14;

/// Whether the kernels for Flex can take this tensor: f32 on the CPU backend.
pub(super) fn takes<const D: usize>(x: &Tensor<D>) -> bool {
    x.dtype() == DType::F32 && x.device() == Device::flex()
}

/// The same numbers in row-major order, without a copy if they are so already.
pub(super) fn contiguous(x: FlexTensor) -> FlexTensor {
    x.to_contiguous()
}

/// The numbers of a contiguous tensor.
pub(super) fn numbers(x: &FlexTensor) -> &[f32] {
    let start = x.layout().start_offset();
    &x.storage::<f32>()[start..start + x.layout().num_elements()]
}

/// The same for writing, in place if nothing else holds the tensor.
pub(super) fn numbers_mut(x: &mut FlexTensor) -> &mut [f32] {
    let start = x.layout().start_offset();
    let range = start..start + x.layout().num_elements();
    &mut x.storage_mut::<f32>()[range]
}

/// A row-major tensor that `fill` writes whole.
///
/// # Safety
///
/// `fill` must write every element: memory is not cleared before, which would cost as much as many a
/// kernel.
pub(super) unsafe fn filled(
    shape: impl Into<Shape>,
    fill: impl FnOnce(&mut [MaybeUninit<f32>]),
) -> FlexTensor {
    let shape = shape.into();
    let len = shape.num_elements();
    let mut values = Vec::with_capacity(len);
    fill(&mut values.spare_capacity_mut()[..len]);
    // SAFETY: the caller's promise.
    unsafe { values.set_len(len) };
    FlexTensor::from_data(TensorData::new(values, shape))
}

/// Runs a loop with the widest vectors that the machine has.
#[inline(always)]
pub(super) fn vectorized<R>(work: impl FnOnce() -> R) -> R {
    Arch::new().dispatch(work)
}

/// Rows that one task takes, for rows of `width` numbers.
pub(super) fn task_rows(width: usize) -> usize {
    (TASK / width.max(1)).max(1)
}

/// eˣ within 2 units in the last place; 0 below -87, ∞ above 88.
///
/// x = n·ln 2 + r with |r| ≤ ½ ln 2; eʳ by its Taylor polynomial of degree 7 (error below 6e-9), times
/// 2ⁿ through the exponent's bits.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    /// 1.5·2²³: adding it rounds to a whole number, in the lowest bits of the sum.
    const ROUND: f32 = 12_582_912.0;
    // ln 2 in two parts, the first with trailing zeros so that n times it is exact.
    const LN2_HIGH: f32 = 355.0 / 512.0;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let clamped = x.clamp(-87.0, 88.0);
    let shifted = clamped.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, clamped));
    let mut poly = 1.984_127e-4_f32;
    for coefficient in [1.388_888_9e-3, 8.333_334e-3, 4.166_666_8e-2, 1.666_666_7e-1, 0.5, 1.0, 1.0]
    {
        poly = poly.mul_add(r, coefficient);
    }
    // The low bits of `shifted` are n; moved into the exponent they multiply by 2ⁿ.
    let power = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
    let result = poly * power;
    let result = if x < -87.0 { 0.0 } else { result };
    if x > 88.0 { f32::INFINITY } else { result }
}

/// `Σ aᵢbᵢ`, in 32 sums that vectors can hold, added up in a fixed order.
#[inline(always)]
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 32;
    let mut sums = [0.0f32; LANES];
    let (a_blocks, b_blocks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest = a_blocks.remainder().iter().zip(b_blocks.remainder());
    for (a, b) in a_blocks.zip(b_blocks) {
        for i in 0..LANES {
            sums[i] = a[i].mul_add(b[i], sums[i]);
        }
    }
    sums.iter().sum::<f32>() + rest.map(|(a, b)| a * b).sum::<f32>()
}

/// `Σ aᵢ`, in the same way.
#[inline(always)]
pub(super) fn sum(a: &[f32]) -> f32 {
    let mut sums = [0.0f32; 32];
    let blocks = a.chunks_exact(32);
    let rest = blocks.remainder().iter().sum::<f32>();
    for block in blocks {
        for (sum, x) in sums.iter_mut().zip(block) {
            *sum += x;
        }
    }
    sums.iter().sum::<f32>() + rest
}

/// The largest number, −∞ of none.
#[inline(always)]
pub(super) fn max(a: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let mut largest = [f32::NEG_INFINITY; 32];
    let blocks = a.chunks_exact(32);
    let rest = blocks.remainder().iter().copied().fold(f32::NEG_INFINITY, larger);
    for block in blocks {
        for (largest, &x) in largest.iter_mut().zip(block) {
            *largest = larger(*largest, x);
        }
    }
    largest.iter().copied().fold(rest, larger)
}

/// tanh |x| = 1 − 2 / (e^2|x| + 1), with the sign of x; within 1.5e-7.
#[inline(always)]
pub(super) fn tanh(x: f32) -> f32 {
    (1.0 - 2.0 / (exp(2.0 * x.abs()) + 1.0)).copysign(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_exact_to_the_last_places() {
        for i in -870_000..880_000 {
            let x = i as f32 * 1e-4;
            let exact = (x as f64).exp();
            let error = (exp(x) as f64 - exact).abs() / exact;
            assert!(error < 2.4e-7, "exp({x}) is {}, not {exact}", exp(x));
        }
        assert_eq!([exp(0.0), exp(-0.0), exp(-1e30), exp(1e30)], [1.0, 1.0, 0.0, f32::INFINITY]);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn tanh_is_exact_to_the_last_places() {
        for i in -200_000..200_000 {
            let x = i as f32 * 1e-4;
            assert!((tanh(x) as f64 - (x as f64).tanh()).abs() < 1.5e-7, "tanh({x})");
        }
    }

    #[test]
    fn sums_and_maxima_take_every_number() {
        for len in [0, 1, 31, 32, 33, 100] {
            let values: Vec<f32> = (0..len).map(|i| (i * 7 % 11) as f32 - 5.0).collect();
            assert_eq!(sum(&values), values.iter().sum::<f32>());
            assert_eq!(dot(&values, &values), values.iter().map(|x| x * x).sum::<f32>());
            assert_eq!(max(&values), values.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        }
    }
}
