//! Gemma's config.json, in the key names of hub checkpoints and of transformers 5.

use std::path::Path;

use serde_json::{Value, json};

use crate::{Error, Result};

/// Which Gemma: they differ in norms, soft-caps, windows and RoPE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// `model_type: gemma` (2b, 7b).
    Gemma1,
    /// `model_type: gemma2` (2b, 9b, 27b).
    Gemma2,
    /// `model_type: gemma3_text` (270m, 1b), and the text part of `gemma3` (4b and up).
    Gemma3,
}

/// The MLP's gate activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// GELU with the tanh approximation, what every Gemma was trained with.
    GeluTanh,
}

/// What a layer's attention can see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerKind {
    /// Every earlier token.
    Full,
    /// The last `sliding_window` tokens, itself included.
    Sliding,
}

/// Rotary position embedding of one kind of layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RopeConfig {
    /// Base of the geometric series of wavelengths.
    pub theta: f64,
    /// Linear scaling: positions are divided by this (1 = none; 8 in Gemma 3 4b and up).
    pub factor: f64,
}

/// The shape and numerics of one Gemma.
#[derive(Clone, Debug, PartialEq)]
pub struct GemmaConfig {
    /// Which Gemma.
    pub variant: Variant,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the MLP.
    pub intermediate_size: usize,
    /// Decoder layers.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key/value heads; divides the query heads.
    pub num_key_value_heads: usize,
    /// Width of one head, not necessarily hidden/heads.
    pub head_dim: usize,
    /// Longest sequence, in tokens.
    pub max_position_embeddings: usize,
    /// Added to the mean square in RMSNorm.
    pub rms_norm_eps: f64,
    /// Gate activation.
    pub activation: Activation,
    /// Whether the head is the embedding.
    pub tie_word_embeddings: bool,
    /// Attention scores are multiplied by this: `query_pre_attn_scalar^-1/2`, or `head_dim^-1/2`.
    pub attention_scale: f64,
    /// `cap · tanh(score / cap)` on attention scores (Gemma 2).
    pub attn_logit_softcapping: Option<f64>,
    /// `cap · tanh(logit / cap)` on final logits (Gemma 2).
    pub final_logit_softcapping: Option<f64>,
    /// Window of sliding layers, in tokens.
    pub sliding_window: usize,
    /// Kind of each layer.
    pub layer_kinds: Vec<LayerKind>,
    /// RoPE of full-attention layers.
    pub rope: RopeConfig,
    /// RoPE of sliding layers (the same as `rope` before Gemma 3).
    pub local_rope: RopeConfig,
    /// The file as it was read: saved back unchanged, so that no key of it is lost.
    pub raw: Value,
}

