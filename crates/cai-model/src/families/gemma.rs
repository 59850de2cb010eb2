//! Gemma 1 (arXiv 2403.08295), 2 (arXiv 2408.00118) and 3 (arXiv 2503.19786), the text part.
//!
//! All scale embeddings by √hidden, norm with `1 + w`, and gate with GELU. Gemma 2 norms outputs,
//! caps logits and slides every other layer; Gemma 3 norms queries and keys in place of the caps,
//! and lets five of six layers slide, with a RoPE of their own.

use cai_kernels::Activation;
use serde_json::{Value, json};

use super::{
    Architecture, Family,
    keys::{Keys, rope},
    llama::rows,
    text_part,
};
use crate::{
    Result,
    decoder::{AttentionSpec, DecoderSpec, KeysValues, LayerSpec, NormSpec, RopeSpec},
    source::gguf::Gguf,
};

pub(super) const FAMILY: Family = Family {
    model_types: &["gemma", "gemma2", "gemma3_text", "gemma3"],
    spec,
    gguf: &[
        Architecture { name: "gemma", config: from_gguf },
        Architecture { name: "gemma2", config: from_gguf },
        Architecture { name: "gemma3", config: from_gguf },
    ],
};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Generation {
    One,
    Two,
    Three,
}

fn spec(raw: &Value) -> std::result::Result<DecoderSpec, String> {
    let raw = match raw["model_type"].as_str() {
        Some("gemma3") => text_part(raw, ["gemma3_text", "Gemma3ForCausalLM"], &TEXT_DEFAULTS)?,
        _ => raw.clone(),
    };
    let generation = match raw["model_type"].as_str() {
        Some("gemma") => Generation::One,
        Some("gemma2") => Generation::Two,
        _ => Generation::Three,
    };
    let keys = Keys(&raw);
    keys.never("attention_bias")?;
    let layers = keys.layers()?;
    let hidden_size = keys.size("hidden_size", None)?;
    let heads = keys.size("num_attention_heads", None)?;
    let head_dim = keys.size("head_dim", Some(256))?;
    let scalar = match generation {
        Generation::One => head_dim as f64,
        _ => keys.float("query_pre_attn_scalar", Some(256.0))?,
    };
    let period = match generation {
        Generation::One => 1,
        Generation::Two => 2,
        Generation::Three => match keys.size("_sliding_window_pattern", Some(6))? {
            6 => keys.size("sliding_window_pattern", Some(6))?,
            n => n,
        },
    };
    let [global, local] = ropes(&keys, generation)?;
    let window = keys.size("sliding_window", Some(4096))?;
    let activation = activation(&keys)?;
    let layer = |sliding: bool| {
        Ok(LayerSpec {
            attention: AttentionSpec {
                heads,
                kv_heads: keys.size("num_key_value_heads", Some(heads))?,
                head_dim,
                scale: scalar.powf(-0.5),
                softcap: keys.optional("attn_logit_softcapping")?,
                window: sliding.then_some(window),
                rope: if sliding { local } else { global },
                query_key_norms: generation == Generation::Three,
                value_norm: false,
                bias: [false; 2],
                keys_values: KeysValues::Own,
            },
            intermediate_size: keys.size("intermediate_size", None)?,
            activation,
            output_norms: generation != Generation::One,
            experts: None,
            scaled: false,
        })
    };
    let layers = keys.sliding(layers, period)?.into_iter().map(layer);
    Ok(DecoderSpec {
        vocab_size: keys.size("vocab_size", None)?,
        hidden_size,
        max_position_embeddings: keys.size("max_position_embeddings", Some(8192))?,
        norm: NormSpec { eps: keys.float("rms_norm_eps", Some(1e-6))?, offset: 1.0 },
        embedding_scale: (hidden_size as f64).sqrt(),
        tie_word_embeddings: keys.flag("tie_word_embeddings", true)?,
        final_logit_softcapping: keys.optional("final_logit_softcapping")?,
        layers: layers.collect::<std::result::Result<_, String>>()?,
        per_layer_inputs: None,
        raw: raw.clone(),
    })
}

/// What Gemma 3's `text_config` may leave out: the defaults of transformers' `Gemma3TextConfig`.
const TEXT_DEFAULTS: [(&str, usize); 8] = [
    ("vocab_size", 262_208),
    ("hidden_size", 2304),
    ("intermediate_size", 9216),
    ("num_hidden_layers", 26),
    ("num_attention_heads", 8),
    ("num_key_value_heads", 4),
    ("head_dim", 256),
    ("max_position_embeddings", 131_072),
];

/// Gemma 1 checkpoints say `hidden_act: "gelu"` where the model was trained with the tanh
/// approximation; both spellings mean tanh here.
fn activation(keys: &Keys) -> std::result::Result<Activation, String> {
    match keys.activation(&["hidden_activation", "hidden_act"], "gelu_pytorch_tanh")? {
        Activation::GeluTanh | Activation::Gelu => Ok(Activation::GeluTanh),
        Activation::Silu => {
            Err("hidden_activation 'silu' is not supported; Gemma uses GELU".into())
        }
    }
}

/// RoPE of full layers and of sliding ones, which have their own from Gemma 3 on.
fn ropes(keys: &Keys, generation: Generation) -> std::result::Result<[RopeSpec; 2], String> {
    let new = &keys.0["rope_parameters"];
    if let (Value::Object(_), Value::Object(_)) =
        (&new["full_attention"], &new["sliding_attention"])
    {
        return Ok([rope(&new["full_attention"], 1e6)?, rope(&new["sliding_attention"], 1e4)?]);
    }
    if new.is_object() {
        return Ok([rope(new, 1e4)?; 2]);
    }
    Ok(match generation {
        Generation::Three => {
            let local = keys.float("rope_local_base_freq", Some(1e4))?;
            [keys.rope(1e6)?, RopeSpec::new(local)]
        }
        _ => [keys.rope(1e4)?; 2],
    })
}

