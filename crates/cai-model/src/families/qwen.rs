//! Qwen 2, 2.5 (arXiv 2412.15115) and 3 (arXiv 2505.09388), dense: Llama's layer with biases on
//! query, key and value, or (Qwen 3) with norms of queries and keys in their place.

use serde_json::Value;

use super::{Architecture, Family, keys::Keys, llama};
use crate::{Result, decoder::DecoderSpec, source::gguf::Gguf};

pub(super) const FAMILY: Family = Family {
    model_types: &["qwen2", "qwen3"],
    spec,
    gguf: &[
        Architecture { name: "qwen2", config: from_gguf_2 },
        Architecture { name: "qwen3", config: from_gguf_3 },
    ],
};

fn spec(raw: &Value) -> std::result::Result<DecoderSpec, String> {
    match raw["model_type"].as_str() {
        Some("qwen3") => {
            let bias = Keys(raw).flag("attention_bias", false)?;
            llama::pre_norm(raw, [bias, bias], true)
        }
        _ => llama::pre_norm(raw, [true, false], false),
    }
}

fn from_gguf_2(file: &Gguf) -> Result<Value> {
    llama::gguf_config(file, ["qwen2", "Qwen2ForCausalLM"])
}

fn from_gguf_3(file: &Gguf) -> Result<Value> {
    llama::gguf_config(file, ["qwen3", "Qwen3ForCausalLM"])
}
