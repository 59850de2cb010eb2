//! The pipeline's configuration: one YAML file, changed by `--set key.path=value`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow, bail};
use cai_chat::ServerConfig;
use cai_data::seed::Seed;
use cai_model::{model::LoadOptions, tokenizer::TemplateChoice};
use critique_revision::{CritiqueConfig, FeedbackConfig, Revisions};
use dpo_trainer::DpoConfig;
use evaluator::EvaluatorConfig;
use helpful_sft::SftConfig;
use safety_classifier::ClassifierConfig;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{DeserializeOwned, Error as _},
};
use serde_yaml::{Mapping, Value};

mod data;

pub use data::{DataConfig, FileData, Many, WorldData};

use crate::models::{Choice, ModelsConfig};
use crate::pipeline::Stage;

type Result<T, E = anyhow::Error> = std::result::Result<T, E>;

/// Everything that decides a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Names the run's folder in artifacts/runs.
    pub name: String,
    /// Seed of every stage that does not set its own.
    pub seed: u64,
    /// cpu, cuda[:n], vulkan[:n], wgpu[:n].
    #[serde(default = "cpu")]
    pub device: String,
    /// The base model: a folder, a GGUF file, or `hub:OWNER/NAME[@REVISION]`.
    pub model: String,
    /// A folder whose tokenizer takes the place of the model's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<PathBuf>,
    /// Chat template in place of the model's own: gemma, chatml, plain, or a Jinja file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat_template: Option<TemplateChoice>,
    /// The constitution's file.
    pub constitution: PathBuf,
    /// Stages that this run leaves out, each with the reason.
    #[serde(default)]
    pub skip: BTreeMap<Stage, String>,
    /// Where the records come from.
    #[serde(with = "serde_yaml::with::singleton_map")]
    pub data: DataConfig,
    /// Stage 1.
    #[serde(default)]
    pub classifier: ClassifierStage,
    /// Stage 2.
    #[serde(default)]
    pub sft: SftConfig,
    /// Stage 3A: critique and revision.
    #[serde(default)]
    pub critique: CritiqueConfig,
    /// Stage 3A: fine-tuning on revisions.
    #[serde(default)]
    pub sl_cai: SlCaiConfig,
    /// Stage 3A: AI feedback.
    #[serde(default)]
    pub feedback: FeedbackConfig,
    /// Stage 3B.
    #[serde(default)]
    pub dpo: DpoStageConfig,
    /// Stage 4.
    #[serde(default)]
    pub evaluation: EvaluatorConfig,
    /// Which models answer, criticise and compare.
    #[serde(default)]
    pub models: ModelsConfig,
    /// How servers are asked, where one of these models is behind one.
    #[serde(default)]
    pub server: ServerConfig,
}

fn cpu() -> String {
    "cpu".into()
}

/// Stage 1: how the classifier is trained, or which trained one is used.
#[derive(Clone, Debug)]
pub enum ClassifierStage {
    /// It is trained on the labelled texts.
    Train(Box<ClassifierConfig>),
    /// The folder of a trained one; the run needs no labelled texts.
    From(PathBuf),
}

impl Default for ClassifierStage {
    fn default() -> Self {
        Self::Train(Box::default())
    }
}

impl Serialize for ClassifierStage {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Train(config) => config.serialize(serializer),
            Self::From(dir) => BTreeMap::from([("from", dir)]).serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for ClassifierStage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut given = Mapping::deserialize(deserializer)?;
        let Some(from) = given.remove("from") else {
            let config = serde_path_to_error::deserialize(Value::Mapping(given))
                .map_err(|e| D::Error::custom(format!("{}: {}", e.path(), e.inner())))?;
            return Ok(Self::Train(Box::new(config)));
        };
        if let Some(key) = given.keys().find_map(Value::as_str) {
            return Err(D::Error::custom(format!(
                "from names a trained classifier, {key} says how to train one; give one of both, for \
                 example --set 'classifier={{from: DIR}}'"
            )));
        }
        Ok(Self::From(serde_yaml::from_value(from).map_err(D::Error::custom)?))
    }
}

/// Which adapter a stage starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// A fresh adapter.
    Base,
    /// The SFT adapter.
    Sft,
    /// The SL-CAI adapter.
    SlCai,
}

