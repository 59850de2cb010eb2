//! Rotary position embedding (Su et al., arXiv 2104.09864), in the rotate-half layout.

use std::f64::consts::TAU;

use burn::tensor::{Device, Tensor, TensorData};

/// How fast the pairs of a head's numbers turn: pair i by the angle `position · fᵢ`, where the
/// series `θ^(−2i/d)` is changed by the scaling.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RopeSpec {
    /// θ.
    pub theta: f64,
    /// What becomes of the series.
    pub scaling: RopeScaling,
}

/// Changes of the series of frequencies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RopeScaling {
    /// All are divided by this; 1 changes nothing.
    Linear(f64),
    /// Low frequencies are divided by `factor`, high ones stay, those between are blended (Llama 3.1,
    /// arXiv 2407.21783).
    Llama3 {
        /// For wavelengths above `original_context / low`.
        factor: f64,
        /// Border of the low frequencies.
        low: f64,
        /// Border of the high frequencies.
        high: f64,
        /// Longest sequence before the context was extended.
        original_context: f64,
    },
    /// Only this share of the pairs turns (Gemma 4), all as fast as without it, over `factor`.
    Proportional {
        /// From 0 to 1.
        share: f64,
        /// All are divided by this.
        factor: f64,
    },
}

impl RopeSpec {
    /// No scaling.
    pub fn new(theta: f64) -> Self {
        Self { theta, scaling: RopeScaling::Linear(1.0) }
    }

    /// fᵢ of the pairs of a head.
    fn frequencies(&self, head_dim: usize) -> Vec<f32> {
        let half = head_dim / 2;
        let plain = |i: usize| 1.0 / self.theta.powf(2.0 * i as f64 / head_dim as f64) as f32;
        match self.scaling {
            RopeScaling::Linear(factor) => (0..half).map(|i| plain(i) / factor as f32).collect(),
            RopeScaling::Llama3 { factor, low, high, original_context } => {
                let scaled = |i| {
                    let f = plain(i) as f64;
                    // Between the borders, the share of the unchanged frequency.
                    let wavelength = TAU / f;
                    let share = (original_context / wavelength - low) / (high - low);
                    let share = share.clamp(0.0, 1.0);
                    ((1.0 - share) * f / factor + share * f) as f32
                };
                (0..half).map(scaled).collect()
            }
            RopeScaling::Proportional { share, factor } => {
                let turning = (share * head_dim as f64 / 2.0) as usize;
                let f = |i| if i < turning { plain(i) / factor as f32 } else { 0.0 };
                (0..half).map(f).collect()
            }
        }
    }
}

/// Cosines and sines of every token's angles, `[rows, 1, tokens, head_dim / 2]`, where rows is 1
/// when all rows of a batch have the same positions.
#[derive(Clone, Debug)]
pub(super) struct RopeTable {
    cos: Tensor<4>,
    sin: Tensor<4>,
}

impl RopeTable {
    /// The table for `positions[row][token]`.
    pub(super) fn new(
        rope: RopeSpec,
        head_dim: usize,
        positions: &[Vec<usize>],
        device: &Device,
    ) -> Self {
        let frequencies = rope.frequencies(head_dim);
        let tokens = positions[0].len();
        let angles: Vec<f32> = positions
            .iter()
            .flatten()
            .flat_map(|&p| frequencies.iter().map(move |f| p as f32 * f))
            .collect();
        let table = |f: fn(f32) -> f32| {
            let values: Vec<f32> = angles.iter().map(|&a| f(a)).collect();
            let shape = [positions.len(), 1, tokens, head_dim / 2];
            Tensor::from_data(TensorData::new(values, shape), device)
        };
        Self { cos: table(f32::cos), sin: table(f32::sin) }
    }

    /// Rotates `x` `[batch, heads, tokens, head_dim]`.
    pub(super) fn apply(&self, x: Tensor<4>) -> Tensor<4> {
        cai_kernels::rotate(x, self.cos.clone(), self.sin.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scaling_changes_the_frequencies_it_is_made_for() {
        let plain = RopeSpec::new(1e4).frequencies(16);
        let of = |scaling| RopeSpec { theta: 1e4, scaling }.frequencies(16);
        let linear = of(RopeScaling::Linear(8.0));
        assert!(linear.iter().zip(&plain).all(|(a, b)| (a * 8.0 - b).abs() < 1e-7));
        let llama =
            RopeScaling::Llama3 { factor: 8.0, low: 1.0, high: 4.0, original_context: 64.0 };
        let llama = of(llama);
        assert_eq!(llama[0], plain[0]);
        assert!((llama[7] * 8.0 - plain[7]).abs() < 1e-9);
        let partial = of(RopeScaling::Proportional { share: 0.25, factor: 1.0 });
        assert_eq!(partial[..2], plain[..2]);
        assert_eq!(partial[2..], [0.0; 6]);
    }
}
