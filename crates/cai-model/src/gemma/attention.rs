use burn::{
    module::Module,
    tensor::{Int, Tensor},
};

use cai_kernels::Visibility;

use super::{
    GemmaConfig, Linear, Pass, RmsNorm, TensorSource, Variant, cache::KvCache, layer::only,
    rope::RopeTable,
};
use crate::Result;

/// Grouped-query attention with RoPE; query heads share key/value heads.
#[derive(Module, Debug)]
pub struct Attention {
    /// `[heads · head_dim, hidden]`.
    pub q_proj: Linear,
    /// `[kv_heads · head_dim, hidden]`.
    pub k_proj: Linear,
    /// `[kv_heads · head_dim, hidden]`.
    pub v_proj: Linear,
    /// `[hidden, heads · head_dim]`.
    pub o_proj: Linear,
    /// Norm of each query head (Gemma 3).
    pub q_norm: Option<RmsNorm>,
    /// Norm of each key head (Gemma 3).
    pub k_norm: Option<RmsNorm>,
    #[module(skip)]
    shape: Shape,
}

#[derive(Clone, Copy, Debug)]
struct Shape {
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    scale: f64,
    softcap: Option<f64>,
}

/// What every layer of one kind shares in one forward pass.
#[derive(Clone, Debug)]
pub(super) struct Context {
    pub(super) rope: RopeTable,
    pub(super) visibility: Visibility,
}

impl Attention {
    pub(super) fn load(
        source: &mut impl TensorSource,
        name: &str,
        config: &GemmaConfig,
    ) -> Result<Self> {
        let hidden = config.hidden_size;
        let q = config.num_attention_heads * config.head_dim;
        let kv = config.num_key_value_heads * config.head_dim;
        let qk_norm = config.variant == Variant::Gemma3;
        let mut norm = |part: &str| match qk_norm {
            true => {
                let name = format!("{name}.{part}");
                RmsNorm::load(source, &name, config.head_dim, config.rms_norm_eps).map(Some)
            }
            false => Ok(None),
        };
        let (q_norm, k_norm) = (norm("q_norm")?, norm("k_norm")?);
        Ok(Self {
            q_proj: Linear::load(source, &format!("{name}.q_proj"), [q, hidden])?,
            k_proj: Linear::load(source, &format!("{name}.k_proj"), [kv, hidden])?,
            v_proj: Linear::load(source, &format!("{name}.v_proj"), [kv, hidden])?,
            o_proj: Linear::load(source, &format!("{name}.o_proj"), [hidden, q])?,
            q_norm,
            k_norm,
            shape: Shape {
                heads: config.num_attention_heads,
                kv_heads: config.num_key_value_heads,
                head_dim: config.head_dim,
                scale: config.attention_scale,
                softcap: config.attn_logit_softcapping,
            },
        })
    }

    /// `[batch, tokens, hidden]` to the same, or to `[1, slots, hidden]` with `at`, the slots of `[batch
    /// · tokens]` that are wanted; `cache` is this layer's number and the cache.
    pub(super) fn forward(
        &self,
        x: Tensor<3>,
        context: &Context,
        cache: Option<(usize, &mut KvCache)>,
        pass: &Pass,
        at: Option<&Tensor<1, Int>>,
    ) -> Tensor<3> {
        let [batch, tokens, hidden] = x.dims();
        let Shape { heads, kv_heads, head_dim, scale, softcap } = self.shape;
        let x = x.reshape([batch * tokens, hidden]);
        let split = |y: Tensor<2>, heads: usize| y.reshape([batch, tokens, heads, head_dim]);
        let normed = |y: Tensor<4>, norm: &Option<RmsNorm>| match norm {
            Some(norm) => norm.forward(y),
            None => y,
        };
        let q = normed(split(self.q_proj.forward(x.clone(), pass), heads), &self.q_norm);
        let k = normed(split(self.k_proj.forward(x.clone(), pass), kv_heads), &self.k_norm);
        let v = split(self.v_proj.forward(x, pass), kv_heads).swap_dims(1, 2);
        let q = context.rope.apply(q.swap_dims(1, 2));
        let k = context.rope.apply(k.swap_dims(1, 2));
        let [k, v] = match cache {
            Some((layer, cache)) => cache.append(layer, [k, v]),
            None => [k, v],
        };
        let out = cai_kernels::attention(q, k, v, &context.visibility, scale, softcap);
        let out = only(out.swap_dims(1, 2).reshape([batch, tokens, heads * head_dim]), at);
        let [batch, tokens, inner] = out.dims();
        let out = self.o_proj.forward(out.reshape([batch * tokens, inner]), pass);
        out.reshape([batch, tokens, hidden])
    }
}