impl Start {
    /// The stage that makes the adapter.
    pub fn stage(self) -> Option<Stage> {
        match self {
            Start::Base => None,
            Start::Sft => Some(Stage::Sft),
            Start::SlCai => Some(Stage::SlCai),
        }
    }
}

/// Fine-tuning on revisions.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SlCaiConfig {
    /// sft, or base as in the paper.
    pub start: Start,
    /// Share of helpful conversations among those that are trained on.
    pub helpful_share: f64,
    /// Revisions that are trained on: last, or all as in the paper.
    pub revisions: Revisions,
    /// The fine-tuning itself.
    pub sft: SftConfig,
}

impl Default for SlCaiConfig {
    fn default() -> Self {
        let (helpful_share, revisions) = (0.5, Revisions::default());
        Self { start: Start::Sft, helpful_share, revisions, sft: SftConfig::default() }
    }
}

/// Where DPO's pairs come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PairSource {
    /// AI feedback on samples of the SL-CAI model.
    Feedback,
    /// Revision preferred to the original answer.
    Revision,
    /// The pairs of the data: comparisons as people give them.
    Human,
}

/// Direct preference optimisation.
#[derive(Clone, Debug, Serialize)]
pub struct DpoStageConfig {
    /// sl_cai, sft or base.
    pub start: Start,
    /// Where the pairs come from.
    pub pairs: Vec<PairSource>,
    /// Rounds of AI feedback and DPO. Each after the first compares samples of the policy that the
    /// round before made, starts from it, and has it as reference.
    pub rounds: usize,
    /// The optimisation itself.
    #[serde(flatten)]
    pub dpo: DpoConfig,
}

impl<'de> Deserialize<'de> for DpoStageConfig {
    /// By hand, because serde's `flatten` would let unknown keys pass.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut given = Mapping::deserialize(deserializer)?;
        let default = Self::default();
        let error = |error| D::Error::custom(error);
        Ok(Self {
            start: match given.remove("start") {
                Some(start) => serde_yaml::from_value(start).map_err(error)?,
                None => default.start,
            },
            pairs: match given.remove("pairs") {
                Some(pairs) => serde_yaml::from_value(pairs).map_err(error)?,
                None => default.pairs,
            },
            rounds: match given.remove("rounds") {
                Some(rounds) => serde_yaml::from_value(rounds).map_err(error)?,
                None => default.rounds,
            },
            dpo: serde_path_to_error::deserialize(Value::Mapping(given))
                .map_err(|e| D::Error::custom(format!("{}: {}", e.path(), e.inner())))?,
        })
    }
}

impl Default for DpoStageConfig {
    fn default() -> Self {
        let pairs = vec![PairSource::Feedback, PairSource::Revision];
        Self { start: Start::SlCai, pairs, rounds: 1, dpo: DpoConfig::default() }
    }
}

/// Stages whose own seed follows the top one unless they set it, by key path.
const SEEDS: [&str; 7] = [
    "classifier.train.seed",
    "sft.train.seed",
    "critique.seed",
    "sl_cai.sft.train.seed",
    "feedback.seed",
    "dpo.train.seed",
    "evaluation.seed",
];

impl Config {
    /// What the base is loaded with.
    pub fn load_options(&self) -> LoadOptions {
        LoadOptions {
            tokenizer: self.tokenizer.clone(),
            chat_template: self.chat_template.clone(),
            ..LoadOptions::default()
        }
    }

    /// Reads `path` and applies `--set` changes.
    ///
    /// # Errors
    ///
    /// A missing file, broken YAML, an unknown key or a value of the wrong type; the message names
    /// file and key.
    pub fn read(path: &Path, sets: &[String]) -> Result<Self> {
        let mut value = yaml(path, sets)?;
        let seed = value.get("seed").cloned().unwrap_or(Value::from(42));
        let from =
            value.get("classifier").is_some_and(|classifier| classifier.get("from").is_some());
        for key in SEEDS.into_iter().filter(|key| !(from && key.starts_with("classifier."))) {
            put(&mut value, key, seed.clone(), false)?;
        }
        let config: Self = parse(value, path)?;
        config.check().with_context(|| format!("config {}", path.display()))?;
        Ok(config)
    }

