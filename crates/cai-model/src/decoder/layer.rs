use burn::{
    module::{Module, Param},
    tensor::{Int, Tensor},
};

use cai_kernels::Activation;

use super::{
    Attention, DecoderSpec, Experts, ExpertsSpec, LayerSpec, Mlp, NormSpec, Pass, PerLayerBlock,
    RmsNorm, Router, TensorSource,
    attention::{Context, KeyValues},
    cache::KvCache,
    param,
};
use crate::Result;

/// One decoder layer: attention and MLP, each normed and added to the residual stream.
///
/// Some families norm the input of each, others the output as well; there `post_attention_layernorm`
/// means the output of attention.
#[derive(Module, Debug)]
pub struct DecoderLayer {
    /// Attention.
    pub self_attn: Attention,
    /// MLP.
    pub mlp: Mlp,
    /// Before attention.
    pub input_layernorm: RmsNorm,
    /// Before the MLP, or, where outputs are normed, after attention.
    pub post_attention_layernorm: RmsNorm,
    /// Before the MLP, where outputs are normed.
    pub pre_feedforward_layernorm: Option<RmsNorm>,
    /// After the MLP, where outputs are normed.
    pub post_feedforward_layernorm: Option<RmsNorm>,
    /// Experts beside the MLP.
    pub mixture: Option<Mixture>,
    /// What is made of the layer's own input.
    pub per_layer: Option<PerLayerBlock>,
    /// What the output is multiplied by, `[1]`.
    pub layer_scalar: Option<Param<Tensor<1>>>,
}

/// What a layer reads beside the residual stream.
#[derive(Default)]
pub(super) struct Beside<'a> {
    /// This layer's number and the cache.
    pub(super) cache: Option<(usize, &'a mut KvCache)>,
    /// Keys and values of the layer that it takes them from.
    pub(super) shared: Option<KeyValues>,
    /// Its own input, `[batch · tokens, width]`.
    pub(super) input: Option<Tensor<2>>,
    /// Slots of `[batch · tokens]` whose outputs are wanted.
    pub(super) at: Option<&'a Tensor<1, Int>>,
}

impl DecoderLayer {
    pub(super) fn load(
        source: &mut impl TensorSource,
        name: &str,
        decoder: &DecoderSpec,
        spec: &LayerSpec,
    ) -> Result<Self> {
        let (width, norm) = (decoder.hidden_size, decoder.norm);
        let part = |part: &str| format!("{name}.{part}");
        let self_attn = Attention::load(source, &part("self_attn"), width, &spec.attention, norm)?;
        let mlp = Mlp::load(source, &part("mlp"), width, spec)?;
        let mut normed =
            |name: &str, wanted| RmsNorm::load_if(wanted, source, &part(name), width, norm);
        let pre_feedforward_layernorm = normed("pre_feedforward_layernorm", spec.output_norms)?;
        let post_feedforward_layernorm = normed("post_feedforward_layernorm", spec.output_norms)?;
        let input_layernorm = RmsNorm::load(source, &part("input_layernorm"), width, norm)?;
        let post_attention_layernorm =
            RmsNorm::load(source, &part("post_attention_layernorm"), width, norm)?;
        let mixture = match spec.experts {
            Some(experts) => {
                let experts = (experts, spec.activation);
                Some(Mixture::load(source, name, width, experts, norm)?)
            }
            None => None,
        };
        let per_layer = match decoder.per_layer_inputs {
            Some(inputs) => {
                let size = [inputs.width, width];
                Some(PerLayerBlock::load(source, name, size, spec.activation, norm)?)
            }
            None => None,
        };
        let layer_scalar = match spec.scaled {
            true => {
                let name = part("layer_scalar");
                Some(param(&name, source.gain(&name, 1, 1.0)?))
            }
            false => None,
        };
        Ok(Self {
            self_attn,
            mlp,
            input_layernorm,
            post_attention_layernorm,
            pre_feedforward_layernorm,
            post_feedforward_layernorm,
            mixture,
            per_layer,
            layer_scalar,
        })
    }

