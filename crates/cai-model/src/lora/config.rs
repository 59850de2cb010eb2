use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::modules::{Layers, Modules, Patterns, ends_with};
use crate::{Error, Result, decoder::DecoderSpec};

/// The seven projections that every decoder layer has.
pub(super) const ALL: [&str; 7] =
    ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];
/// Those that only some families have.
const FURTHER: [&str; 4] =
    ["per_layer_input_gate", "per_layer_projection", "per_layer_model_projection", "proj"];
/// PEFT's word for all of a model's.
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
    /// Rows of the embedding that are trained, too: ids, or ids by module (`embed_tokens`,
    /// `lm_head`). A tied head has the same rows. How a pre-trained model learns a token that it does
    /// not know, such as the end of a turn.
    pub trainable_token_indices: Option<TokenIndices>,
    /// Whole modules that are trained, too: `embed_tokens`, `lm_head`. Each is a copy of its own,
    /// also where the head was tied.
    pub modules_to_save: Option<Vec<String>>,
    /// A tied head and its embedding, if both are in `modules_to_save`, are trained as one.
    pub ensure_weight_tying: bool,
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
            trainable_token_indices: None,
            modules_to_save: None,
            ensure_weight_tying: false,
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
                ALL.iter().chain(&FURTHER).any(|projection| ends_with(name, projection))
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

    /// Trainable numbers of such an adapter on such a decoder: `r·(in + out)` for each projection,
    /// `out` more with DoRA, and the trained rows of embedding and head.
    pub fn num_parameters(&self, spec: &DecoderSpec) -> usize {
        let of = |(name, [out, input]): (String, [usize; 2])| {
            let magnitude = if self.use_dora { out } else { 0 };
            let size = self.rank(&name) * (input + out) + magnitude;
            if self.targets(&name) { size } else { 0 }
        };
        let projections: usize = spec.projections().into_iter().map(of).sum();
        let rows = |table| match self.rows(table, spec.tie_word_embeddings) {
            None => 0,
            Some(Rows { ids: None, .. }) => spec.vocab_size,
            Some(Rows { ids: Some(ids), .. }) => ids.len(),
        };
        projections + spec.hidden_size * (rows(Table::Embedding) + rows(Table::Head))
    }

    /// Which rows of a table are trained beside the projections, if any, where the head is `tied` to
    /// the embedding or not.
    pub(super) fn rows(&self, table: Table, tied: bool) -> Option<Rows> {
        let whole = |table: Table| self.saves(table);
        let some = |table: Table| self.trainable_token_indices.as_ref()?.of(table);
        let (own, other) = match table {
            Table::Embedding => (some(table), some(Table::Head)),
            Table::Head => (some(table), some(Table::Embedding)),
        };
        // A head that reads the embedding's rows has none of its own.
        let joined = whole(Table::Embedding) && whole(Table::Head) && self.ensure_weight_tying;
        let same = own.is_some() && own == other;
        if table == Table::Head && tied && (joined || same) {
            return None;
        }
        if whole(table) {
            return Some(Rows { ids: None, head: tied && joined });
        }
        let head = tied && table == Table::Embedding && (other.is_none() || same);
        own.map(|ids| Rows { ids: Some(ids), head })
    }

    /// Whether the embedding's rows of all these tokens are trained.
    pub fn trains_rows(&self, ids: &[u32]) -> bool {
        match self.rows(Table::Embedding, true) {
            Some(Rows { ids: Some(trained), .. }) => ids.iter().all(|id| trained.contains(id)),
            Some(Rows { ids: None, .. }) => true,
            None => ids.is_empty(),
        }
    }

    /// Whether the table is trained as a whole.
    fn saves(&self, table: Table) -> bool {
        self.modules_to_save.iter().flatten().any(|name| ends_with(name, table.name()))
    }

    /// The same settings where modules that this one calls by the first of `names` are called by the
    /// second, as those of a text model inside one that also sees. Unchanged where they are the same.
    pub(super) fn translated(self, names: &[(String, String)]) -> Self {
        if names.iter().all(|(from, to)| from == to) {
            return self;
        }
        let targets = || names.iter().filter(|(from, _)| self.targets(from));
        let exactly = |name: &str| fancy_regex::escape(name).into_owned();
        let rank =
            |(from, to): &(String, String)| Some((exactly(to), self.rank_pattern.get(from)?));
        let alpha =
            |(from, to): &(String, String)| Some((exactly(to), self.alpha_pattern.get(from)?));
        Self {
            target_modules: Modules::Names(targets().map(|(_, to)| to.clone()).collect()),
            exclude_modules: None,
            layers_to_transform: None,
            rank_pattern: Patterns(targets().filter_map(rank).collect()),
            alpha_pattern: Patterns(targets().filter_map(alpha).collect()),
            ..self
        }
    }

    /// # Errors
    ///
    /// [`Error::Input`] that names the key: rank 0, a target that no decoder has, a regular
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
        self.check_rows()?;
        self.check_targets()
    }

    fn check_rows(&self) -> Result<()> {
        let known = |name: &&String| Table::ALL.iter().any(|t| ends_with(name, t.name()));
        if let Some(name) = self.modules_to_save.iter().flatten().find(|name| !known(name)) {
            return Err(Error::Input(format!(
                "lora.modules_to_save: '{name}' is not supported; use embed_tokens, lm_head or both"
            )));
        }
        let Some(indices) = &self.trainable_token_indices else { return Ok(()) };
        let fail =
            |reason: String| Err(Error::Input(format!("lora.trainable_token_indices{reason}")));
        if let TokenIndices::ByModule(modules) = indices
            && let Some(name) = modules.keys().find(|name| !known(name))
        {
            return fail(format!(": '{name}' has no rows; use embed_tokens or lm_head"));
        }
        for table in Table::ALL {
            let Some(ids) = indices.of(table) else { continue };
            let name = table.name();
            if self.saves(table) {
                return fail(format!(" and modules_to_save both train {name}; choose one"));
            }
            match ids.iter().enumerate().find(|(i, id)| ids[..*i].contains(id)) {
                Some((_, id)) => return fail(format!(": {id} is there twice")),
                None if ids.is_empty() => return fail(format!(": no token of {name}")),
                None => {}
            }
        }
        Ok(())
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
                "lora.target_modules: Decoder has no '{target}'; use any of {}",
                ALL.join(", ")
            ))),
            None if targets.is_empty() => {
                Err(Error::Input("lora.target_modules is empty: nothing would be trained".into()))
            }
            None => Ok(()),
        }
    }
}

