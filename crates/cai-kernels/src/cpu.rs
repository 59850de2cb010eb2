//! What the CPU kernels share: access to Flex tensors, loops compiled for the machine's vectors, and
//! an exponential that such a loop can inline.

use std::mem::MaybeUninit;

use burn::{
    backend::{BackendTensor, DispatchTensorKind},
    tensor::{DType, Device, Shape, Tensor, TensorData},
};
use burn_flex::FlexTensor;

/// Numbers that one task of an element-wise kernel handles: small enough to share work evenly, big
/// enough that handing it out costs nothing.
pub(super) const TASK: usize = 1 << 14;

/// Whether the kernels for Flex can take this tensor: f32 on the CPU backend.
pub(super) fn takes<const D: usize>(x: &Tensor<D>) -> bool {
    x.dtype() == DType::F32 && x.device() == Device::flex()
}

/// What the kernels for Flex compute with, if all tensors are f32 on the CPU backend and none is on
/// an autodiff graph.
pub(super) fn untracked<const N: usize, const D: usize>(
    tensors: [&Tensor<D>; N],
) -> Option<[FlexTensor; N]> {
    let flex = |x: &Tensor<D>| match x.clone().into_dispatch().kind {
        DispatchTensorKind::Flex(BackendTensor::Float(x)) if x.dtype() == DType::F32 => Some(x),
        _ => None,
    };
    tensors.into_iter().map(flex).collect::<Option<Vec<_>>>()?.try_into().ok()
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

/// Defines a function that runs with the widest vectors that the machine has.
///
/// Its body is compiled once for each kind of vector unit. That reaches the functions marked
/// `inline(always)` that it calls and its `for` loops, but not the closures of `for_each` or `fold`.
macro_rules! vectorized {
    ($(#[$meta:meta])* fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $out:ty)? $body:block) => {
        $(#[$meta])*
        fn $name($($arg: $type),*) $(-> $out)? {
            #[inline(always)]
            fn body($($arg: $type),*) $(-> $out)? $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
                fn avx512($($arg: $type),*) $(-> $out)? { body($($arg),*) }
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $type),*) $(-> $out)? { body($($arg),*) }
                use std::arch::is_x86_feature_detected as has;
                if has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl") {
                    // SAFETY: the machine has these instructions; every AVX-512 has AVX2 and FMA.
                    return unsafe { avx512($($arg),*) };
                }
                if has!("avx2") && has!("fma") {
                    // SAFETY: the machine has these instructions.
                    return unsafe { avx2($($arg),*) };
                }
            }
            body($($arg),*)
        }
    };
}
pub(super) use vectorized;

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

/// `Σ aᵢbᵢ` of equally many numbers, in 32 sums that vectors can hold, added up in a fixed order.
#[inline(always)]
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<32>(), b.as_chunks::<32>());
    let mut sums = [0.0f32; 32];
    for (a, b) in a.iter().zip(b) {
        for i in 0..32 {
            sums[i] = a[i].mul_add(b[i], sums[i]);
        }
    }
    let mut total: f32 = sums.iter().sum();
    for (a, b) in a_rest.iter().zip(b_rest) {
        total += a * b;
    }
    total
}

/// `Σ aᵢ`, in the same way.
#[inline(always)]
pub(super) fn sum(a: &[f32]) -> f32 {
    let (blocks, rest) = a.as_chunks::<32>();
    let mut sums = [0.0f32; 32];
    for block in blocks {
        for i in 0..32 {
            sums[i] += block[i];
        }
    }
    sums.iter().chain(rest).sum()
}

/// The largest number, −∞ of none.
#[inline(always)]
pub(super) fn max(a: &[f32]) -> f32 {
    let (blocks, rest) = a.as_chunks::<32>();
    let mut largest = [f32::NEG_INFINITY; 32];
    for block in blocks {
        for i in 0..32 {
            largest[i] = if block[i] > largest[i] { block[i] } else { largest[i] };
        }
    }
    let mut total = f32::NEG_INFINITY;
    for &x in largest.iter().chain(rest) {
        total = if x > total { x } else { total };
    }
    total
}

/// tanh |x| = 1 − 2 / (e^2|x| + 1), with the sign of x; within 1.5e-7.
#[inline(always)]
pub(super) fn tanh(x: f32) -> f32 {
    (1.0 - 2.0 / (exp(2.0 * x.abs()) + 1.0)).copysign(x)
}

/// `1 / (1 + e⁻ˣ)`
#[inline(always)]
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// `Φ(x) = ½(1 + erf(x/√2))`, within 1.5e-7, where `bell` is `exp(−x²/2)`.
///
/// With z = |x|/√2 and t = 1/(1 + pz), erfc z = (a₁t + … + a₅t⁵)·exp(−z²) (Abramowitz and Stegun, 7.1.26).
#[inline(always)]
pub(super) fn normal_cdf(x: f32, bell: f32) -> f32 {
    const P: f32 = 0.327_591_1 * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / P.mul_add(x.abs(), 1.0);
    let mut poly = 1.061_405_4_f32;
    for coefficient in [-1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6] {
        poly = poly.mul_add(t, coefficient);
    }
    let tail = 0.5 * t * poly * bell;
    if x < 0.0 { tail } else { 1.0 - tail }
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
    fn the_normal_distribution_is_exact_to_the_last_places() {
        // From tables, both tails.
        let values = [
            (0.0, 0.5),
            (0.5, 0.691_462_46),
            (1.0, 0.841_344_8),
            (2.0, 0.977_249_87),
            (3.0, 0.998_650_1),
            (20.0, 1.0),
        ];
        for (x, expected) in values {
            let bell = exp(-0.5 * x * x);
            assert!((normal_cdf(x, bell) - expected).abs() < 2e-7, "{x}");
            assert!((normal_cdf(-x, bell) - (1.0 - expected)).abs() < 2e-7, "-{x}");
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
