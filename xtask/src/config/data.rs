//! Where a run's records come from.

use anyhow::{Result, bail};
use cai_data::{dataset::Policy, source::Source};
use safety_classifier::sources::Source as LabelledSource;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeOwned, Error as _},
};
use serde_yaml::Value;

/// Where the records come from.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DataConfig {
    /// The mini world makes them.
    World(WorldData),
    /// Files of people's making, local or on the hub.
    Files(Box<FileData>),
}

/// How many records of the mini world each stage gets.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WorldData {
    /// Helpful conversations for SFT.
    pub helpful: usize,
    /// Harmful prompts for critique and feedback.
    pub red_team: usize,
    /// Harmless prompts for feedback, so that the policy keeps answering them.
    pub harmless: usize,
    /// Labelled texts for the classifier.
    pub labelled: usize,
    /// Comparisons of helpfulness for DPO.
    pub helpful_pairs: usize,
    /// Evaluation prompts of each held-out topic.
    pub evaluation_per_topic: usize,
}

impl Default for WorldData {
    fn default() -> Self {
        Self {
            helpful: 2000,
            red_team: 400,
            harmless: 400,
            labelled: 6000,
            helpful_pairs: 400,
            evaluation_per_topic: 4,
        }
    }
}

/// Files of records; those that no stage of the run needs may be absent. Each is a path, or
/// `hub:OWNER/NAME/FILE` of a dataset, or a mapping that also says what its columns are called and
/// which records are taken (see [`Source`]); one or a list.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FileData {
    /// Conversations for SFT. Absent: the chosen replies of `pairs`.
    pub helpful: Many<Source>,
    /// Prompts for critique and feedback.
    pub red_team: Many<Source>,
    /// Harmless prompts for feedback.
    pub harmless: Many<Source>,
    /// Labelled texts for the classifier.
    pub labelled: Many<LabelledSource>,
    /// Preference pairs (hh-rlhf transcripts, or what TRL reads).
    pub pairs: Many<Source>,
    /// Evaluation prompts. A record that asks what one of them asks is left out everywhere else.
    pub evaluation: Many<Source>,
    /// At most this many records of each file, the first ones.
    pub limit: Option<usize>,
    /// Malformed records that a file may have before it is refused.
    pub max_malformed: usize,
}

/// One, or a list.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub struct Many<T>(pub Vec<T>);

impl<T> Default for Many<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Many<T> {
    /// By hand: an untagged enum would not say what is wrong.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let all = match Value::deserialize(deserializer)? {
            Value::Null => Vec::new(),
            Value::Sequence(all) => all,
            one => vec![one],
        };
        let parsed =
            all.into_iter().map(serde_yaml::from_value).collect::<std::result::Result<_, _>>();
        parsed.map(Self).map_err(D::Error::custom)
    }
}

/// The columns that each kind of records takes.
const HELPFUL: &[&str] = &["messages", "prompt", "completion", "chosen", "rejected", "weight"];
const PROMPTS: &[&str] = &["prompt", "chosen", "rejected"];
const PAIRS: &[&str] = &["prompt", "chosen", "rejected", "chosen_probability", "weight", "source"];
const EVALUATION: &[&str] =
    &["id", "prompt", "category", "reference", "topic", "phrasing", "group"];

impl FileData {
    /// How malformed records are dealt with.
    pub fn policy(&self) -> Policy {
        Policy { max_malformed: self.max_malformed }
    }

    /// The sources of records, labelled texts aside, with their keys and the fields that they take.
    pub fn records(&self) -> impl Iterator<Item = (&str, &[Source], &[&str])> {
        let all = [
            ("helpful", &self.helpful, HELPFUL),
            ("red_team", &self.red_team, PROMPTS),
            ("harmless", &self.harmless, PROMPTS),
            ("pairs", &self.pairs, PAIRS),
            ("evaluation", &self.evaluation, EVALUATION),
        ];
        all.into_iter().map(|(name, sources, fields)| (name, sources.0.as_slice(), fields))
    }

    /// Whether the columns that are named are fields of the records.
    ///
    /// # Errors
    ///
    /// A key that is none, with those that there are.
    pub fn check(&self) -> Result<()> {
        for (name, sources, fields) in self.records() {
            for source in sources {
                let unknown = source.columns.keys().find(|key| !fields.contains(&key.as_str()));
                if let Some(key) = unknown {
                    bail!(
                        "data.files.{name}, {}: there is no key {key}; there are path, turns, \
                         max_words, skip, take, sample, and the columns {}",
                        source.path,
                        fields.join(", ")
                    );
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use anyhow::Result;
    use std::path::Path;

    fn read(sets: &[&str]) -> Result<Config> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/mini.yaml");
        Config::read(&path, &sets.iter().map(|set| set.to_string()).collect::<Vec<_>>())
    }

    #[test]
    fn sources_are_one_or_many_and_their_keys_are_known() {
        let sets =
            ["data={files: {pairs: p, evaluation: [{path: a, category: {value: harmful}}, b]}}"];
        let config = read(&sets).unwrap();
        assert_eq!(config.data_files(), ["p", "a", "b"]);
        let second = [sets[0], "data.files.evaluation.1.sample=3"];
        let error = format!("{:#}", read(&second).unwrap_err());
        assert!(error.contains("below a value"), "{error}");
        let moved = [sets[0], "data.files.evaluation.0.path=c", "data.files.evaluation.0.take=1"];
        assert_eq!(read(&moved).unwrap().data_files(), ["p", "c", "b"]);
        for (set, part) in [
            ("data.files.evaluation.2=c", "none of 2 entries"),
            ("data.files.evaluation.0.categry=x", "no key categry"),
            ("data.files.evaluation.0.take=x", "take"),
            ("data.files.pairs={prompt: x}", "needs a path"),
        ] {
            let error = format!("{:#}", read(&[sets[0], set]).unwrap_err());
            assert!(error.contains(part), "{set}: {error}");
        }
    }
}
