//! Checks of a fused kernel against its reference and against differences.

use burn::tensor::{DType, Device, Tensor, TensorData};
use cai_data::seed::{Seed, gaussian};

/// Draws of N(0, 1) that depend on `name`.
pub fn random<const D: usize>(name: &str, shape: [usize; D]) -> Tensor<D> {
    let values = gaussian(shape.iter().product(), 1.0, Seed(5).derive(name));
    Tensor::from_data(TensorData::new(values, shape), &Device::flex())
}

/// Where references compute, and fused versions beside those on CPU: on the device that
/// `CAI_TEST_DEVICE` names; on CPU if it names none.
pub fn device() -> Device {
    let setting = std::env::var("CAI_TEST_DEVICE").unwrap_or("cpu".into());
    crate::device::parse(&setting).unwrap()
}

/// Whether `fused`, on CPU and on [`device`], and `reference`, on [`device`], have the same output and
/// the same gradients of all inputs, and whether the gradients are the slope that differences of the
/// output show.
pub fn check<const N: usize, const D: usize>(
    inputs: [Tensor<D>; N],
    fused: impl Fn([Tensor<D>; N]) -> Tensor<D>,
    reference: impl Fn([Tensor<D>; N]) -> Tensor<D>,
) {
    let there = inputs.clone().map(|x| x.to_device(&device()));
    let expected = reference(there.clone());
    let out = fused(inputs.clone());
    close(&out, &expected, "output");
    close(&fused(there.clone()), &expected, "output there");
    // The scalar that is differentiated: a weighted sum of the output.
    let weights = random("weights", out.dims());
    let gradients = |kernel: &dyn Fn([Tensor<D>; N]) -> Tensor<D>, inputs: [Tensor<D>; N]| {
        let tracked = inputs.map(|x| x.autodiff().require_grad());
        let out = kernel(tracked.clone());
        let weights = weights.clone().to_device(&out.device()).autodiff();
        let grads = (out * weights).sum().backward();
        tracked.map(|x| x.grad(&grads).expect("a gradient"))
    };
    let ours = gradients(&fused, inputs.clone());
    let ours_there = gradients(&fused, there.clone());
    let expected_gradients = gradients(&reference, there.clone());
    for (i, expected) in expected_gradients.iter().enumerate() {
        close(&ours[i], expected, &format!("gradient of input {i}"));
        close(&ours_there[i], expected, &format!("gradient of input {i} there"));
    }
    const STEP: f64 = 1e-2;
    let sum = |out: Tensor<D>| {
        let products = out * weights.clone();
        values(&products).iter().map(|&x| x as f64).sum::<f64>()
    };
    let directions: Vec<Tensor<D>> = inputs
        .iter()
        .enumerate()
        .map(|(i, x)| random(&format!("direction {i}"), x.dims()))
        .collect();
    let at = |step: f64| {
        let mut i = 0;
        let moved = inputs.clone().map(|x| {
            i += 1;
            x + directions[i - 1].clone().mul_scalar(step)
        });
        sum(fused(moved))
    };
    let slope = (at(STEP) - at(-STEP)) / (2.0 * STEP);
    let expected: f64 = ours.iter().zip(&directions).map(|(g, d)| dot(g, d)).sum();
    let size: f64 =
        ours.iter().zip(&directions).map(|(g, d)| dot(&g.clone().abs(), &d.clone().abs())).sum();
    assert!((slope - expected).abs() < 2e-3 * size, "slope {slope}, gradients say {expected}");
}

/// Whether `fused` in the half-precision types that [`device`] computes in has the output and the
/// gradients of `reference` in f32.
pub fn check_half<const N: usize, const D: usize>(
    inputs: [Tensor<D>; N],
    fused: impl Fn([Tensor<D>; N]) -> Tensor<D>,
    reference: impl Fn([Tensor<D>; N]) -> Tensor<D>,
) {
    let device = device();
    let gradients = |kernel: &dyn Fn([Tensor<D>; N]) -> Tensor<D>, inputs: [Tensor<D>; N]| {
        let tracked = inputs.map(|x| x.autodiff().require_grad());
        let grads = kernel(tracked.clone()).cast(DType::F32).square().sum().backward();
        tracked.map(|x| x.grad(&grads).expect("a gradient").cast(DType::F32))
    };
    for dtype in [DType::F16, DType::BF16] {
        if device == Device::flex() || !device.supports_dtype(dtype) {
            continue;
        }
        println!("{dtype:?}");
        // The same rounded inputs for both.
        let half = inputs.clone().map(|x| x.to_device(&device).cast(dtype));
        let whole = half.clone().map(|x| x.cast(DType::F32));
        let out = fused(half.clone());
        assert_eq!(out.dtype(), dtype);
        let what = format!("{dtype:?}");
        within(HALF, &out.cast(DType::F32), &reference(whole.clone()), &what);
        let expected = gradients(&reference, whole);
        for (ours, expected) in gradients(&fused, half).iter().zip(&expected) {
            within(HALF, ours, expected, &format!("gradient, {what}"));
        }
    }
}

fn dot<const D: usize>(a: &Tensor<D>, b: &Tensor<D>) -> f64 {
    values(a).iter().zip(values(b)).map(|(&a, b)| a as f64 * b as f64).sum()
}

/// What is rounded to the eight bits of bf16 differs by so much after a few operations.
const HALF: f32 = 3e-2;

/// Whether two tensors are the same but for rounding.
pub fn close<const D: usize>(ours: &Tensor<D>, theirs: &Tensor<D>, what: &str) {
    within(2e-5, ours, theirs, what);
}

/// Whether two tensors differ by no more than `tolerance` of the largest number.
fn within<const D: usize>(tolerance: f32, ours: &Tensor<D>, theirs: &Tensor<D>, what: &str) {
    assert_eq!(ours.dims(), theirs.dims(), "{what}");
    let (ours, theirs) = (values(ours), values(theirs));
    let size = theirs.iter().fold(1.0f32, |size, x| size.max(x.abs()));
    for (i, (a, b)) in ours.iter().zip(&theirs).enumerate() {
        assert!((a - b).abs() <= tolerance * size, "{what}: {a}, not {b}, at {i}");
    }
}

fn values<const D: usize>(x: &Tensor<D>) -> Vec<f32> {
    let data: TensorData = x.clone().into_data();
    data.iter::<f32>().collect()
}
