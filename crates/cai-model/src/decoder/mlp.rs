use burn::{module::Module, tensor::Tensor};
use cai_kernels::Activation;

use super::{LayerSpec, Linear, Pass, TensorSource};
use crate::Result;

/// A gated MLP: `down(activation(gate(x)) · up(x))` (Shazeer, arXiv 2002.05202).
#[derive(Module, Debug)]
pub struct Mlp {
    /// `[intermediate, hidden]`.
    pub gate_proj: Linear,
    /// `[intermediate, hidden]`.
    pub up_proj: Linear,
    /// `[hidden, intermediate]`.
    pub down_proj: Linear,
    #[module(skip)]
    activation: Activation,
}

impl Mlp {
    pub(super) fn load(
        source: &mut impl TensorSource,
        name: &str,
        hidden: usize,
        spec: &LayerSpec,
    ) -> Result<Self> {
        let inner = spec.intermediate_size;
        Ok(Self {
            gate_proj: Linear::load(source, &format!("{name}.gate_proj"), [inner, hidden])?,
            up_proj: Linear::load(source, &format!("{name}.up_proj"), [inner, hidden])?,
            down_proj: Linear::load(source, &format!("{name}.down_proj"), [hidden, inner])?,
            activation: spec.activation,
        })
    }

    /// `[rows, hidden]` to `[rows, hidden]`.
    pub fn forward(&self, x: Tensor<2>, pass: &Pass) -> Tensor<2> {
        let gate = self.gate_proj.forward(x.clone(), pass);
        let up = self.up_proj.forward(x, pass);
        self.down_proj.forward(cai_kernels::gated(gate, up, self.activation), pass)
    }
}