    fn check(&self) -> Result<()> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if self.name.is_empty() || self.name.starts_with('.') || !self.name.chars().all(plain) {
            bail!("name '{}' must be letters, digits, '.', '_' and '-'", self.name);
        }
        if self.dpo.pairs.is_empty() {
            bail!("dpo.pairs is empty; use any of feedback, revision, human");
        }
        match self.dpo.rounds {
            0 => bail!("dpo.rounds is 0; use 1 or more"),
            1 => {}
            rounds => {
                let feedback = self.dpo.pairs.contains(&PairSource::Feedback);
                if !feedback || self.skip.contains_key(&Stage::Feedback) {
                    bail!(
                        "dpo.rounds is {rounds}, but nothing is new in a later round; put feedback \
                         among dpo.pairs, and do not skip it"
                    );
                }
            }
        }
        let named = [("sl_cai.start", self.sl_cai.start), ("dpo.start", self.dpo.start)];
        for (key, start) in named {
            let Some(stage) = start.stage() else { continue };
            let user = if key == "dpo.start" { Stage::Dpo } else { Stage::SlCai };
            if self.skip.contains_key(&stage) && !self.skip.contains_key(&user) {
                bail!("{key} is {stage}, but skip leaves that stage out");
            }
        }
        if !(0.0..1.0).contains(&self.sl_cai.helpful_share) {
            let share = self.sl_cai.helpful_share;
            bail!("sl_cai.helpful_share is {share}; use a share from 0 to below 1");
        }
        for (key, name) in self.models.all() {
            let choice = Choice::parse(name).with_context(|| key.to_string())?;
            let Choice::Stage(start) = choice else { continue };
            let user = match key {
                "models.author" | "models.critic" => Stage::Critique,
                _ => Stage::Feedback,
            };
            let Some(stage) = start.stage() else { continue };
            if stage > user {
                bail!("{key} is {stage}, which comes after {user}");
            }
            if self.skip.contains_key(&stage) && !self.skip.contains_key(&user) {
                bail!("{key} is {stage}, but skip leaves that stage out");
            }
        }
        self.server.check()?;
        self.sft.check()?;
        self.critique.check()?;
        self.sl_cai.sft.check()?;
        self.feedback.check()?;
        self.dpo.dpo.check()?;
        self.evaluation.validate()?;
        match &self.classifier {
            ClassifierStage::Train(config) => config.validate()?,
            ClassifierStage::From(dir) if self.skip.contains_key(&Stage::Classifier) => bail!(
                "classifier.from is {}, but skip leaves the classifier out; give one of both",
                dir.display()
            ),
            ClassifierStage::From(_) => {}
        }
        if self.skip.contains_key(&Stage::Classifier) && !self.skip.contains_key(&Stage::Evaluate) {
            bail!(
                "evaluate scores harm with the classifier, which skip leaves out; skip evaluate too, \
                 or name a trained one: classifier.from"
            );
        }
        if let DataConfig::Files(files) = &self.data {
            files.check()?;
        }
        Ok(())
    }

    /// The data files that the run reads.
    pub fn data_files(&self) -> Vec<&str> {
        let DataConfig::Files(files) = &self.data else { return Vec::new() };
        let labelled = match self.classifier {
            ClassifierStage::Train(_) => files.labelled.0.as_slice(),
            ClassifierStage::From(_) => &[],
        };
        let records = files.records().flat_map(|(_, sources, _)| sources).map(|s| s.path.as_str());
        records.chain(labelled.iter().map(|source| source.path.as_str())).collect()
    }

    /// The seed of the data.
    pub fn data_seed(&self) -> Seed {
        Seed(self.seed).derive("data")
    }
}

/// Reads a YAML file and applies `--set` changes.
///
/// # Errors
///
/// A missing file, broken YAML, or a change that does not fit.
pub fn yaml(path: &Path, sets: &[String]) -> Result<Value> {
    let text = std::fs::read_to_string(path).with_context(|| {
        format!("config {}: not readable; see configs/ for those that come with it", path.display())
    })?;
    let mut value: Value =
        serde_yaml::from_str(&text).with_context(|| format!("config {}", path.display()))?;
    for set in sets {
        apply(&mut value, set)?;
    }
    Ok(value)
}

