//! What the machine can do: the rates that steps are compared with.

use std::{hint::black_box, time::Instant};

use anyhow::Result;
use burn::tensor::{Device, Tensor};
use cai_model::{decoder::Decoder, model::weights_dtype};
use rayon::prelude::*;

use crate::random;

/// Seconds of `work`, the shortest of some repetitions.
fn shortest(repetitions: usize, mut work: impl FnMut()) -> f64 {
    let mut times = (0..repetitions).map(|_| {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64()
    });
    let first = times.next().unwrap_or(f64::INFINITY);
    times.fold(first, f64::min)
}

/// Operations per second of a large matrix product, in the type that a base's weights have on the device.
///
/// # Errors
///
/// That the device fails.
pub fn products(device: &Device) -> Result<f64> {
    let size = if *device == Device::flex() { 1536 } else { 8192 };
    let matrix = |name| -> Result<Tensor<2>> {
        Ok(random::<2>(name, [size; 2])?.to_device(device).cast(weights_dtype(device)))
    };
    let (a, b) = (matrix("a")?, matrix("b")?);
    let mut failed = Ok(());
    let seconds = shortest(10, || {
        drop(black_box(a.clone().matmul(b.clone())));
        failed = failed.clone().and(device.sync());
    });
    failed?;
    Ok(2.0 * (size as f64).powi(3) / seconds)
}

/// Seconds that reading as many bytes takes on all cores, again and again, so that they come from
/// the cache if they fit.
pub fn reading(bytes: usize) -> f64 {
    let numbers = vec![1.0f32; bytes / 4];
    let sum = |part: &[f32]| {
        let (blocks, _) = part.as_chunks::<64>();
        let mut sums = [0.0f32; 64];
        for block in blocks {
            for (sum, x) in sums.iter_mut().zip(block) {
                *sum += x;
            }
        }
        sums.iter().sum::<f32>()
    };
    let part = numbers.len().div_ceil(rayon::current_num_threads()).max(1);
    shortest(30, || {
        black_box(numbers.par_chunks(part).map(sum).sum::<f32>());
    })
}

/// Seconds of the matrix products of one token for each of `rows` sequences, and nothing else.
///
/// # Errors
///
/// None in practice.
pub fn decode_products(decoder: &Decoder, rows: usize) -> Result<f64> {
    let weights: Vec<Tensor<2>> = decoder.weights().iter().map(|w| w.to_tensor()).collect();
    let inputs: Vec<Tensor<2>> =
        weights.iter().map(|w| random("x", [rows, w.dims()[1]])).collect::<Result<_>>()?;
    Ok(shortest(50, || {
        for (x, weight) in inputs.iter().zip(&weights) {
            black_box(cai_kernels::linear(x.clone(), weight.clone()));
        }
    }))
}