impl GemmaConfig {
    /// Reads `config.json` in `dir`.
    ///
    /// # Errors
    ///
    /// When the file is missing or not JSON, when the architecture is not a Gemma, or when a value
    /// is absent or impossible; the message names the key.
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join("config.json");
        let text = std::fs::read_to_string(&path)
            .map_err(|source| Error::Io { path: path.clone(), source })?;
        let fail = |reason: String| Error::Config { path: path.clone(), reason };
        let raw: Value = serde_json::from_str(&text).map_err(|e| fail(format!("not JSON: {e}")))?;
        Self::from_json(raw).map_err(fail)
    }

    /// Reads a config from its JSON value; the error says what is wrong with which key.
    ///
    /// Of a Gemma 3 that also sees images (`model_type: gemma3`) the text part is read, and `raw`
    /// is that of a model of text alone.
    pub fn from_json(raw: Value) -> std::result::Result<Self, String> {
        let raw = match raw["model_type"].as_str() {
            Some("gemma3") => text_part(&raw)?,
            _ => raw,
        };
        let variant = match raw["model_type"].as_str() {
            Some("gemma") => Variant::Gemma1,
            Some("gemma2") => Variant::Gemma2,
            Some("gemma3_text") => Variant::Gemma3,
            other => {
                return Err(format!(
                    "model_type {} is not supported; supported are gemma, gemma2, gemma3_text, and \
                     the text part of gemma3",
                    other.map_or("is missing and".to_string(), |o| format!("'{o}'"))
                ));
            }
        };
        let keys = Keys(&raw);
        let hidden_size = keys.size("hidden_size", None)?;
        let num_attention_heads = keys.size("num_attention_heads", None)?;
        let num_hidden_layers = keys.size("num_hidden_layers", None)?;
        let head_dim = keys.size("head_dim", Some(256))?;
        let scalar = match variant {
            Variant::Gemma1 => head_dim as f64,
            _ => keys.float("query_pre_attn_scalar", Some(256.0))?,
        };
        let (rope, local_rope) = keys.rope(variant)?;
        let config = Self {
            variant,
            vocab_size: keys.size("vocab_size", None)?,
            hidden_size,
            intermediate_size: keys.size("intermediate_size", None)?,
            num_hidden_layers,
            num_attention_heads,
            num_key_value_heads: keys.size("num_key_value_heads", Some(num_attention_heads))?,
            head_dim,
            max_position_embeddings: keys.size("max_position_embeddings", Some(8192))?,
            rms_norm_eps: keys.float("rms_norm_eps", Some(1e-6))?,
            activation: keys.activation()?,
            tie_word_embeddings: raw["tie_word_embeddings"].as_bool().unwrap_or(true),
            attention_scale: scalar.powf(-0.5),
            attn_logit_softcapping: keys.optional("attn_logit_softcapping")?,
            final_logit_softcapping: keys.optional("final_logit_softcapping")?,
            sliding_window: keys.size("sliding_window", Some(4096))?,
            layer_kinds: keys.layer_kinds(variant, num_hidden_layers)?,
            rope,
            local_rope,
            raw: raw.clone(),
        };
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> std::result::Result<(), String> {
        if !self.num_attention_heads.is_multiple_of(self.num_key_value_heads) {
            return Err(format!(
                "num_attention_heads ({}) must be a multiple of num_key_value_heads ({})",
                self.num_attention_heads, self.num_key_value_heads
            ));
        }
        // Far above any Gemma; lists of layers are made before the first tensor is found missing.
        if self.num_hidden_layers > 4096 {
            let layers = self.num_hidden_layers;
            return Err(format!("num_hidden_layers ({layers}) must be 4096 at most"));
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(format!("head_dim ({}) must be even for RoPE", self.head_dim));
        }
        if self.raw["attention_bias"].as_bool() == Some(true) {
            return Err("attention_bias: true is not supported (no Gemma uses it)".into());
        }
        Ok(())
    }

    /// Parameters of the base model, the tied head counted once.
    pub fn num_parameters(&self) -> usize {
        let heads = (2 * self.num_attention_heads + 2 * self.num_key_value_heads) * self.head_dim;
        let norms = match self.variant {
            Variant::Gemma1 => 2 * self.hidden_size,
            Variant::Gemma2 => 4 * self.hidden_size,
            Variant::Gemma3 => 4 * self.hidden_size + 2 * self.head_dim,
        };
        let layer =
            heads * self.hidden_size + 3 * self.hidden_size * self.intermediate_size + norms;
        let embedding = self.vocab_size * self.hidden_size;
        let head = if self.tie_word_embeddings { 0 } else { embedding };
        embedding + head + self.num_hidden_layers * layer + self.hidden_size
    }
}

/// The config of the text part of a `gemma3`, whole in itself: with what its `text_config` leaves
/// out because it is the default of transformers' `Gemma3TextConfig`, and with the outer keys that
/// are about text.
fn text_part(raw: &Value) -> std::result::Result<Value, String> {
    let mut text = match &raw["text_config"] {
        Value::Object(text) => text.clone(),
        other => return Err(format!("text_config must be an object, found {other}")),
    };
    text.insert("model_type".into(), json!("gemma3_text"));
    text.insert("architectures".into(), json!(["Gemma3ForCausalLM"]));
    let outer = [
        "bos_token_id",
        "eos_token_id",
        "pad_token_id",
        "tie_word_embeddings",
        "torch_dtype",
        "dtype",
    ];
    let outer = outer.into_iter().filter_map(|key| Some((key, raw.get(key)?.clone())));
    let defaults = [
        ("vocab_size", 262_208),
        ("hidden_size", 2304),
        ("intermediate_size", 9216),
        ("num_hidden_layers", 26),
        ("num_attention_heads", 8),
        ("num_key_value_heads", 4),
        ("head_dim", 256),
        ("max_position_embeddings", 131_072),
    ];
    for (key, value) in outer.chain(defaults.map(|(key, value)| (key, json!(value)))) {
        text.entry(key).or_insert(value);
    }
    Ok(Value::Object(text))
}

