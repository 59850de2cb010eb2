use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{Error, Result, gemma::GemmaConfig};

/// The seven projections of a decoder layer.
const ALL: [&str; 7] =
    ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];

/// A LoRA adapter's settings, in PEFT's names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoraConfig {
    /// Rank.
    pub r: usize,
    /// The update is scaled by alpha / r (alpha / √r with rsLoRA).
    pub lora_alpha: f64,
    /// Which projections, by the end of their names.
    pub target_modules: Vec<String>,
    /// Rank-stabilised scale alpha / √r (arXiv 2312.03732).
    pub use_rslora: bool,
}

impl Default for LoraConfig {
    /// TRL's command line: rank 16, alpha 32, all seven projections.
    fn default() -> Self {
        let target_modules = ALL.map(String::from).to_vec();
        Self { r: 16, lora_alpha: 32.0, target_modules, use_rslora: false }
    }
}

impl LoraConfig {
    /// What the update is multiplied by.
    pub fn scale(&self) -> f64 {
        let r = self.r as f64;
        self.lora_alpha / if self.use_rslora { r.sqrt() } else { r }
    }

    /// Whether the projection `name` gets an adapter.
    pub fn targets(&self, name: &str) -> bool {
        let ends = |t: &String| name == t || name.ends_with(&format!(".{t}"));
        self.target_modules.iter().any(ends)
    }

    /// Trainable numbers of such an adapter on a Gemma: `r·(in + out)` for each projection.
    pub fn num_parameters(&self, gemma: &GemmaConfig) -> usize {
        let (hidden, inner) = (gemma.hidden_size, gemma.intermediate_size);
        let q = gemma.num_attention_heads * gemma.head_dim;
        let kv = gemma.num_key_value_heads * gemma.head_dim;
        let sizes = [
            hidden + q,
            hidden + kv,
            hidden + kv,
            q + hidden,
            hidden + inner,
            hidden + inner,
            inner + hidden,
        ];
        let targeted = ALL.iter().zip(sizes).filter(|(name, _)| self.targets(name));
        gemma.num_hidden_layers * self.r * targeted.map(|(_, size)| size).sum::<usize>()
    }

    /// # Errors
    ///
    /// [`Error::Input`] for rank 0 or a target that no Gemma has.
    pub fn check(&self) -> Result<()> {
        if self.r == 0 {
            return Err(Error::Input("lora.r must be at least 1".into()));
        }
        let unknown =
            |t: &&String| !ALL.iter().any(|p| t.as_str() == *p || t.ends_with(&format!(".{p}")));
        match self.target_modules.iter().find(unknown) {
            Some(target) => Err(Error::Input(format!(
                "lora.target_modules: Gemma has no '{target}'; use any of {}",
                ALL.join(", ")
            ))),
            None if self.target_modules.is_empty() => {
                Err(Error::Input("lora.target_modules is empty: nothing would be trained".into()))
            }
            None => Ok(()),
        }
    }

    /// adapter_config.json with every key that PEFT itself needs.
    pub(super) fn to_peft(&self, base: &str) -> Value {
        json!({
            "alpha_pattern": {}, "auto_mapping": null, "base_model_name_or_path": base,
            "bias": "none", "fan_in_fan_out": false, "inference_mode": true,
            "init_lora_weights": true, "layers_pattern": null, "layers_to_transform": null,
            "lora_alpha": self.lora_alpha, "lora_dropout": 0.0, "modules_to_save": null,
            "peft_type": "LORA", "peft_version": "0.21.2", "r": self.r, "rank_pattern": {},
            "revision": null, "target_modules": self.target_modules, "task_type": "CAUSAL_LM",
            "use_dora": false, "use_rslora": self.use_rslora,
        })
    }

    /// Reads adapter_config.json. Keys that are null or at their default are accepted; a key that
    /// changes the mathematics and is not supported is an error that names it.
    pub(super) fn from_peft(value: &Value) -> std::result::Result<Self, String> {
        let map = value.as_object().ok_or("not a JSON object")?;
        if map.get("peft_type").and_then(Value::as_str) != Some("LORA") {
            return Err("peft_type must be LORA".into());
        }
        if let Some(key) = map.iter().find(|(k, v)| !known(k) && !inert(v)).map(|(k, _)| k) {
            return Err(format!("'{key}' is set to {} and is not supported", map[key]));
        }
        let number = |key: &str, default: f64| match map.get(key) {
            None | Some(Value::Null) => Ok(default),
            Some(v) => v.as_f64().ok_or(format!("{key} must be a number, found {v}")),
        };
        let config = Self {
            r: number("r", 8.0)? as usize,
            lora_alpha: number("lora_alpha", 8.0)?,
            target_modules: targets(map)?,
            use_rslora: map.get("use_rslora").and_then(Value::as_bool).unwrap_or(false),
        };
        config.check().map_err(|e| e.to_string())?;
        Ok(config)
    }
}

fn targets(map: &Map<String, Value>) -> std::result::Result<Vec<String>, String> {
    match map.get("target_modules") {
        Some(Value::String(s)) if s == "all-linear" => Ok(ALL.map(String::from).to_vec()),
        Some(Value::Array(list)) => list
            .iter()
            .map(|t| {
                t.as_str().map(String::from).ok_or(format!("target_modules: {t} is not a name"))
            })
            .collect(),
        other => Err(format!(
            "target_modules must be a list of names or \"all-linear\", found {}",
            other.unwrap_or(&Value::Null)
        )),
    }
}

/// Keys whose value this reader uses, or that do not change what the adapter computes.
fn known(key: &str) -> bool {
    matches!(
        key,
        "peft_type"
            | "r"
            | "lora_alpha"
            | "target_modules"
            | "use_rslora"
            | "task_type"
            | "base_model_name_or_path"
            | "revision"
            | "inference_mode"
            | "lora_dropout"
            | "init_lora_weights"
            | "peft_version"
            | "megatron_core"
            | "qalora_group_size"
    )
}

/// Values that say "not used".
fn inert(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(s) => s == "none",
        Value::Array(a) => a.is_empty(),
        Value::Object(o) => o.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let config = LoraConfig { r: 4, lora_alpha: 8.0, use_rslora: true, ..Default::default() };
        assert_eq!(LoraConfig::from_peft(&config.to_peft("base")).unwrap(), config);
        assert_eq!(config.scale(), 4.0);
    }

    #[test]
    fn rank_16_on_gemma_2b_trains_19_6_million() {
        let gemma = GemmaConfig::from_json(json!({
            "model_type": "gemma", "vocab_size": 256000, "hidden_size": 2048,
            "intermediate_size": 16384, "num_hidden_layers": 18, "num_attention_heads": 8,
            "num_key_value_heads": 1, "head_dim": 256,
        }));
        let gemma = gemma.unwrap();
        let trainable = LoraConfig::default().num_parameters(&gemma);
        assert_eq!(trainable, 19_611_648);
        let percent = 100.0 * trainable as f64 / gemma.num_parameters() as f64;
        assert_eq!(format!("{percent:.2}"), "0.78");
    }

    #[test]
    fn a_key_that_changes_the_mathematics_is_named() {
        for (key, value) in [
            ("use_dora", json!(true)),
            ("rank_pattern", json!({"q_proj": 2})),
            ("bias", json!("all")),
        ] {
            let mut file = LoraConfig::default().to_peft("base");
            file[key] = value;
            assert!(LoraConfig::from_peft(&file).unwrap_err().contains(key));
        }
        let mut file = LoraConfig::default().to_peft("base");
        file["some_future_key"] = Value::Null;
        assert!(LoraConfig::from_peft(&file).is_ok());
    }
}
