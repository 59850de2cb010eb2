use burn::{
    module::{Module, Param},
    tensor::Tensor,
};

use super::{Pass, TensorSource, param};
use crate::{Result, lora::LoraAdapter};

/// A projection without bias, and its adapter if it has one.
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

    /// `[rows, in]` to `[rows, out]`, with the adapter's update.
    pub fn forward(&self, x: Tensor<2>, pass: &Pass) -> Tensor<2> {
        match &self.lora {
            Some(lora) => lora.forward(x, |x| self.project(x), pass),
            None => self.project(x),
        }
    }

    /// The base alone, `x·Wᵀ`: `[rows, in]` to `[rows, out]`.
    pub fn project(&self, x: Tensor<2>) -> Tensor<2> {
        x.matmul(self.weight.val().transpose())
    }

    /// The base weight as a dense tensor, `[out, in]`.
    pub fn dense_weight(&self) -> Tensor<2> {
        self.weight.val().inner()
    }

    /// `[out, in]`.
    pub fn size(&self) -> [usize; 2] {
        self.weight.shape().dims()
    }
}
