//! Gemma 4, the text part: E2B and E4B (per-layer inputs, layers that take the keys and values of
//! others and have an MLP twice as wide), 31B (global layers whose values are their keys), 26B-A4B
//! (experts beside the MLP).
//!
//! As transformers 5.17 has it (`models/gemma4`): scores are not scaled, values are normed, global
//! layers have heads of their own width of which a quarter turns, and each layer's output is
//! multiplied by a stored number.

use serde_json::Value;

use super::{
    Family,
    keys::{Keys, rope},
    text_part,
};
use crate::decoder::{
    AttentionSpec, DecoderSpec, ExpertsSpec, KeysValues, LayerSpec, NormSpec, PerLayerInputs,
    RopeScaling, RopeSpec,
};

pub(super) const FAMILY: Family =
    Family { model_types: &["gemma4_text", "gemma4"], spec, gguf: &[] };

fn spec(raw: &Value) -> Result<DecoderSpec, String> {
    let raw = match raw["model_type"].as_str() {
        Some("gemma4") => text_part(raw, ["gemma4_text", "Gemma4ForCausalLM"], &TEXT_DEFAULTS)?,
        _ => raw.clone(),
    };
    let keys = Keys(&raw);
    if raw["use_bidirectional_attention"] == "all" {
        return Err("use_bidirectional_attention: all is not supported".into());
    }
    let count = keys.layers()?;
    let sliding = sliding(&keys, count)?;
    let shared = keys.count("num_kv_shared_layers")?;
    if shared >= count {
        return Err(format!("num_kv_shared_layers ({shared}) must be below {count} layers"));
    }
    let layer = |i| layer(&keys, i, &sliding, count - shared);
    let hidden_size = keys.size("hidden_size", Some(2304))?;
    let width = match &raw["hidden_size_per_layer_input"] {
        Value::Null => 256,
        _ => keys.count("hidden_size_per_layer_input")?,
    };
    let inputs = PerLayerInputs {
        width,
        vocab_size: keys.size("vocab_size_per_layer_input", Some(262_144))?,
    };
    Ok(DecoderSpec {
        vocab_size: keys.size("vocab_size", Some(262_144))?,
        hidden_size,
        max_position_embeddings: keys.size("max_position_embeddings", Some(131_072))?,
        norm: NormSpec { eps: keys.float("rms_norm_eps", Some(1e-6))?, offset: 0.0 },
        embedding_scale: (hidden_size as f64).sqrt(),
        tie_word_embeddings: keys.flag("tie_word_embeddings", true)?,
        final_logit_softcapping: keys.optional("final_logit_softcapping")?,
        layers: (0..count).map(layer).collect::<Result<_, _>>()?,
        per_layer_inputs: (width > 0).then_some(inputs),
        raw: raw.clone(),
    })
}

/// What `text_config` may leave out: the defaults of transformers' `Gemma4TextConfig`.
const TEXT_DEFAULTS: [(&str, usize); 7] = [
    ("hidden_size", 2304),
    ("intermediate_size", 9216),
    ("num_hidden_layers", 30),
    ("num_attention_heads", 8),
    ("num_key_value_heads", 4),
    ("head_dim", 256),
    ("sliding_window", 512),
];

/// Which layers slide: five of six, never the last.
fn sliding(keys: &Keys, layers: usize) -> Result<Vec<bool>, String> {
    let mut sliding = keys.sliding(layers, 6)?;
    if let Some(last) = sliding.last_mut() {
        *last = false;
    }
    Ok(sliding)
}

/// Layer `i`; those from `first_shared` on take keys and values of the last one of their kind
/// before it.
fn layer(
    keys: &Keys,
    i: usize,
    sliding: &[bool],
    first_shared: usize,
) -> Result<LayerSpec, String> {
    let global = !sliding[i];
    let takes = i >= first_shared;
    let alternative = keys.flag("attention_k_eq_v", false)? && global;
    let keys_values = match (takes, alternative) {
        (true, _) => {
            let maker = sliding[..first_shared].iter().rposition(|kind| *kind == sliding[i]);
            KeysValues::OfLayer(maker.ok_or_else(|| {
                format!("num_kv_shared_layers: no layer of layer {i}'s kind makes keys and values")
            })?)
        }
        (false, true) => KeysValues::OneProjection,
        (false, false) => KeysValues::Own,
    };
    let bias = keys.flag("attention_bias", false)?;
    let window = keys.size("sliding_window", Some(512))?;
    let [head_dim, kv_heads] = heads(keys, i, global)?;
    let wide = keys.flag("use_double_wide_mlp", false)? && takes;
    let experts = match keys.flag("enable_moe_block", false)? {
        true => Some(ExpertsSpec {
            count: keys.size("num_experts", None)?,
            top_k: keys.size("top_k_experts", None)?,
            intermediate_size: keys.size("moe_intermediate_size", None)?,
        }),
        false => None,
    };
    Ok(LayerSpec {
        attention: AttentionSpec {
            heads: keys.size("num_attention_heads", Some(8))?,
            kv_heads,
            head_dim,
            scale: 1.0,
            softcap: None,
            window: (!global).then_some(window),
            rope: rope_of(keys, global)?,
            query_key_norms: true,
            value_norm: true,
            bias: [bias; 2],
            keys_values,
        },
        intermediate_size: keys.size("intermediate_size", Some(9216))? * if wide { 2 } else { 1 },
        activation: keys.activation(&["hidden_activation"], "gelu_pytorch_tanh")?,
        output_norms: true,
        experts,
        scaled: true,
    })
}

/// Width and number of key/value heads of layer `i`: `per_layer_config` (transformers 5), or
/// `global_head_dim` and `num_global_key_value_heads` (hub checkpoints).
fn heads(keys: &Keys, i: usize, global: bool) -> Result<[usize; 2], String> {
    let head_dim = keys.size("head_dim", Some(256))?;
    let kv_heads = keys.size("num_key_value_heads", Some(4))?;
    if keys.0["per_layer_config"].is_object() {
        let own = Keys(&keys.0["per_layer_config"][i.to_string()]);
        return Ok([
            own.size("head_dim", Some(head_dim))?,
            own.size("num_key_value_heads", Some(kv_heads))?,
        ]);
    }
    if !global {
        return Ok([head_dim, kv_heads]);
    }
    let alternative = keys.flag("attention_k_eq_v", false)?;
    let kv_heads = match alternative {
        true => keys.size("num_global_key_value_heads", Some(kv_heads))?,
        false => kv_heads,
    };
    Ok([keys.size("global_head_dim", Some(512))?, kv_heads])
}

fn rope_of(keys: &Keys, global: bool) -> Result<RopeSpec, String> {
    let all = &keys.0["rope_parameters"];
    let (kind, default) = match global {
        true => {
            let scaling = RopeScaling::Proportional { share: 0.25, factor: 1.0 };
            ("full_attention", RopeSpec { theta: 1e6, scaling })
        }
        false => ("sliding_attention", RopeSpec::new(1e4)),
    };
    if all[kind].is_object() { rope(&all[kind], default.theta) } else { Ok(default) }
}