/// Typed access to config.json, with errors that name the key.
struct Keys<'a>(&'a Value);

impl Keys<'_> {
    fn float(&self, key: &str, default: Option<f64>) -> std::result::Result<f64, String> {
        match (&self.0[key], default) {
            (Value::Null, Some(default)) => Ok(default),
            (value, _) => match value.as_f64() {
                Some(x) if x.is_finite() && x > 0.0 => Ok(x),
                _ => Err(format!("{key} must be a positive number, found {value}")),
            },
        }
    }

    fn size(&self, key: &str, default: Option<usize>) -> std::result::Result<usize, String> {
        match (&self.0[key], default) {
            (Value::Null, Some(default)) => Ok(default),
            // 2^28 is far above any Gemma and keeps products of two sizes within 64 bits.
            (value, _) => match value.as_u64() {
                Some(x) if x > 0 && x <= 1 << 28 => Ok(x as usize),
                _ => Err(format!("{key} must be a positive whole number, found {value}")),
            },
        }
    }

    fn optional(&self, key: &str) -> std::result::Result<Option<f64>, String> {
        if self.0[key].is_null() { Ok(None) } else { self.float(key, None).map(Some) }
    }

    /// Gemma 1 checkpoints say `hidden_act: "gelu"` where the model was trained with the tanh
    /// approximation; both spellings mean tanh here.
    fn activation(&self) -> std::result::Result<Activation, String> {
        let name = ["hidden_activation", "hidden_act"].iter().find_map(|k| self.0[*k].as_str());
        match name.unwrap_or("gelu_pytorch_tanh") {
            "gelu" | "gelu_pytorch_tanh" => Ok(Activation::GeluTanh),
            other => Err(format!("hidden_activation '{other}' is not supported; Gemma uses GELU")),
        }
    }

    fn layer_kinds(
        &self,
        variant: Variant,
        layers: usize,
    ) -> std::result::Result<Vec<LayerKind>, String> {
        if let Some(types) = self.0["layer_types"].as_array() {
            if types.len() != layers {
                return Err(format!("layer_types has {} entries for {layers} layers", types.len()));
            }
            let kind = |t: &Value| match t.as_str() {
                Some("full_attention") => Ok(LayerKind::Full),
                Some("sliding_attention") => Ok(LayerKind::Sliding),
                _ => Err(format!("layer_types: unknown kind {t}")),
            };
            return types.iter().map(kind).collect();
        }
        let period = match variant {
            Variant::Gemma1 => 1,
            Variant::Gemma2 => 2,
            Variant::Gemma3 => match self.size("_sliding_window_pattern", Some(6))? {
                6 => self.size("sliding_window_pattern", Some(6))?,
                n => n,
            },
        };
        // Every `period`-th layer is global, the others slide.
        let kind = |i: usize| match (i + 1).is_multiple_of(period) {
            true => LayerKind::Full,
            false => LayerKind::Sliding,
        };
        Ok((0..layers).map(kind).collect())
    }

    /// `rope_parameters` (transformers 5, nested by layer kind in Gemma 3) or `rope_theta`,
    /// `rope_scaling`, `rope_local_base_freq` (hub checkpoints).
    fn rope(&self, variant: Variant) -> std::result::Result<(RopeConfig, RopeConfig), String> {
        let new = &self.0["rope_parameters"];
        if let (Value::Object(_), Value::Object(_)) =
            (&new["full_attention"], &new["sliding_attention"])
        {
            return Ok((rope(&new["full_attention"], 1e6)?, rope(&new["sliding_attention"], 1e4)?));
        }
        if new.is_object() {
            let one = rope(new, 1e4)?;
            return Ok((one, one));
        }
        let default = if variant == Variant::Gemma3 { 1e6 } else { 1e4 };
        let factor = match &self.0["rope_scaling"] {
            Value::Null => 1.0,
            scaling => rope(scaling, 1.0)?.factor,
        };
        let global = RopeConfig { theta: self.float("rope_theta", Some(default))?, factor };
        let local = match variant {
            Variant::Gemma3 => {
                RopeConfig { theta: self.float("rope_local_base_freq", Some(1e4))?, factor: 1.0 }
            }
            _ => global,
        };
        Ok((global, local))
    }
}

