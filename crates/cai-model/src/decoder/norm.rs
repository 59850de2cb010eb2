use burn::{
    module::{Module, Param},
    tensor::Tensor,
};

use super::{NormSpec, TensorSource, param};
use crate::Result;

/// RMSNorm (Zhang and Sennrich, arXiv 1910.07467), computed in f32 and cast back:
/// `x / √(mean(x²) + ε) · (offset + w)`.
#[derive(Module, Debug)]
pub struct RmsNorm {
    /// w, `[width]`.
    pub weight: Param<Tensor<1>>,
    #[module(skip)]
    spec: NormSpec,
}

impl RmsNorm {
    pub(super) fn load(
        source: &mut impl TensorSource,
        name: &str,
        width: usize,
        spec: NormSpec,
    ) -> Result<Self> {
        let name = format!("{name}.weight");
        let weight = source.gain(&name, width, 1.0 - spec.offset)?;
        Ok(Self { weight: param(&name, weight), spec })
    }

    /// The norm if there is one.
    pub(super) fn load_if(
        wanted: bool,
        source: &mut impl TensorSource,
        name: &str,
        width: usize,
        spec: NormSpec,
    ) -> Result<Option<Self>> {
        wanted.then(|| Self::load(source, name, width, spec)).transpose()
    }

    /// Normalises the last dimension.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        cai_kernels::rms_norm(x, self.weight.val(), self.spec.offset, self.spec.eps)
    }
}
