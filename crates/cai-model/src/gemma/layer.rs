use burn::{
    module::Module,
    tensor::{Int, Tensor},
};

use super::{
    Attention, GemmaConfig, Mlp, Pass, RmsNorm, TensorSource, Variant, attention::Context,
    cache::KvCache,
};
use crate::Result;

/// One decoder layer: attention and MLP, each normed and added to the residual stream.
///
/// Gemma 1 norms the input of each; Gemma 2 and 3 norm the output as well, and there
/// `post_attention_layernorm` means the output of attention.
#[derive(Module, Debug)]
pub struct DecoderLayer {
    /// Attention.
    pub self_attn: Attention,
    /// MLP.
    pub mlp: Mlp,
    /// Before attention.
    pub input_layernorm: RmsNorm,
    /// Gemma 1: before the MLP. Gemma 2 and 3: after attention.
    pub post_attention_layernorm: RmsNorm,
    /// Before the MLP (Gemma 2 and 3).
    pub pre_feedforward_layernorm: Option<RmsNorm>,
    /// After the MLP (Gemma 2 and 3).
    pub post_feedforward_layernorm: Option<RmsNorm>,
}

impl DecoderLayer {
    pub(super) fn load(
        source: &mut impl TensorSource,
        name: &str,
        config: &GemmaConfig,
    ) -> Result<Self> {
        let (width, eps) = (config.hidden_size, config.rms_norm_eps);
        let self_attn = Attention::load(source, &format!("{name}.self_attn"), config)?;
        let mlp = Mlp::load(source, &format!("{name}.mlp"), config)?;
        let mut norm = |part: &str| RmsNorm::load(source, &format!("{name}.{part}"), width, eps);
        let sandwich = config.variant != Variant::Gemma1;
        Ok(Self {
            self_attn,
            mlp,
            input_layernorm: norm("input_layernorm")?,
            post_attention_layernorm: norm("post_attention_layernorm")?,
            pre_feedforward_layernorm: match sandwich {
                true => Some(norm("pre_feedforward_layernorm")?),
                false => None,
            },
            post_feedforward_layernorm: match sandwich {
                true => Some(norm("post_feedforward_layernorm")?),
                false => None,
            },
        })
    }

    /// `[batch, tokens, hidden]` to the same, or to `[1, slots, hidden]` with `at`: the slots of
    /// `[batch · tokens]` whose outputs are wanted. What only the others' outputs need, the MLP above
    /// all, is left out.
    pub(super) fn forward(
        &self,
        x: Tensor<3>,
        context: &Context,
        cache: Option<(usize, &mut KvCache)>,
        pass: &Pass,
        at: Option<&Tensor<1, Int>>,
    ) -> Tensor<3> {
        let normed = self.input_layernorm.forward(x.clone());
        let attended = self.self_attn.forward(normed, context, cache, pass, at);
        let x = only(x, at);
        match (&self.pre_feedforward_layernorm, &self.post_feedforward_layernorm) {
            (Some(before), Some(after)) => {
                let x = x + self.post_attention_layernorm.forward(attended);
                x.clone() + after.forward(self.feed_forward(before.forward(x), pass))
            }
            _ => {
                let x = x + attended;
                x.clone() + self.feed_forward(self.post_attention_layernorm.forward(x), pass)
            }
        }
    }

    fn feed_forward(&self, x: Tensor<3>, pass: &Pass) -> Tensor<3> {
        let [batch, tokens, hidden] = x.dims();
        self.mlp.forward(x.reshape([batch * tokens, hidden]), pass).reshape([batch, tokens, hidden])
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
