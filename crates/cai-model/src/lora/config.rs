use serde::{Deserialize, Serialize};

use super::modules::{Layers, Modules, Patterns, ends_with};
use crate::{Error, Result, gemma::GemmaConfig};

/// The seven projections of a decoder layer.
pub(super) const ALL: [&str; 7] =
    ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];
/// PEFT's word for all of them.
pub(super) const ALL_LINEAR: &str = "all-linear";

/// A LoRA adapter's settings, in PEFT's names.
///
/// Modules are known by their names in a checkpoint, such as `model.layers.0.self_attn.q_proj`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoraConfig {
    /// Rank.
    pub r: usize,
    /// The update is scaled by alpha / r (alpha / √r with rsLoRA).
    pub lora_alpha: f64,
    /// Which projections: a list of the ends of their names, a regular expression that the whole
    /// name matches, or `all-linear`.
    pub target_modules: Modules,
    /// Which of them not: a list or a regular expression.
    pub exclude_modules: Option<Modules>,
    /// In which layers only: a number or a list; needs `target_modules` to be a list.
    pub layers_to_transform: Option<Layers>,
    /// Other ranks: from regular expressions for the ends of names to `r`; the first match counts.
    pub rank_pattern: Patterns<usize>,
    /// Other alphas, in the same way.
    pub alpha_pattern: Patterns<f64>,
    /// Chance that an input of the update is zero in training.
    pub lora_dropout: f64,
    /// Rank-stabilised scale alpha / √r (arXiv 2312.03732).
    pub use_rslora: bool,
    /// Weight-decomposed update with a trained magnitude per output (DoRA, arXiv 2402.09353).
    pub use_dora: bool,
}

impl Default for LoraConfig {
    /// TRL's command line: rank 16, alpha 32, all seven projections; dropout 0 as in PEFT.
    fn default() -> Self {
        Self {
            r: 16,
            lora_alpha: 32.0,
            target_modules: Modules::Names(ALL.map(String::from).to_vec()),
            exclude_modules: None,
            layers_to_transform: None,
            rank_pattern: Patterns::default(),
            alpha_pattern: Patterns::default(),
            lora_dropout: 0.0,
            use_rslora: false,
            use_dora: false,
        }
    }
}

impl LoraConfig {
    /// Rank of the projection `name`.
    pub fn rank(&self, name: &str) -> usize {
        self.rank_pattern.get(name).unwrap_or(self.r)
    }

    /// What the update of the projection `name` is multiplied by.
    pub fn scale(&self, name: &str) -> f64 {
        let alpha = self.alpha_pattern.get(name).unwrap_or(self.lora_alpha);
        let r = self.rank(name) as f64;
        alpha / if self.use_rslora { r.sqrt() } else { r }
    }

    /// Whether the projection `name` gets an adapter.
    pub fn targets(&self, name: &str) -> bool {
        if self.exclude_modules.as_ref().is_some_and(|excluded| excluded.contains(name)) {
            return false;
        }
        match &self.target_modules {
            Modules::Pattern(word) if word.eq_ignore_ascii_case(ALL_LINEAR) => {
                ALL.iter().any(|projection| ends_with(name, projection))
            }
            // As in PEFT, a regular expression chooses its layers itself.
            Modules::Pattern(_) => self.target_modules.contains(name),
            Modules::Names(_) => self.target_modules.contains(name) && self.in_layers(name),
        }
    }

    fn in_layers(&self, name: &str) -> bool {
        let number = || name.split('.').find_map(|part| part.parse().ok());
        match &self.layers_to_transform {
            None => true,
            Some(layers) => number().is_some_and(|layer| layers.contains(layer)),
        }
    }

    /// Trainable numbers of such an adapter on a Gemma: `r·(in + out)` for each projection, and
    /// `out` more with DoRA.
    pub fn num_parameters(&self, gemma: &GemmaConfig) -> usize {
        let (hidden, inner) = (gemma.hidden_size, gemma.intermediate_size);
        let q = gemma.num_attention_heads * gemma.head_dim;
        let kv = gemma.num_key_value_heads * gemma.head_dim;
        // `[out, in]`, in the order of `ALL`.
        let sizes = [
            [q, hidden],
            [kv, hidden],
            [kv, hidden],
            [hidden, q],
            [inner, hidden],
            [inner, hidden],
            [hidden, inner],
        ];
        let of_layer = |layer: usize| -> usize {
            let of = |(part, [out, input]): (&str, [usize; 2])| {
                let name = projection_name(layer, part);
                let magnitude = if self.use_dora { out } else { 0 };
                let size = self.rank(&name) * (input + out) + magnitude;
                if self.targets(&name) { size } else { 0 }
            };
            ALL.into_iter().zip(sizes).map(of).sum()
        };
        (0..gemma.num_hidden_layers).map(of_layer).sum()
    }

    /// # Errors
    ///
    /// [`Error::Input`] that names the key: rank 0, a target that no Gemma has, a regular
    /// expression that is none, a dropout outside 0 to 1.
    pub fn check(&self) -> Result<()> {
        let fail = |key: &str, reason: &str| Err(Error::Input(format!("lora.{key}{reason}")));
        if self.r == 0 {
            return fail("r", " must be at least 1");
        }
        if let Some((key, _)) = self.rank_pattern.0.iter().find(|(_, r)| *r == 0) {
            return fail("rank_pattern", &format!(": the rank of '{key}' must be at least 1"));
        }
        let mut alphas = self.alpha_pattern.0.iter().map(|(_, alpha)| *alpha);
        if !self.lora_alpha.is_finite() || !alphas.all(f64::is_finite) {
            return fail("lora_alpha", " and the values of alpha_pattern must be finite");
        }
        if !(0.0..1.0).contains(&self.lora_dropout) {
            let reason = format!(" is {}; use a chance from 0 to below 1", self.lora_dropout);
            return fail("lora_dropout", &reason);
        }
        for (key, checked) in [
            ("target_modules", self.target_modules.check()),
            ("exclude_modules", self.exclude_modules.as_ref().map_or(Ok(()), Modules::check)),
            ("rank_pattern", self.rank_pattern.check()),
            ("alpha_pattern", self.alpha_pattern.check()),
        ] {
            if let Err(reason) = checked {
                return fail(key, &format!(": {reason}"));
            }
        }
        self.check_targets()
    }

