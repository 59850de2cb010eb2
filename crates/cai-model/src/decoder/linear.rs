use burn::{
    module::{Module, Param},
    tensor::Tensor,
};

use super::{Pass, TensorSource, Weight, param};
use crate::{Result, lora::LoraAdapter};

/// A projection, and its adapter if it has one.
#[derive(Module, Debug)]
pub struct Linear {
    /// `[out, in]`, as Hugging Face stores it.
    pub weight: Weight,
    /// Added to every output, `[out]`.
    pub bias: Option<Param<Tensor<1>>>,
    /// The low-rank update (LoRA, arXiv 2106.09685).
    pub lora: Option<LoraAdapter>,
}

impl Linear {
    /// Without a bias.
    pub(super) fn load(
        source: &mut impl TensorSource,
        name: &str,
        size: [usize; 2],
    ) -> Result<Self> {
        let weight = source.weight(&format!("{name}.weight"), size)?;
        Ok(Self { weight, bias: None, lora: None })
    }

    /// With a bias where the spec says so.
    pub(super) fn load_biased(
        source: &mut impl TensorSource,
        name: &str,
        size: [usize; 2],
        bias: bool,
    ) -> Result<Self> {
        let mut linear = Self::load(source, name, size)?;
        if bias {
            let name = format!("{name}.bias");
            linear.bias = Some(param(&name, source.gain(&name, size[0], 0.0)?));
        }
        Ok(linear)
    }

    /// `[rows, in]` to `[rows, out]`, with the adapter's update.
    pub fn forward(&self, x: Tensor<2>, pass: &Pass) -> Tensor<2> {
        let y = match (&self.lora, &self.weight) {
            (Some(lora), Weight::Dense(weight)) if lora.is_plain(pass) => {
                lora.project(x, weight.val())
            }
            (Some(lora), _) => lora.forward(x, |x| self.project(x), pass),
            (None, _) => self.project(x),
        };
        match &self.bias {
            Some(bias) => y + bias.val().unsqueeze(),
            None => y,
        }
    }

    /// The base's weight alone, `x·Wᵀ`: `[rows, in]` to `[rows, out]`.
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
