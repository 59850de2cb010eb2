//! Typed access to config.json, with errors that name the key.

use cai_kernels::Activation;
use serde_json::Value;

use crate::decoder::{RopeScaling, RopeSpec};

type Read<T> = Result<T, String>;

/// config.json, or an object in it.
pub(super) struct Keys<'a>(pub(super) &'a Value);

impl Keys<'_> {
    /// A positive number.
    pub(super) fn float(&self, key: &str, default: Option<f64>) -> Read<f64> {
        match (&self.0[key], default) {
            (Value::Null, Some(default)) => Ok(default),
            (value, _) => match value.as_f64() {
                Some(x) if x.is_finite() && x > 0.0 => Ok(x),
                _ => Err(format!("{key} must be a positive number, found {value}")),
            },
        }
    }

    /// A positive whole number.
    pub(super) fn size(&self, key: &str, default: Option<usize>) -> Read<usize> {
        match (&self.0[key], default) {
            (Value::Null, Some(default)) => Ok(default),
            // 2^28 is far above any model and keeps products of two sizes within 64 bits.
            (value, _) => match value.as_u64() {
                Some(x) if x > 0 && x <= 1 << 28 => Ok(x as usize),
                _ => Err(format!("{key} must be a positive whole number, found {value}")),
            },
        }
    }

    /// A whole number that may be 0 or absent.
    pub(super) fn count(&self, key: &str) -> Read<usize> {
        match &self.0[key] {
            Value::Null => Ok(0),
            value if value.as_u64() == Some(0) => Ok(0),
            _ => self.size(key, None),
        }
    }

    /// A positive number, if it is there.
    pub(super) fn optional(&self, key: &str) -> Read<Option<f64>> {
        if self.0[key].is_null() { Ok(None) } else { self.float(key, None).map(Some) }
    }

    /// `true` or `false`.
    pub(super) fn flag(&self, key: &str, default: bool) -> Read<bool> {
        match &self.0[key] {
            Value::Null => Ok(default),
            value => value.as_bool().ok_or_else(|| format!("{key} must be true or false")),
        }
    }

    /// Number of layers: few enough to make lists of, far above any model.
    pub(super) fn layers(&self) -> Read<usize> {
        match self.size("num_hidden_layers", None)? {
            layers if layers <= 4096 => Ok(layers),
            layers => Err(format!("num_hidden_layers ({layers}) must be 4096 at most")),
        }
    }

    /// Refuses a flag that would change what is computed.
    pub(super) fn never(&self, key: &str) -> Read<()> {
        match self.flag(key, false)? {
            true => Err(format!("{key}: true is not supported")),
            false => Ok(()),
        }
    }

    /// The gate's activation by the first of `keys` that is there.
    pub(super) fn activation(&self, keys: &[&str], default: &str) -> Read<Activation> {
        let found = keys.iter().find_map(|key| Some((*key, self.0[*key].as_str()?)));
        let (key, name) = found.unwrap_or((keys[0], default));
        match name {
            "gelu_pytorch_tanh" | "gelu_new" | "gelu_fast" => Ok(Activation::GeluTanh),
            "gelu" => Ok(Activation::Gelu),
            "silu" | "swish" => Ok(Activation::Silu),
            other => Err(format!(
                "{key} '{other}' is not supported; supported are gelu_pytorch_tanh, gelu, silu"
            )),
        }
    }

    /// Whether each layer slides: `layer_types`, or every `period`-th layer does not.
    pub(super) fn sliding(&self, layers: usize, period: usize) -> Read<Vec<bool>> {
        let Some(types) = self.0["layer_types"].as_array() else {
            return Ok((0..layers).map(|i| !(i + 1).is_multiple_of(period)).collect());
        };
        if types.len() != layers {
            return Err(format!("layer_types has {} entries for {layers} layers", types.len()));
        }
        let kind = |t: &Value| match t.as_str() {
            Some("full_attention") => Ok(false),
            Some("sliding_attention") => Ok(true),
            _ => Err(format!("layer_types: unknown kind {t}")),
        };
        types.iter().map(kind).collect()
    }

    /// RoPE of a model that has one: `rope_parameters` (transformers 5), or `rope_theta` and
    /// `rope_scaling` (hub checkpoints).
    pub(super) fn rope(&self, default_theta: f64) -> Read<RopeSpec> {
        if self.0["rope_parameters"].is_object() {
            return rope(&self.0["rope_parameters"], default_theta);
        }
        let scaling = match &self.0["rope_scaling"] {
            Value::Null => RopeScaling::Linear(1.0),
            scaling => rope(scaling, 1.0)?.scaling,
        };
        Ok(RopeSpec { theta: self.float("rope_theta", Some(default_theta))?, scaling })
    }
}

/// RoPE as one object describes it.
pub(super) fn rope(value: &Value, default_theta: f64) -> Read<RopeSpec> {
    let keys = Keys(value);
    let kind = value["rope_type"].as_str().or(value["type"].as_str()).unwrap_or("default");
    let scaling = match kind {
        "default" => RopeScaling::Linear(1.0),
        "linear" => RopeScaling::Linear(keys.float("factor", None)?),
        "llama3" => RopeScaling::Llama3 {
            factor: keys.float("factor", None)?,
            low: keys.float("low_freq_factor", None)?,
            high: keys.float("high_freq_factor", None)?,
            original_context: keys.float("original_max_position_embeddings", None)?,
        },
        "proportional" => RopeScaling::Proportional {
            share: keys.float("partial_rotary_factor", Some(1.0))?.min(1.0),
            factor: keys.float("factor", Some(1.0))?,
        },
        other => {
            return Err(format!(
                "rope_type '{other}' is not supported; use default, linear, llama3 or proportional"
            ));
        }
    };
    if kind != "proportional" && value["partial_rotary_factor"].as_f64().is_some_and(|x| x != 1.0) {
        return Err("partial_rotary_factor is supported for rope_type proportional only".into());
    }
    Ok(RopeSpec { theta: keys.float("rope_theta", Some(default_theta))?, scaling })
}