    /// `[batch, tokens, hidden]` to the same, or to `[1, slots, hidden]` with the wanted slots of
    /// `beside`: what only the others' outputs need, the MLP above all, is left out. Also the keys
    /// and values that the layer saw.
    pub(super) fn forward(
        &self,
        x: Tensor<3>,
        context: &Context,
        beside: Beside,
        pass: &Pass,
    ) -> (Tensor<3>, KeyValues) {
        let Beside { cache, shared, input, at } = beside;
        let normed = self.input_layernorm.forward(x.clone());
        let (attended, seen) = self.self_attn.forward(normed, context, cache, shared, pass, at);
        let x = only(x, at);
        let [batch, tokens, hidden] = x.dims();
        let [x, attended] = [x, attended].map(|x| x.reshape([batch * tokens, hidden]));
        let mut x = match (&self.pre_feedforward_layernorm, &self.post_feedforward_layernorm) {
            (Some(before), Some(after)) => {
                let x = x + self.post_attention_layernorm.forward(attended);
                let mut made = self.mlp.forward(before.forward(x.clone()), pass);
                if let Some(mixture) = &self.mixture {
                    made = mixture.forward(x.clone(), made, pass);
                }
                x + after.forward(made)
            }
            _ => {
                let x = x + attended;
                x.clone() + self.mlp.forward(self.post_attention_layernorm.forward(x), pass)
            }
        };
        if let (Some(block), Some(input)) = (&self.per_layer, input) {
            let input = match at {
                Some(at) => input.select(0, at.clone()),
                None => input,
            };
            x = block.forward(x, input, pass);
        }
        if let Some(scalar) = &self.layer_scalar {
            x = x.clone() * scalar.val().cast(x.dtype()).unsqueeze();
        }
        (x.reshape([batch, tokens, hidden]), seen)
    }
}

/// Experts beside the MLP, with norms around each: `norm₁(mlp) + norm₂(experts(norm(x)))`.
#[derive(Module, Debug)]
pub struct Mixture {
    /// Chooses the experts.
    pub router: Router,
    /// Their matrices.
    pub experts: Experts,
    /// Before the experts.
    pub pre_feedforward_layernorm_2: RmsNorm,
    /// After the MLP.
    pub post_feedforward_layernorm_1: RmsNorm,
    /// After the experts.
    pub post_feedforward_layernorm_2: RmsNorm,
}

impl Mixture {
    fn load(
        source: &mut impl TensorSource,
        name: &str,
        width: usize,
        (spec, activation): (ExpertsSpec, Activation),
        norm: NormSpec,
    ) -> Result<Self> {
        let part = |part: &str| format!("{name}.{part}");
        let router = Router::load(source, &part("router"), width, spec, norm)?;
        let experts = Experts::load(source, &part("experts"), width, spec, activation)?;
        let mut normed = |name: &str| RmsNorm::load(source, &part(name), width, norm);
        Ok(Self {
            router,
            experts,
            pre_feedforward_layernorm_2: normed("pre_feedforward_layernorm_2")?,
            post_feedforward_layernorm_1: normed("post_feedforward_layernorm_1")?,
            post_feedforward_layernorm_2: normed("post_feedforward_layernorm_2")?,
        })
    }

    /// `x` is the residual stream, `mlp` what the MLP made of it, both `[rows, hidden]`.
    fn forward(&self, x: Tensor<2>, mlp: Tensor<2>, pass: &Pass) -> Tensor<2> {
        let normed = self.pre_feedforward_layernorm_2.forward(x.clone());
        let made = self.experts.forward(&self.router, x, normed, pass);
        self.post_feedforward_layernorm_1.forward(mlp)
            + self.post_feedforward_layernorm_2.forward(made)
    }
}

/// The wanted slots of `x`, `[1, slots, hidden]`, or all.
pub(super) fn only(x: Tensor<3>, at: Option<&Tensor<1, Int>>) -> Tensor<3> {
    let [batch, tokens, hidden] = x.dims();
    match at {
        Some(at) => x.reshape([1, batch * tokens, hidden]).select(1, at.clone()),
        None => x,
    }
}
