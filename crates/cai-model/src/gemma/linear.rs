use burn::{
    module::{Module, Param},
    tensor::Tensor,
};

use super::{TensorSource, param};
use crate::{Result, lora::LoraAdapter};

/// A projection without bias, and its adapter if it has one: `x·Wᵀ + s·(x·Aᵀ)·Bᵀ`.
#[derive(Module, Debug)]
pub struct Linear {
    /// `[out, in]`, as Hugging Face stores it.
    pub weight: Param<Tensor<2>>,
    /// The low-rank update (LoRA, arXiv 2106.09685).
    pub lora: Option<LoraAdapter>,
}

impl Linear {
    pub(super) fn load(
        source: &mut impl TensorSource,
        name: &str,
        [out, input]: [usize; 2],
    ) -> Result<Self> {
        let name = format!("{name}.weight");
        Ok(Self { weight: param(&name, source.tensor(&name, [out, input])?), lora: None })
    }

    /// `[rows, in]` to `[rows, out]`.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        match &self.lora {
            Some(lora) => lora.project(x, self.weight.val()),
            None => x.matmul(self.weight.val().transpose()),
        }
    }
}
