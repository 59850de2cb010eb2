//! NEFTune (Jain et al., arXiv 2310.05914, algorithm 1): noise on the embeddings of training batches.

use burn::tensor::{Tensor, TensorData};
use rand::Rng;

use super::Pass;

/// `x` `[batch · tokens, hidden]` plus noise from the uniform distribution on ±α/√(tokens · hidden),
/// if the pass asks for it and has a seed. As in transformers, `tokens` is the padded width, and the
/// noise is added before Gemma multiplies embeddings by √hidden.
pub(super) fn add(x: Tensor<2>, tokens: usize, pass: &Pass) -> Tensor<2> {
    let Some(seed) = pass.seed.filter(|_| pass.neftune_alpha > 0.0) else { return x };
    let [rows, hidden] = x.dims();
    let magnitude = (pass.neftune_alpha / ((tokens * hidden) as f64).sqrt()) as f32;
    let seed = seed.derive("neftune");
    let mut noise = Vec::with_capacity(rows * hidden);
    for row in 0..rows {
        let mut rng = seed.index(row as u64).rng();
        // 24 bits, as many as an f32 holds, to the interval from −1 to 1.
        let mut draw = || (rng.next_u32() >> 8) as f32 / (1 << 23) as f32 - 1.0;
        noise.extend((0..hidden).map(|_| magnitude * draw()));
    }
    let noise = TensorData::new(noise, [rows, hidden]);
    let (device, dtype) = (x.clone().inner().device(), x.dtype());
    x + Tensor::<2>::from_data(noise, &device).cast(dtype)
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use cai_data::seed::Seed;

    use super::*;

    fn noisy(pass: &Pass) -> Vec<f32> {
        let x = Tensor::<2>::zeros([6, 50], &Device::flex());
        add(x, 3, pass).into_data().iter::<f32>().collect()
    }

    #[test]
    fn noise_fills_its_interval_and_repeats() {
        let pass = Pass { seed: Some(Seed(1)), neftune_alpha: 5.0, ..Pass::default() };
        let noise = noisy(&pass);
        let bound = 5.0 / 150f32.sqrt();
        assert!(noise.iter().all(|x| x.abs() <= bound));
        assert!(noise.iter().any(|x| *x > 0.9 * bound) && noise.iter().any(|x| *x < -0.9 * bound));
        let variance = noise.iter().map(|x| x * x).sum::<f32>() / noise.len() as f32;
        assert!((variance / (bound * bound / 3.0) - 1.0).abs() < 0.2, "{variance}");
        assert_eq!(noise, noisy(&pass));
        assert_ne!(noise, noisy(&Pass { seed: Some(Seed(2)), ..pass }));
        assert!(noisy(&Pass { seed: None, ..pass }).iter().all(|x| *x == 0.0));
        assert!(noisy(&Pass { neftune_alpha: 0.0, ..pass }).iter().all(|x| *x == 0.0));
    }
}
