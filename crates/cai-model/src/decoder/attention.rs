use burn::{
    module::Module,
    tensor::{Int, Tensor},
};
use cai_kernels::Visibility;

use super::{
    AttentionSpec, KeysValues, Linear, NormSpec, Pass, RmsNorm, TensorSource, cache::KvCache,
    layer::only, rope::RopeTable,
};
use crate::Result;

/// Grouped-query attention with RoPE; query heads share key/value heads.
#[derive(Module, Debug)]
pub struct Attention {
    /// `[heads · head_dim, hidden]`.
    pub q_proj: Linear,
    /// `[kv_heads · head_dim, hidden]`, unless keys and values are those of another layer.
    pub k_proj: Option<Linear>,
    /// The same, unless values are keys.
    pub v_proj: Option<Linear>,
    /// `[hidden, heads · head_dim]`.
    pub o_proj: Linear,
    /// Norm of each query head.
    pub q_norm: Option<RmsNorm>,
    /// Norm of each key head.
    pub k_norm: Option<RmsNorm>,
    #[module(skip)]
    spec: AttentionSpec,
    #[module(skip)]
    eps: f64,
}

/// What every layer of one kind shares in one forward pass.
#[derive(Clone, Debug)]
pub(super) struct Context {
    pub(super) rope: RopeTable,
    pub(super) visibility: Visibility,
}

/// Keys and values that a layer's queries see, `[batch, kv_heads, keys, head_dim]` each.
pub(super) type KeyValues = [Tensor<4>; 2];

impl Attention {
    pub(super) fn load(
        source: &mut impl TensorSource,
        name: &str,
        hidden: usize,
        spec: &AttentionSpec,
        norm: NormSpec,
    ) -> Result<Self> {
        let (q, kv) = (spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim);
        let [bias, output_bias] = spec.bias;
        let own = !matches!(spec.keys_values, KeysValues::OfLayer(_));
        let name = |part: &str| format!("{name}.{part}");
        let q_proj = Linear::load_biased(source, &name("q_proj"), [q, hidden], bias)?;
        let mut project = |wanted: bool, part: &str| match wanted {
            true => Linear::load_biased(source, &name(part), [kv, hidden], bias).map(Some),
            false => Ok(None),
        };
        let k_proj = project(own, "k_proj")?;
        let v_proj = project(spec.keys_values == KeysValues::Own, "v_proj")?;
        let mut normed = |wanted: bool, part: &str| {
            RmsNorm::load_if(wanted, source, &name(part), spec.head_dim, norm)
        };
        let q_norm = normed(spec.query_key_norms, "q_norm")?;
        let k_norm = normed(spec.query_key_norms && own, "k_norm")?;
        let o_proj = Linear::load_biased(source, &name("o_proj"), [hidden, q], output_bias)?;
        Ok(Self {
            q_proj,
            k_proj,
            v_proj,
            o_proj,
            q_norm,
            k_norm,
            spec: spec.clone(),
            eps: norm.eps,
        })
    }

    /// `[batch, tokens, hidden]` to the same, or to `[1, slots, hidden]` with `at`, the slots of `[batch
    /// · tokens]` that are wanted; and the keys and values that were seen. `cache` is this layer's
    /// number and the cache, `shared` what the layer sees that it takes its keys and values from.
    pub(super) fn forward(
        &self,
        x: Tensor<3>,
        context: &Context,
        cache: Option<(usize, &mut KvCache)>,
        shared: Option<KeyValues>,
        pass: &Pass,
        at: Option<&Tensor<1, Int>>,
    ) -> (Tensor<3>, KeyValues) {
        let [batch, tokens, hidden] = x.dims();
        let AttentionSpec { heads, head_dim, scale, softcap, .. } = self.spec;
        let x = x.reshape([batch * tokens, hidden]);
        let q = self.q_proj.forward(x.clone(), pass).reshape([batch, tokens, heads, head_dim]);
        let q = context.rope.apply(normed(q, &self.q_norm).swap_dims(1, 2));
        let [k, v] = match (shared, &self.k_proj) {
            (Some(shared), _) => shared,
            (None, Some(k_proj)) => {
                let new = self.keys_values(k_proj, x, [batch, tokens], context, pass);
                match cache {
                    Some((layer, cache)) => cache.append(layer, new),
                    None => new,
                }
            }
            (None, None) => unreachable!("a layer without keys of its own is given another's"),
        };
        let seen = [k.clone(), v.clone()];
        let out = cai_kernels::attention(q, k, v, &context.visibility, scale, softcap);
        let out = only(out.swap_dims(1, 2).reshape([batch, tokens, heads * head_dim]), at);
        let [batch, tokens, inner] = out.dims();
        let out = self.o_proj.forward(out.reshape([batch * tokens, inner]), pass);
        (out.reshape([batch, tokens, hidden]), seen)
    }

    /// Keys and values of the tokens `x` `[batch · tokens, hidden]`.
    fn keys_values(
        &self,
        k_proj: &Linear,
        x: Tensor<2>,
        [batch, tokens]: [usize; 2],
        context: &Context,
        pass: &Pass,
    ) -> KeyValues {
        let AttentionSpec { kv_heads, head_dim, .. } = self.spec;
        let project = |linear: &Linear| {
            linear.forward(x.clone(), pass).reshape([batch, tokens, kv_heads, head_dim])
        };
        let k = project(k_proj);
        let v = self.v_proj.as_ref().map_or_else(|| k.clone(), project);
        let v = match self.spec.value_norm {
            true => cai_kernels::rms_norm_plain(v, self.eps),
            false => v,
        };
        let k = context.rope.apply(normed(k, &self.k_norm).swap_dims(1, 2));
        [k, v.swap_dims(1, 2)]
    }
}

fn normed(x: Tensor<4>, norm: &Option<RmsNorm>) -> Tensor<4> {
    match norm {
        Some(norm) => norm.forward(x),
        None => x,
    }
}
