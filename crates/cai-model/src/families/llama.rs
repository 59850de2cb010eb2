//! Llama 2 and 3 (arXiv 2307.09288, 2407.21783), and what is built as they are: SmolLM2, Mistral 7B.

use serde_json::{Value, json};

use super::{Architecture, Family, keys::Keys};
use crate::{
    Result,
    decoder::{AttentionSpec, DecoderSpec, KeysValues, LayerSpec, NormSpec},
    source::gguf::Gguf,
};

pub(super) const FAMILY: Family = Family {
    model_types: &["llama", "mistral"],
    spec,
    gguf: &[Architecture { name: "llama", config: from_gguf }],
};

fn spec(raw: &Value) -> std::result::Result<DecoderSpec, String> {
    let keys = Keys(raw);
    keys.never("mlp_bias")?;
    let bias = keys.flag("attention_bias", false)?;
    pre_norm(raw, [bias, bias], false)
}

/// A decoder that norms the inputs of attention and MLP and nothing else: Llama's, and, with biases
/// or with norms of queries and keys, Qwen's. `bias`: of query, key and value; of the output.
pub(super) fn pre_norm(
    raw: &Value,
    bias: [bool; 2],
    query_key_norms: bool,
) -> std::result::Result<DecoderSpec, String> {
    let keys = Keys(raw);
    let layers = keys.layers()?;
    let hidden_size = keys.size("hidden_size", None)?;
    let heads = keys.size("num_attention_heads", None)?;
    let head_dim = keys.size("head_dim", Some((hidden_size / heads).max(1)))?;
    let attention = AttentionSpec {
        heads,
        kv_heads: keys.size("num_key_value_heads", Some(heads))?,
        head_dim,
        scale: (head_dim as f64).powf(-0.5),
        softcap: None,
        window: None,
        rope: keys.rope(1e4)?,
        query_key_norms,
        value_norm: false,
        bias,
        keys_values: KeysValues::Own,
    };
    let windows = windows(raw, layers)?;
    let layer = |window| {
        Ok(LayerSpec {
            attention: AttentionSpec { window, ..attention.clone() },
            intermediate_size: keys.size("intermediate_size", None)?,
            activation: keys.activation(&["hidden_act"], "silu")?,
            output_norms: false,
            experts: None,
            scaled: false,
        })
    };
    Ok(DecoderSpec {
        vocab_size: keys.size("vocab_size", None)?,
        hidden_size,
        max_position_embeddings: keys.size("max_position_embeddings", Some(2048))?,
        norm: NormSpec { eps: keys.float("rms_norm_eps", Some(1e-6))?, offset: 0.0 },
        embedding_scale: 1.0,
        tie_word_embeddings: keys.flag("tie_word_embeddings", false)?,
        final_logit_softcapping: None,
        layers: windows.into_iter().map(layer).collect::<std::result::Result<_, String>>()?,
        per_layer_inputs: None,
        raw: raw.clone(),
    })
}

/// The window of each layer. Mistral's `sliding_window` is every layer's; Qwen's counts where
/// `use_sliding_window` is on, from layer `max_window_layers` on.
fn windows(raw: &Value, layers: usize) -> std::result::Result<Vec<Option<usize>>, String> {
    let keys = Keys(raw);
    let switched = match &raw["use_sliding_window"] {
        Value::Null => true,
        _ => keys.flag("use_sliding_window", false)?,
    };
    if raw["sliding_window"].is_null() || !switched {
        return Ok(vec![None; layers]);
    }
    let window = keys.size("sliding_window", None)?;
    let sliding = match (&raw["layer_types"], &raw["use_sliding_window"]) {
        (Value::Array(_), _) => keys.sliding(layers, 1)?,
        (_, Value::Null) => vec![true; layers],
        _ => {
            let first = keys.count("max_window_layers")?;
            (0..layers).map(|i| i >= first).collect()
        }
    };
    Ok(sliding.into_iter().map(|sliding| sliding.then_some(window)).collect())
}

fn from_gguf(file: &Gguf) -> Result<Value> {
    let mut config = gguf_config(file, ["llama", "LlamaForCausalLM"])?;
    // Llama 3.1's scaling comes as what each frequency is divided by, the lowest ones by the factor.
    if let Some(divisors) = file.tensor("rope_freqs.weight")? {
        let mut values = vec![0.0; divisors.shape.iter().product()];
        divisors.kind.dequantize(divisors.bytes, &mut values);
        let factor = values.iter().fold(1.0f32, |max, v| max.max(*v));
        config["rope_scaling"] = json!({
            "rope_type": "llama3", "factor": factor, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        });
    }
    Ok(config)
}

/// The keys that Llama's and Qwen's config.json have in common, from a GGUF file's metadata.
pub(super) fn gguf_config(file: &Gguf, [model_type, architecture]: [&str; 2]) -> Result<Value> {
    let name = file.architecture()?.to_string();
    let key = |key: &str| format!("{name}.{key}");
    let heads = file.size(&key("attention.head_count"))?;
    let hidden = file.size(&key("embedding_length"))?;
    let or = |name: &str, default: usize| match file.metadata(&key(name)) {
        Some(_) => file.size(&key(name)),
        None => Ok(default),
    };
    let theta = match file.metadata(&key("rope.freq_base")) {
        Some(_) => file.float(&key("rope.freq_base"))?,
        None => 1e4,
    };
    Ok(json!({
        "model_type": model_type,
        "architectures": [architecture],
        "hidden_size": hidden,
        "intermediate_size": file.size(&key("feed_forward_length"))?,
        "num_hidden_layers": file.size(&key("block_count"))?,
        "num_attention_heads": heads,
        "num_key_value_heads": or("attention.head_count_kv", heads)?,
        "head_dim": or("attention.key_length", hidden / heads.max(1))?,
        "max_position_embeddings": file.size(&key("context_length"))?,
        "rms_norm_eps": file.float(&key("attention.layer_norm_rms_epsilon"))?,
        "rope_theta": theta,
        "hidden_act": "silu",
        "tie_word_embeddings": file.tensor("output.weight")?.is_none(),
        "vocab_size": rows(file)?,
        "torch_dtype": "float32",
    }))
}

/// Rows of the embedding.
pub(super) fn rows(file: &Gguf) -> Result<usize> {
    match file.tensor("token_embd.weight")? {
        Some(table) => Ok(table.shape[0]),
        None => Err(crate::Error::Weights {
            path: file.path().into(),
            reason: "it has no tensor token_embd.weight; the file is not whole".into(),
        }),
    }
}
