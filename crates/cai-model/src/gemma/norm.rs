use burn::{
    module::{Module, Param},
    tensor::Tensor,
};

use super::{TensorSource, param};
use crate::Result;

/// Gemma's RMSNorm: `x / √(mean(x²) + ε) · (1 + w)`, computed in f32 and cast back.
///
/// Zhang and Sennrich, arXiv 1910.07467; the `1 + w` is Gemma's own.
#[derive(Module, Debug)]
pub struct RmsNorm {
    /// Scale minus one, `[width]`.
    pub weight: Param<Tensor<1>>,
    #[module(skip)]
    eps: f64,
}

impl RmsNorm {
    pub(super) fn load(
        source: &mut impl TensorSource,
        name: &str,
        width: usize,
        eps: f64,
    ) -> Result<Self> {
        let name = format!("{name}.weight");
        Ok(Self { weight: param(&name, source.tensor(&name, [width])?), eps })
    }

    /// Normalises the last dimension.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        cai_kernels::rms_norm(x, self.weight.val(), 1.0, self.eps)
    }
}
