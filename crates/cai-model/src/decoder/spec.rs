//! A decoder as data: what a family's config.json comes down to.

use cai_kernels::Activation;
use serde_json::Value;

use super::{Decoder, rope::RopeSpec, source::Shapes};
use crate::Result;

/// The shape and numerics of one decoder.
#[derive(Clone, Debug, PartialEq)]
pub struct DecoderSpec {
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Longest sequence, in tokens.
    pub max_position_embeddings: usize,
    /// Every RMSNorm with a weight.
    pub norm: NormSpec,
    /// Embeddings are multiplied by this: √hidden in Gemma, 1 elsewhere.
    pub embedding_scale: f64,
    /// Whether the head is the embedding.
    pub tie_word_embeddings: bool,
    /// `cap · tanh(logit / cap)` on final logits.
    pub final_logit_softcapping: Option<f64>,
    /// From the first to the last.
    pub layers: Vec<LayerSpec>,
    /// A second embedding, of which every layer gets a part.
    pub per_layer_inputs: Option<PerLayerInputs>,
    /// config.json of the text model: saved back unchanged, so that no key of it is lost.
    pub raw: Value,
}

/// RMSNorm: `x / √(mean(x²) + eps) · (offset + w)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NormSpec {
    /// Added to the mean square.
    pub eps: f64,
    /// 1 in Gemma 1 to 3, 0 elsewhere.
    pub offset: f64,
}

/// One decoder layer.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerSpec {
    /// Attention.
    pub attention: AttentionSpec,
    /// Width of the MLP.
    pub intermediate_size: usize,
    /// The MLP's gate activation.
    pub activation: Activation,
    /// Whether the outputs of attention and MLP are normed, too. The names follow Hugging Face:
    /// without, `post_attention_layernorm` norms the MLP's input.
    pub output_norms: bool,
    /// Experts beside the MLP.
    pub experts: Option<ExpertsSpec>,
    /// Whether the layer's output is multiplied by a stored number.
    pub scaled: bool,
}

/// Grouped-query attention of one layer.
#[derive(Clone, Debug, PartialEq)]
pub struct AttentionSpec {
    /// Query heads.
    pub heads: usize,
    /// Key/value heads; divides the query heads.
    pub kv_heads: usize,
    /// Width of one head, not necessarily hidden/heads.
    pub head_dim: usize,
    /// Scores are multiplied by this.
    pub scale: f64,
    /// `cap · tanh(score / cap)` on scores.
    pub softcap: Option<f64>,
    /// A token sees the last so many tokens, itself included; all before it if `None`.
    pub window: Option<usize>,
    /// How positions are told.
    pub rope: RopeSpec,
    /// Whether each head of queries and keys is normed.
    pub query_key_norms: bool,
    /// Whether values are normed (without a weight).
    pub value_norm: bool,
    /// Biases of query, key and value, and of the output.
    pub bias: [bool; 2],
    /// Where keys and values come from.
    pub keys_values: KeysValues,
}

/// Where a layer's keys and values come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeysValues {
    /// Projections of its own.
    Own,
    /// One projection: values are the keys before their norm and rotation.
    OneProjection,
    /// Those of the layer of this number.
    OfLayer(usize),
}

/// A router and its experts (Gemma 4 26B-A4B).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpertsSpec {
    /// How many there are.
    pub count: usize,
    /// How many a token goes to.
    pub top_k: usize,
    /// Width of one.
    pub intermediate_size: usize,
}

/// The second embedding's shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PerLayerInputs {
    /// Width of one layer's part.
    pub width: usize,
    /// Its rows.
    pub vocab_size: usize,
}

impl DecoderSpec {
    /// What no family may ask for.
    ///
    /// # Errors
    ///
    /// In words, with the key of config.json.
    pub(crate) fn check(&self) -> std::result::Result<(), String> {
        for AttentionSpec { heads, kv_heads, head_dim, .. } in self.attentions() {
            if !heads.is_multiple_of(*kv_heads) {
                return Err(format!(
                    "num_attention_heads ({heads}) must be a multiple of num_key_value_heads \
                     ({kv_heads})"
                ));
            }
            if !head_dim.is_multiple_of(2) {
                return Err(format!("head_dim ({head_dim}) must be even for RoPE"));
            }
        }
        Ok(())
    }

    /// Whether a checkpoint may hold the tensor `name` though nothing reads it: projections of keys
    /// and values in a layer that takes another's.
    pub(crate) fn ignores(&self, name: &str) -> bool {
        let Some((layer, part)) =
            name.strip_prefix("model.layers.").and_then(|rest| rest.split_once(".self_attn."))
        else {
            return false;
        };
        let takes =
            |layer: &LayerSpec| matches!(layer.attention.keys_values, KeysValues::OfLayer(_));
        let layer = layer.parse().ok().and_then(|i: usize| self.layers.get(i));
        let unused = ["k_proj.", "v_proj.", "k_norm.", "v_norm."];
        layer.is_some_and(takes) && unused.iter().any(|name| part.starts_with(name))
    }

    /// Of every layer.
    pub fn attentions(&self) -> impl Iterator<Item = &AttentionSpec> {
        self.layers.iter().map(|layer| &layer.attention)
    }

    /// Every tensor of such a decoder: its name in a Hugging Face checkpoint and its shape.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let mut shapes = Shapes::default();
        // Shapes are there for any name: nothing can be missing.
        let _: Result<Decoder> = Decoder::load(self, &mut shapes);
        shapes.0
    }

    /// Every projection that an adapter can stand on: its name and `[out, in]`.
    pub fn projections(&self) -> Vec<(String, [usize; 2])> {
        let projection = |(name, shape): (String, Vec<usize>)| {
            let name = name.strip_suffix(".weight")?;
            let table = name.contains("embed_tokens") || name == "lm_head";
            match shape[..] {
                [out, input] if !table => Some((name.to_string(), [out, input])),
                _ => None,
            }
        };
        self.tensors().into_iter().filter_map(projection).collect()
    }

    /// Parameters of the base model, a tied head counted once.
    pub fn num_parameters(&self) -> usize {
        self.tensors().iter().map(|(_, shape)| shape.iter().product::<usize>()).sum()
    }
}