fn rope(value: &Value, default_theta: f64) -> std::result::Result<RopeConfig, String> {
    let keys = Keys(value);
    let kind = value["rope_type"].as_str().or(value["type"].as_str()).unwrap_or("default");
    let factor = match kind {
        "default" => 1.0,
        "linear" => keys.float("factor", None)?,
        other => {
            return Err(format!("rope_type '{other}' is not supported; use default or linear"));
        }
    };
    Ok(RopeConfig { theta: keys.float("rope_theta", Some(default_theta))?, factor })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gemma_2b() -> Value {
        json!({"model_type": "gemma", "vocab_size": 256000, "hidden_size": 2048,
               "intermediate_size": 16384, "num_hidden_layers": 18, "num_attention_heads": 8,
               "num_key_value_heads": 1, "head_dim": 256, "hidden_act": "gelu"})
    }

    #[test]
    fn gemma_2b_has_2_5_billion_parameters() {
        let config = GemmaConfig::from_json(gemma_2b()).unwrap();
        assert_eq!(config.num_parameters(), 2_506_172_416);
        assert_eq!(config.layer_kinds, vec![LayerKind::Full; 18]);
    }

    #[test]
    fn both_spellings_of_the_activation_mean_tanh() {
        for name in ["gelu", "gelu_pytorch_tanh"] {
            let mut raw = gemma_2b();
            raw["hidden_act"] = json!(name);
            assert_eq!(GemmaConfig::from_json(raw).unwrap().activation, Activation::GeluTanh);
        }
    }

    /// config.json of google/gemma-3-4b-it, in the parts that matter here.
    #[test]
    fn the_text_part_of_a_gemma_3_that_sees_images() {
        let raw = json!({
            "architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3",
            "eos_token_id": [1, 106], "torch_dtype": "bfloat16", "image_token_index": 262144,
            "text_config": {
                "hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text",
                "num_hidden_layers": 34, "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
                "sliding_window": 1024,
            },
            "vision_config": {"hidden_size": 1152},
        });
        let config = GemmaConfig::from_json(raw).unwrap();
        assert_eq!(config.num_parameters(), 3_880_263_168);
        assert_eq!(config.rope, RopeConfig { theta: 1e6, factor: 8.0 });
        assert_eq!(config.local_rope, RopeConfig { theta: 1e4, factor: 1.0 });
        assert_eq!((config.num_key_value_heads, config.sliding_window), (4, 1024));
        let full = config.layer_kinds.iter().filter(|&&kind| kind == LayerKind::Full).count();
        assert_eq!((full, config.layer_kinds[5]), (5, LayerKind::Full));
        assert_eq!(config.raw["torch_dtype"], json!("bfloat16"));
        let again = GemmaConfig::from_json(config.raw.clone()).unwrap();
        assert_eq!(again, config);

        let error = GemmaConfig::from_json(json!({"model_type": "gemma3"})).unwrap_err();
        assert!(error.contains("text_config"), "{error}");
    }

    #[test]
    fn errors_name_the_key() {
        for (key, value) in [
            ("model_type", json!("llama")),
            ("hidden_size", json!(-1)),
            ("num_key_value_heads", json!(3)),
            ("head_dim", json!(255)),
            ("hidden_act", json!("relu")),
            ("rope_scaling", json!({"rope_type": "yarn"})),
        ] {
            let mut raw = gemma_2b();
            raw[key] = value;
            let error = GemmaConfig::from_json(raw).unwrap_err();
            let name = if key == "hidden_act" { "hidden_activation" } else { key };
            let name = if key == "rope_scaling" { "rope_type" } else { name };
            assert!(error.contains(name), "{key}: {error}");
        }
    }
}