/// Turns what [`yaml`] read into a config.
///
/// # Errors
///
/// An unknown key or a value of the wrong type; the message names file and key.
pub fn parse<T: DeserializeOwned>(value: Value, path: &Path) -> Result<T> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let (key, reason) = (error.path().to_string(), error.into_inner());
        anyhow!("config {} (with --set), key {key}: {reason}", path.display())
    })
}

/// Applies one `key.path=value`, where the value is YAML.
fn apply(value: &mut Value, set: &str) -> Result<()> {
    let Some((key, text)) = set.split_once('=') else {
        bail!("--set {set}: write key.path=value, for example --set dpo.beta=0.2");
    };
    let new = serde_yaml::from_str(text).with_context(|| format!("--set {set}"))?;
    put(value, key, new, true).with_context(|| format!("--set {set}"))
}

/// Puts `new` at a dotted path, making mappings on the way; keeps what is there unless `replace`. An
/// entry of a list is named by its number, from 0.
fn put(value: &mut Value, key: &str, new: Value, replace: bool) -> Result<()> {
    let mut at = value;
    let mut parts = key.split('.').peekable();
    while let Some(part) = parts.next() {
        if at.is_null() {
            *at = Value::Mapping(Mapping::new());
        }
        let last = parts.peek().is_none();
        let slot = match at {
            Value::Mapping(map) => map.entry(Value::from(part)).or_insert(Value::Null),
            Value::Sequence(list) => {
                let count = list.len();
                let entry = part.parse().ok().and_then(|i: usize| list.get_mut(i));
                entry.with_context(|| format!("'{part}' is none of {count} entries, from 0"))?
            }
            _ => bail!("'{part}' is below a value, not a section"),
        };
        if last && (replace || slot.is_null()) {
            *slot = new;
            return Ok(());
        }
        at = slot;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_classifier_is_trained_or_had_from_a_folder_not_both() {
        let from = read("mini.yaml", &["classifier={from: some/dir}"]).unwrap();
        assert!(matches!(&from.classifier, ClassifierStage::From(dir) if dir.ends_with("dir")));
        let yaml = serde_yaml::to_string(&from.classifier).unwrap();
        assert!(serde_yaml::from_str::<ClassifierStage>(&yaml).is_ok(), "{yaml}");
        for (set, part) in [
            ("classifier.from=some/dir", "give one of both"),
            ("classifier={from: 7, d_model: 8}", "d_model says how to train"),
            ("classifier.dmodel=8", "dmodel"),
        ] {
            let error = format!("{:#}", read("mini.yaml", &[set]).unwrap_err());
            assert!(error.contains(part) && error.contains("classifier"), "{set}: {error}");
        }
        let skipped = read("mini.yaml", &["skip={classifier: none}"]).unwrap_err();
        assert!(format!("{skipped:#}").contains("classifier.from"), "{skipped:#}");
    }

    fn read(name: &str, sets: &[&str]) -> Result<Config> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs").join(name);
        Config::read(&path, &sets.iter().map(|s| s.to_string()).collect::<Vec<_>>())
    }

    #[test]
    fn every_shipped_config_is_valid() {
        for name in [
            "mini.yaml",
            "micro.yaml",
            "hh-rlhf.yaml",
            "gemma-2b.yaml",
            "gemma-270m.yaml",
            "smollm2-135m.yaml",
        ] {
            read(name, &[]).unwrap_or_else(|e| panic!("{name}: {e:#}"));
        }
    }

    #[test]
    fn settings_are_changed_by_path_and_mistakes_are_named() {
        let config = read("mini.yaml", &["dpo.beta=0.25", "seed=7"]).unwrap();
        assert_eq!((config.dpo.dpo.beta, config.sft.train.seed), (0.25, 7));
        for (set, hint) in
            [("dpo.bta=1", "bta"), ("dpo.beta=x", "beta"), ("nonsense", "key.path=value")]
        {
            let error = format!("{:#}", read("mini.yaml", &[set]).unwrap_err());
            assert!(error.contains(hint), "{set}: {error}");
        }
    }
}
