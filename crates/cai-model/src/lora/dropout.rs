use burn::tensor::{Tensor, TensorData};
use cai_data::seed::Seed;
use rand::Rng;
use rayon::prelude::*;

/// Inverted dropout: each number of `x` `[rows, in]` is zero with chance `p`, the others are
/// divided by `1 − p` (Srivastava et al., 2014). The mask depends on `seed` and the shape alone.
pub(super) fn drop(x: Tensor<2>, p: f64, seed: Seed) -> Tensor<2> {
    let (device, dtype) = (x.clone().inner().device(), x.dtype());
    let mask = Tensor::<2>::from_data(mask(x.dims(), p, seed), &device);
    x * mask.cast(dtype)
}

/// 0 or `1 / (1 − p)`; every row has its own generator, so that rows can be drawn in parallel.
fn mask([rows, width]: [usize; 2], p: f64, seed: Seed) -> TensorData {
    // The chance in steps of 2^-32.
    let threshold = (p * 2f64.powi(32)) as u32;
    let kept = (1.0 / (1.0 - p)) as f32;
    let mut values = vec![0.0f32; rows * width];
    values.par_chunks_mut(width).enumerate().for_each(|(row, values)| {
        let mut rng = seed.index(row as u64).rng();
        for value in values {
            *value = if rng.next_u32() < threshold { 0.0 } else { kept };
        }
    });
    TensorData::new(values, [rows, width])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_keeps_its_share_and_the_mean() {
        let draw = |seed| mask([200, 300], 0.25, Seed(seed)).try_into_vec::<f32>().unwrap();
        let [a, b] = [1, 1].map(draw);
        assert_eq!(a, b);
        let dropped = a.iter().filter(|&&x| x == 0.0).count() as f64 / a.len() as f64;
        // Four standard deviations of 60,000 draws.
        assert!((dropped - 0.25).abs() < 4.0 * (0.25f64 * 0.75 / 60_000.0).sqrt(), "{dropped}");
        assert!(a.iter().all(|&x| x == 0.0 || (x - 4.0 / 3.0).abs() < 1e-6));
        assert_ne!(a, draw(2));
        let [first, second] = [0, 1].map(|row| &a[row * 300..][..300]);
        assert_ne!(first, second);
    }
}
