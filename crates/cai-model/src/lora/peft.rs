//! adapter_config.json, as PEFT 0.21.2 writes and reads it.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::{
    LoraConfig,
    config::{ALL, ALL_LINEAR},
    modules::Modules,
};

/// What is read of a file or the reason why not.
type Read<T> = std::result::Result<T, String>;

impl LoraConfig {
    /// adapter_config.json with every key that PEFT writes, in its order.
    pub(super) fn to_peft(&self, base: &str) -> Value {
        // PEFT itself keeps the names in place of the word.
        let target_modules = match &self.target_modules {
            Modules::Pattern(word) if word.eq_ignore_ascii_case(ALL_LINEAR) => json!(ALL),
            other => json!(other),
        };
        json!({
            "alora_invocation_tokens": null,
            "alpha_pattern": whole_numbers(json!(self.alpha_pattern)),
            "arrow_config": null,
            "auto_mapping": null,
            "base_model_name_or_path": base,
            "bias": "none",
            "corda_config": null,
            "ensure_weight_tying": self.ensure_weight_tying,
            "eva_config": null,
            "exclude_modules": self.exclude_modules,
            "fan_in_fan_out": false,
            "inference_mode": true,
            "init_lora_weights": true,
            "kasa_config": null,
            "layer_replication": null,
            "layers_pattern": null,
            "layers_to_transform": self.layers_to_transform,
            "loftq_config": {},
            "lora_alpha": whole_numbers(json!(self.lora_alpha)),
            "lora_bias": false,
            "lora_dropout": self.lora_dropout,
            "lora_ga_config": null,
            "megatron_config": null,
            "megatron_core": "megatron.core",
            "modules_to_save": self.saved_modules(),
            "monteclora_config": null,
            "peft_type": "LORA",
            "peft_version": "0.21.2",
            "qalora_group_size": 16,
            "r": self.r,
            "rank_pattern": self.rank_pattern,
            "revision": null,
            "target_modules": target_modules,
            "target_parameters": null,
            "task_type": "CAUSAL_LM",
            "trainable_token_indices": self.trainable_token_indices,
            "use_bdlora": null,
            "use_dora": self.use_dora,
            "use_qalora": false,
            "use_rslora": self.use_rslora,
            "velora_config": null,
        })
    }

    /// Reads adapter_config.json. Keys that are null or at their default are accepted; a key that
    /// changes the mathematics and is not supported is an error that names it.
    pub(super) fn from_peft(value: &Value) -> Read<Self> {
        let map = value.as_object().ok_or("not a JSON object")?;
        if map.get("peft_type").and_then(Value::as_str) != Some("LORA") {
            return Err("peft_type must be LORA".into());
        }
        if let Some((key, value)) = map.iter().find(|(key, value)| !supported(key, value)) {
            return Err(format!("'{key}' is set to {value} and is not supported"));
        }
        let config = Self {
            r: read(map, "r", 8)?,
            lora_alpha: read(map, "lora_alpha", 8.0)?,
            target_modules: read(map, "target_modules", Modules::Names(Vec::new()))?,
            exclude_modules: read(map, "exclude_modules", None)?,
            layers_to_transform: read(map, "layers_to_transform", None)?,
            rank_pattern: read(map, "rank_pattern", Default::default())?,
            alpha_pattern: read(map, "alpha_pattern", Default::default())?,
            lora_dropout: read(map, "lora_dropout", 0.0)?,
            use_rslora: read(map, "use_rslora", false)?,
            use_dora: read(map, "use_dora", false)?,
            trainable_token_indices: read(map, "trainable_token_indices", None)?,
            modules_to_save: read(map, "modules_to_save", None)?,
            ensure_weight_tying: read(map, "ensure_weight_tying", false)?,
        };
        let config = config.with_joined_tables();
        config.check().map_err(|e| e.to_string())?;
        Ok(config)
    }
    /// What PEFT writes for `modules_to_save`: of embedding and head that are one, the embedding under
    /// two names.
    fn saved_modules(&self) -> Option<Vec<String>> {
        let both = self.modules_to_save.as_ref().is_some_and(|names| names.len() == 2);
        match both && self.ensure_weight_tying {
            true => Some(JOINED.map(String::from).to_vec()),
            false => self.modules_to_save.clone(),
        }
    }

    /// The same with the two names read back as embedding and head.
    fn with_joined_tables(mut self) -> Self {
        if self.ensure_weight_tying
            && self.modules_to_save.as_ref().is_some_and(|names| *names == JOINED)
        {
            self.modules_to_save = Some(vec!["embed_tokens".into(), "lm_head".into()]);
        }
        self
    }
}

/// Embedding and head that are one, as PEFT writes them.
const JOINED: [&str; 2] = ["embed_tokens", "model.embed_tokens"];

/// The value of a key, or PEFT's default where it is absent or null.
fn read<T: DeserializeOwned>(map: &Map<String, Value>, key: &str, default: T) -> Read<T> {
    match map.get(key) {
        None | Some(Value::Null) => Ok(default),
        Some(value) => T::deserialize(value).map_err(|e| format!("{key}: {e}")),
    }
}

