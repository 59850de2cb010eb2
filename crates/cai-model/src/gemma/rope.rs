//! Rotary position embedding (Su et al., arXiv 2104.09864), in the rotate-half layout of Gemma.

use burn::tensor::{Device, Tensor, TensorData};

use super::RopeConfig;

/// Cosines and sines of every token's angles, `[rows, 1, tokens, head_dim / 2]`, where rows is 1
/// when all rows of a batch have the same positions.
#[derive(Clone, Debug)]
pub(super) struct RopeTable {
    cos: Tensor<4>,
    sin: Tensor<4>,
}

impl RopeTable {
    /// The table for `positions[row][token]`; angle of pair i: `position / factor · θ^(−2i/d)`.
    pub(super) fn new(
        rope: RopeConfig,
        head_dim: usize,
        positions: &[Vec<usize>],
        device: &Device,
    ) -> Self {
        let half = head_dim / 2;
        let tokens = positions[0].len();
        let frequency: Vec<f32> = (0..half)
            .map(|i| 1.0 / (rope.theta.powf(2.0 * i as f64 / head_dim as f64)) as f32)
            .map(|f| f / rope.factor as f32)
            .collect();
        let angles: Vec<f32> = positions
            .iter()
            .flatten()
            .flat_map(|&p| frequency.iter().map(move |f| p as f32 * f))
            .collect();
        let table = |f: fn(f32) -> f32| {
            let values: Vec<f32> = angles.iter().map(|&a| f(a)).collect();
            Tensor::from_data(TensorData::new(values, [positions.len(), 1, tokens, half]), device)
        };
        Self { cos: table(f32::cos), sin: table(f32::sin) }
    }

    /// Rotates `x` `[batch, heads, tokens, head_dim]`.
    pub(super) fn apply(&self, x: Tensor<4>) -> Tensor<4> {
        cai_kernels::rotate(x, self.cos.clone(), self.sin.clone())
    }
}
