use burn::{module::Module, tensor::Tensor};

use super::{Pass, TensorSource, Weight};
use crate::{Result, lora::LoraAdapter};

/// A projection without bias, and its adapter if it has one.
#[derive(Module, Debug)]
pub struct Linear {
    /// `[out, in]`, as Hugging Face stores it.
    pub weight: Weight,
    /// The low-rank update (LoRA, arXiv 2106.09685).
    pub lora: Option<LoraAdapter>,
}

impl Linear {
    pub(super) fn load(
        source: &mut impl TensorSource,
        name: &str,
        size: [usize; 2],
    ) -> Result<Self> {
        Ok(Self { weight: source.weight(&format!("{name}.weight"), size)?, lora: None })
    }

    /// `[rows, in]` to `[rows, out]`, with the adapter's update.
    pub fn forward(&self, x: Tensor<2>, pass: &Pass) -> Tensor<2> {
        match (&self.lora, &self.weight) {
            (Some(lora), Weight::Dense(weight)) if lora.is_plain(pass) => {
                lora.project(x, weight.val())
            }
            (Some(lora), _) => lora.forward(x, |x| self.project(x), pass),
            (None, _) => self.project(x),
        }
    }

    /// The base alone, `x·Wᵀ`: `[rows, in]` to `[rows, out]`.
    pub fn project(&self, x: Tensor<2>) -> Tensor<2> {
        self.weight.project(x)
    }

    /// The base weight as a dense tensor without autodiff, `[out, in]`: a copy if it is quantised.
    pub fn dense_weight(&self) -> Tensor<2> {
        self.weight.to_tensor()
    }

    /// `[out, in]`.
    pub fn size(&self) -> [usize; 2] {
        self.weight.size()
    }
}