/// config.json as the metadata of a GGUF file gives it.
fn from_gguf(file: &Gguf) -> Result<Value> {
    let architecture = file.architecture()?.to_string();
    let key = |key: &str| format!("{architecture}.{key}");
    let size = |name: &str| file.size(&key(name));
    let has = |name: &str| file.metadata(&key(name)).is_some();
    let heads = size("attention.head_count")?;
    let (model_type, class) = match architecture.as_str() {
        "gemma" => ("gemma", "GemmaForCausalLM"),
        "gemma2" => ("gemma2", "Gemma2ForCausalLM"),
        _ => ("gemma3_text", "Gemma3ForCausalLM"),
    };
    let head_dim = if has("attention.key_length") { size("attention.key_length")? } else { 256 };
    let layers = size("block_count")?;
    let hidden = size("embedding_length")?;
    let mut config = json!({
        "model_type": model_type,
        "architectures": [class],
        "hidden_size": hidden,
        "intermediate_size": size("feed_forward_length")?,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads":
            if has("attention.head_count_kv") { size("attention.head_count_kv")? } else { heads },
        "head_dim": head_dim,
        "max_position_embeddings": size("context_length")?,
        "rms_norm_eps": file.float(&key("attention.layer_norm_rms_epsilon"))?,
        "hidden_activation": "gelu_pytorch_tanh",
        "tie_word_embeddings": file.tensor("output.weight")?.is_none(),
        "vocab_size": rows(file)?,
        "torch_dtype": "float32",
    });
    // The 27B models scale scores by the width of a query's share of the residual stream.
    let of_27b =
        (architecture == "gemma2" && layers == 46) || (architecture == "gemma3" && layers == 62);
    if architecture != "gemma" {
        let scalar = if of_27b { hidden / heads.max(1) } else { head_dim };
        config["query_pre_attn_scalar"] = json!(scalar);
    }
    if has("attention.sliding_window") {
        config["sliding_window"] = json!(size("attention.sliding_window")?);
    }
    if has("rope.freq_base") {
        config["rope_theta"] = json!(file.float(&key("rope.freq_base"))?);
    }
    if has("rope.freq_base_swa") {
        config["rope_local_base_freq"] = json!(file.float(&key("rope.freq_base_swa"))?);
    }
    if has("rope.scaling.factor") {
        let factor = file.float(&key("rope.scaling.factor"))?;
        config["rope_scaling"] = json!({"rope_type": "linear", "factor": factor});
    }
    for (name, cap) in [
        ("attn_logit_softcapping", "attn_logit_softcapping"),
        ("final_logit_softcapping", "final_logit_softcapping"),
    ] {
        if has(name) {
            config[cap] = json!(file.float(&key(name))?);
        }
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decoder::RopeScaling;

    fn gemma_2b() -> Value {
        json!({"model_type": "gemma", "vocab_size": 256000, "hidden_size": 2048,
               "intermediate_size": 16384, "num_hidden_layers": 18, "num_attention_heads": 8,
               "num_key_value_heads": 1, "head_dim": 256, "hidden_act": "gelu"})
    }

    #[test]
    fn gemma_2b_has_2_5_billion_parameters() {
        let config = DecoderSpec::from_json(gemma_2b()).unwrap();
        assert_eq!(config.num_parameters(), 2_506_172_416);
        assert!(config.attentions().all(|attention| attention.window.is_none()));
    }

    #[test]
    fn both_spellings_of_the_activation_mean_tanh() {
        for name in ["gelu", "gelu_pytorch_tanh"] {
            let mut raw = gemma_2b();
            raw["hidden_act"] = json!(name);
            let spec = DecoderSpec::from_json(raw).unwrap();
            assert!(spec.layers.iter().all(|layer| layer.activation == Activation::GeluTanh));
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
        let config = DecoderSpec::from_json(raw).unwrap();
        assert_eq!(config.num_parameters(), 3_880_263_168);
        let (sliding, full): (Vec<_>, Vec<_>) =
            config.attentions().partition(|attention| attention.window.is_some());
        let rope = RopeSpec { theta: 1e6, scaling: RopeScaling::Linear(8.0) };
        assert!(full.iter().all(|attention| attention.rope == rope));
        assert!(sliding.iter().all(|attention| attention.rope == RopeSpec::new(1e4)));
        assert_eq!((sliding[0].kv_heads, sliding[0].window), (4, Some(1024)));
        assert_eq!((full.len(), config.layers[5].attention.window), (5, None));
        assert_eq!(config.raw["torch_dtype"], json!("bfloat16"));
        let again = DecoderSpec::from_json(config.raw.clone()).unwrap();
        assert_eq!(again, config);

        let error = DecoderSpec::from_json(json!({"model_type": "gemma3"})).unwrap_err();
        assert!(error.contains("text_config"), "{error}");
    }

    #[test]
    fn errors_name_the_key() {
        for (key, value) in [
            ("model_type", json!("mamba")),
            ("hidden_size", json!(-1)),
            ("num_key_value_heads", json!(3)),
            ("head_dim", json!(255)),
            ("hidden_act", json!("relu")),
            ("rope_scaling", json!({"rope_type": "yarn"})),
        ] {
            let mut raw = gemma_2b();
            raw[key] = value;
            let error = DecoderSpec::from_json(raw).unwrap_err();
            let name = if key == "rope_scaling" { "rope_type" } else { key };
            assert!(error.contains(name), "{key}: {error}");
        }
    }
}