/// Whether a key with this value means what this crate computes.
fn supported(key: &str, value: &Value) -> bool {
    match key {
        "peft_type"
        | "r"
        | "lora_alpha"
        | "target_modules"
        | "exclude_modules"
        | "layers_to_transform"
        | "rank_pattern"
        | "alpha_pattern"
        | "lora_dropout"
        | "use_rslora"
        | "use_dora"
        | "trainable_token_indices"
        | "modules_to_save" => true,
        // These say how an adapter was made or is run, not what it computes.
        "task_type"
        | "auto_mapping"
        | "base_model_name_or_path"
        | "revision"
        | "inference_mode"
        | "peft_version"
        | "megatron_core"
        | "qalora_group_size"
        | "runtime_config"
        | "ensure_weight_tying" => true,
        // The others change the base weights at the start, which the folder does not hold.
        "init_lora_weights" => match value {
            Value::Null | Value::Bool(_) => true,
            Value::String(how) => {
                matches!(how.as_str(), "gaussian" | "orthogonal" | "eva" | "mica")
            }
            _ => false,
        },
        "eva_config" => true,
        // Only the name that the list of layers has in every Decoder.
        "layers_pattern" => {
            let layers = |v: &Value| v.as_str().is_some_and(|s| s.is_empty() || s == "layers");
            unused(value) || layers(value) || value.as_array().is_some_and(|a| a.iter().all(layers))
        }
        _ => unused(value),
    }
}

/// Values that say "not used".
fn unused(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(s) => s == "none",
        Value::Array(a) => a.is_empty(),
        Value::Object(o) => o.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    }
}

/// 8 in place of 8.0: PEFT's type for alpha is int, though it computes with either.
fn whole_numbers(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            map.into_iter().map(|(key, value)| (key, whole_numbers(value))).collect()
        }
        Value::Number(n) => match n.as_f64() {
            Some(x) if x.fract() == 0.0 && x.abs() < 1e9 => json!(x as i64),
            _ => Value::Number(n),
        },
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(value: Value) -> LoraConfig {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn what_is_written_is_read_back() {
        for value in [
            json!({"r": 4, "lora_alpha": 8.5, "use_rslora": true}),
            json!({
                "target_modules": r".*\.layers\.1\..*_proj", "exclude_modules": ["k_proj"],
                "rank_pattern": {"v_proj": 2, "mlp.*": 3}, "alpha_pattern": {"q_proj": 0.5},
                "lora_dropout": 0.05, "use_dora": true,
            }),
            json!({"target_modules": ["q_proj"], "layers_to_transform": [0, 2]}),
        ] {
            let config = config(value);
            assert_eq!(LoraConfig::from_peft(&config.to_peft("base")).unwrap(), config);
        }
        let all = config(json!({"target_modules": "all-linear"}));
        assert_eq!(LoraConfig::from_peft(&all.to_peft("base")).unwrap(), LoraConfig::default());
    }

    #[test]
    fn whole_alphas_are_written_as_integers() {
        let file = LoraConfig::default().to_peft("base");
        assert_eq!(file["lora_alpha"].to_string(), "32");
    }

    #[test]
    fn a_key_that_changes_the_mathematics_is_named() {
        for (key, value) in [
            ("bias", json!("all")),
            ("lora_bias", json!(true)),
            ("fan_in_fan_out", json!(true)),
            ("modules_to_save", json!(["score"])),
            ("layer_replication", json!([[0, 1]])),
            ("layers_pattern", json!("blocks")),
            ("init_lora_weights", json!("pissa_niter_4")),
            ("trainable_token_indices", json!({"score": [5]})),
            ("alora_invocation_tokens", json!([1, 2])),
            ("use_qalora", json!(true)),
            ("kasa_config", json!({"beta": 0.1})),
            ("some_future_key", json!(3)),
            ("rank_pattern", json!(["q_proj"])),
            ("use_dora", json!("yes")),
        ] {
            let mut file = LoraConfig::default().to_peft("base");
            file[key] = value;
            let error = LoraConfig::from_peft(&file).unwrap_err();
            assert!(error.contains(key), "{key}: {error}");
        }
    }

    #[test]
    fn any_value_of_any_key_is_read_or_refused() {
        let odd = [
            json!(-1),
            json!(0.5),
            json!(1e300),
            json!("(("),
            json!("(a+)+$"),
            json!([[]]),
            json!([null]),
            json!({"(a|a)*$": -3}),
            json!({"": "x"}),
            json!(true),
        ];
        let file = LoraConfig::default().to_peft("base");
        for key in file.as_object().unwrap().keys() {
            for value in &odd {
                let mut file = file.clone();
                file[key] = value.clone();
                if let Ok(config) = LoraConfig::from_peft(&file) {
                    let name = format!("model.layers.0.self_attn.{}_proj", "a".repeat(40));
                    assert!(config.rank(&name) > 0 && config.scale(&name).is_finite(), "{key}");
                    config.targets(&name);
                }
            }
        }
    }

    #[test]
    fn keys_at_their_default_and_ways_to_begin_are_accepted() {
        for (key, value) in [
            ("some_future_key", Value::Null),
            ("init_lora_weights", json!("gaussian")),
            ("layers_pattern", json!(["layers"])),
            ("layers_pattern", json!("")),
        ] {
            let mut file = LoraConfig::default().to_peft("base");
            file[key] = value;
            assert!(LoraConfig::from_peft(&file).is_ok(), "{key}");
        }
    }
}