    fn check_targets(&self) -> Result<()> {
        let targets = match &self.target_modules {
            Modules::Names(targets) => targets,
            Modules::Pattern(_) if self.layers_to_transform.is_some() => {
                return Err(Error::Input(
                    "lora.layers_to_transform needs target_modules to be a list of names; \
                     or choose the layers in the regular expression"
                        .into(),
                ));
            }
            Modules::Pattern(_) => return Ok(()),
        };
        let unknown = |target: &&String| !ALL.iter().any(|part| ends_with(target, part));
        match targets.iter().find(unknown) {
            Some(target) => Err(Error::Input(format!(
                "lora.target_modules: Gemma has no '{target}'; use any of {}",
                ALL.join(", ")
            ))),
            None if targets.is_empty() => {
                Err(Error::Input("lora.target_modules is empty: nothing would be trained".into()))
            }
            None => Ok(()),
        }
    }
}

/// The name in a checkpoint of a layer's projection.
pub(super) fn projection_name(layer: usize, part: &str) -> String {
    let block =
        if matches!(part, "gate_proj" | "up_proj" | "down_proj") { "mlp" } else { "self_attn" };
    format!("model.layers.{layer}.{block}.{part}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn gemma_2b() -> GemmaConfig {
        GemmaConfig::from_json(json!({
            "model_type": "gemma", "vocab_size": 256000, "hidden_size": 2048,
            "intermediate_size": 16384, "num_hidden_layers": 18, "num_attention_heads": 8,
            "num_key_value_heads": 1, "head_dim": 256,
        }))
        .unwrap()
    }

    fn config(value: serde_json::Value) -> LoraConfig {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn rank_16_on_gemma_2b_trains_19_6_million() {
        let trainable = LoraConfig::default().num_parameters(&gemma_2b());
        assert_eq!(trainable, 19_611_648);
        let percent = 100.0 * trainable as f64 / gemma_2b().num_parameters() as f64;
        assert_eq!(format!("{percent:.2}"), "0.78");
    }

    #[test]
    fn all_ways_to_choose_count() {
        let count = |value| config(value).num_parameters(&gemma_2b());
        let q = 2048 + 2048;
        assert_eq!(count(json!({"r": 1, "target_modules": ["q_proj"]})), 18 * q);
        assert_eq!(count(json!({"r": 1, "target_modules": ".*q_proj"})), 18 * q);
        assert_eq!(
            count(json!({"target_modules": "all-linear"})),
            LoraConfig::default().num_parameters(&gemma_2b())
        );
        let layers = json!({"r": 1, "target_modules": ["q_proj"], "layers_to_transform": [3, 5]});
        assert_eq!(count(layers), 2 * q);
        let one = json!({"r": 1, "target_modules": ["q_proj"], "layers_to_transform": 3});
        assert_eq!(count(one), q);
        let excluded = json!({"r": 1, "target_modules": "all-linear",
                              "exclude_modules": r".*\.(mlp\..*|[kvo]_proj)"});
        assert_eq!(count(excluded), 18 * q);
        let ranks = json!({"r": 1, "target_modules": ["q_proj"],
                           "rank_pattern": {r"layers\.0\.self_attn\.q_proj": 4}});
        assert_eq!(count(ranks), (17 + 4) * q);
        let dora = json!({"r": 1, "target_modules": ["q_proj"], "use_dora": true});
        assert_eq!(count(dora), 18 * (q + 2048));
    }

    #[test]
    fn rank_and_alpha_of_a_projection_make_its_scale() {
        let mut config = config(json!({
            "r": 4, "lora_alpha": 8, "rank_pattern": {"v_proj": 16}, "alpha_pattern": {"k_proj": 2},
        }));
        let scale = |config: &LoraConfig| {
            ["q_proj", "k_proj", "v_proj"].map(|part| config.scale(&projection_name(0, part)))
        };
        assert_eq!(scale(&config), [2.0, 0.5, 0.5]);
        config.use_rslora = true;
        assert_eq!(scale(&config), [4.0, 1.0, 2.0]);
    }

    #[test]
    fn errors_name_the_key() {
        for (key, value) in [
            ("r", json!(0)),
            ("target_modules", json!(["q_proj", "c_attn"])),
            ("target_modules", json!([])),
            ("target_modules", json!("(q_proj")),
            ("exclude_modules", json!("*")),
            ("rank_pattern", json!({"q_proj": 0})),
            ("alpha_pattern", json!({"(": 1})),
            ("lora_dropout", json!(1.0)),
        ] {
            let error = config(json!({key: value})).check().unwrap_err().to_string();
            assert!(error.contains(&format!("lora.{key}")), "{key}: {error}");
        }
        let both = config(json!({"target_modules": "all-linear", "layers_to_transform": 0}));
        assert!(both.check().unwrap_err().to_string().contains("layers_to_transform"));
    }
}
