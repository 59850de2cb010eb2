use burn::{
    module::{Module, Param},
    tensor::{DType, Device, Tensor, TensorData},
};
use cai_data::seed::Seed;
use rand::RngExt;

use crate::{gemma::param, kernels};

/// One low-rank update `s·B·A`, applied to activations: `s·(x·Aᵀ)·Bᵀ`.
///
/// The dense product is never formed, forward or backward.
#[derive(Module, Debug)]
pub struct LoraAdapter {
    /// `[r, in]`.
    pub lora_a: Param<Tensor<2>>,
    /// `[out, r]`.
    pub lora_b: Param<Tensor<2>>,
    #[module(skip)]
    scale: f64,
}

impl LoraAdapter {
    /// An adapter for the projection `name` with factors `a` `[r, in]` and `b` `[out, r]`.
    pub fn new(name: &str, a: Tensor<2>, b: Tensor<2>, scale: f64) -> Self {
        let lora_a = param(&format!("{name}.lora_A.weight"), a);
        let lora_b = param(&format!("{name}.lora_B.weight"), b);
        Self { lora_a, lora_b, scale }
    }

    /// The same adapter with both factors marked for training.
    pub fn trainable(self) -> Self {
        Self {
            lora_a: self.lora_a.set_require_grad(true),
            lora_b: self.lora_b.set_require_grad(true),
            scale: self.scale,
        }
    }

    /// The projection by `weight` `[out, in]` and this update, `[rows, in]` to `[rows, out]`.
    /// Factors are kept in f32 and cast to the activations' type.
    pub fn project(&self, x: Tensor<2>, weight: Tensor<2>) -> Tensor<2> {
        kernels::lora_linear(x, weight, self.lora_a.val(), self.lora_b.val(), self.scale)
    }

    /// The dense update `s·B·A` in f32, `[out, in]`.
    pub fn delta(&self) -> Tensor<2> {
        let [a, b] = [&self.lora_a, &self.lora_b].map(|p| p.val().cast(DType::F32));
        b.matmul(a).mul_scalar(self.scale)
    }

    /// Numbers in both factors.
    pub fn num_parameters(&self) -> usize {
        self.lora_a.shape().num_elements() + self.lora_b.shape().num_elements()
    }
}

/// Uniform in ±1/√in, `[r, in]`: PyTorch's `kaiming_uniform_(a=√5)`, as PEFT initialises A.
pub(super) fn kaiming_uniform(r: usize, input: usize, seed: Seed, device: &Device) -> Tensor<2> {
    let bound = 1.0 / (input as f64).sqrt();
    let mut rng = seed.rng();
    let draw = |_| ((2.0 * rng.random::<f64>() - 1.0) * bound) as f32;
    let values: Vec<f32> = (0..r * input).map(draw).collect();
    Tensor::from_data(TensorData::new(values, [r, input]), device)
}