/// Rows of a table that are trained.
pub(super) struct Rows {
    /// All if `None`.
    pub(super) ids: Option<Vec<u32>>,
    /// Whether a tied head reads them, too.
    pub(super) head: bool,
}

/// A table with one row per token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Table {
    Embedding,
    Head,
}

impl Table {
    pub(super) const ALL: [Table; 2] = [Table::Embedding, Table::Head];

    /// Its name in settings.
    pub(super) fn name(self) -> &'static str {
        match self {
            Table::Embedding => "embed_tokens",
            Table::Head => "lm_head",
        }
    }

    /// Its name in a checkpoint.
    pub(super) fn path(self) -> &'static str {
        match self {
            Table::Embedding => "model.embed_tokens",
            Table::Head => "lm_head",
        }
    }
}

/// Tokens whose rows are trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "a list of token ids, or lists by module")]
pub enum TokenIndices {
    /// Of the embedding.
    Embedding(Vec<u32>),
    /// By module: `embed_tokens`, `lm_head`.
    ByModule(BTreeMap<String, Vec<u32>>),
}

impl TokenIndices {
    fn of(&self, table: Table) -> Option<Vec<u32>> {
        match (self, table) {
            (Self::Embedding(ids), Table::Embedding) => Some(ids.clone()),
            (Self::Embedding(_), Table::Head) => None,
            (Self::ByModule(modules), table) => {
                let own = modules.iter().find(|(name, _)| ends_with(name, table.name()));
                own.map(|(_, ids)| ids.clone())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn gemma_2b() -> DecoderSpec {
        DecoderSpec::from_json(json!({
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
            ["q_proj", "k_proj", "v_proj"]
                .map(|part| config.scale(&format!("model.layers.0.self_attn.{part}")))
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
