//! The shapes of published Gemmas, as their config.json has them.

use serde_json::{Value, json};

/// Names that [`preset`] knows.
pub const PRESETS: [&str; 6] =
    ["mini", "gemma-2b", "gemma-7b", "gemma2-2b", "gemma3-270m", "gemma3-1b"];

/// The config.json of a published Gemma (google/gemma-2b, …) or of mini-gemma.
pub fn preset(name: &str) -> Option<Value> {
    let common = |model_type: &str, architecture: &str| {
        json!({
            "architectures": [architecture], "model_type": model_type, "attention_bias": false,
            "attention_dropout": 0.0, "bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0,
            "hidden_activation": "gelu_pytorch_tanh", "hidden_act": "gelu_pytorch_tanh",
            "initializer_range": 0.02, "max_position_embeddings": 8192, "rms_norm_eps": 1e-6,
            "rope_theta": 10000.0, "tie_word_embeddings": true, "use_cache": true,
            "vocab_size": 256_000, "head_dim": 256,
        })
    };
    let gemma1 = || common("gemma", "GemmaForCausalLM");
    let gemma3 = || {
        let mut config = common("gemma3_text", "Gemma3ForCausalLM");
        let more = json!({
            "vocab_size": 262_144, "max_position_embeddings": 32_768, "rope_theta": 1e6,
            "rope_local_base_freq": 10000.0, "sliding_window": 512, "sliding_window_pattern": 6,
            "query_pre_attn_scalar": 256,
        });
        merge(&mut config, &more);
        config
    };
    let shape = |mut config: Value, [hidden, inner, layers, heads, kv_heads]: [usize; 5]| {
        let sizes = json!({
            "hidden_size": hidden, "intermediate_size": inner, "num_hidden_layers": layers,
            "num_attention_heads": heads, "num_key_value_heads": kv_heads,
        });
        merge(&mut config, &sizes);
        config
    };
    Some(match name {
        "mini" => {
            let mut config = shape(gemma1(), [192, 768, 6, 4, 1]);
            let small = json!({
                "head_dim": 48, "vocab_size": 2048, "max_position_embeddings": 1024,
            });
            merge(&mut config, &small);
            config
        }
        "gemma-2b" => shape(gemma1(), [2048, 16_384, 18, 8, 1]),
        "gemma-7b" => shape(gemma1(), [3072, 24_576, 28, 16, 16]),
        "gemma2-2b" => {
            let mut config = common("gemma2", "Gemma2ForCausalLM");
            let more = json!({
                "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0,
                "sliding_window": 4096, "query_pre_attn_scalar": 256,
            });
            merge(&mut config, &more);
            shape(config, [2304, 9216, 26, 8, 4])
        }
        "gemma3-270m" => shape(gemma3(), [640, 2048, 18, 4, 1]),
        "gemma3-1b" => shape(gemma3(), [1152, 6912, 26, 4, 1]),
        _ => return None,
    })
}

fn merge(config: &mut Value, keys: &Value) {
    if let (Some(config), Some(keys)) = (config.as_object_mut(), keys.as_object()) {
        config.extend(keys.iter().map(|(key, value)| (key.clone(), value.clone())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decoder::DecoderSpec;

    #[test]
    fn presets_have_the_published_numbers_of_parameters() {
        let parameters = |name| {
            let config = DecoderSpec::from_json(preset(name).unwrap()).unwrap();
            config.num_parameters()
        };
        assert_eq!(parameters("gemma-2b"), 2_506_172_416);
        assert_eq!(parameters("gemma-7b"), 8_537_680_896);
        assert_eq!(parameters("gemma2-2b"), 2_614_341_888);
        assert_eq!(parameters("gemma3-270m"), 268_098_176);
        assert_eq!(parameters("gemma3-1b"), 999_885_952);
        assert!(PRESETS.iter().all(|name| preset(name).is_some()));
    }
}
