//! The pipeline: stages that run when their inputs have changed, and only then.

mod data;
mod files;
mod manifest;
mod run;
mod stages;
mod step;
mod variants;

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

pub use data::run as make_data;
pub use run::{Options, human, run};
pub use stages::{ADAPTER, outcome};
pub use step::Step;
pub use variants::Finished;

/// The stages, in the order in which they run; with several rounds, AI feedback and DPO take turns
/// (see [`Step`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Makes or reads the records of all stages.
    Data,
    /// Trains the safety classifier.
    Classifier,
    /// Fine-tunes the base on helpful replies.
    Sft,
    /// Lets the SFT model criticise and revise its answers.
    Critique,
    /// Fine-tunes on the revisions.
    SlCai,
    /// Lets the SFT model compare answers of the SL-CAI model.
    Feedback,
    /// Optimises the policy on preferences.
    Dpo,
    /// Compares all models.
    Evaluate,
}

impl Stage {
    /// All of them, in order.
    pub const ALL: [Self; 8] = [
        Self::Data,
        Self::Classifier,
        Self::Sft,
        Self::Critique,
        Self::SlCai,
        Self::Feedback,
        Self::Dpo,
        Self::Evaluate,
    ];

    /// Its name in configs, on the command line and as a folder.
    pub fn name(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Classifier => "classifier",
            Self::Sft => "sft",
            Self::Critique => "critique",
            Self::SlCai => "sl_cai",
            Self::Feedback => "feedback",
            Self::Dpo => "dpo",
            Self::Evaluate => "evaluate",
        }
    }
}

/// Counts by name, for a sentence.
fn counted(counts: &BTreeMap<String, usize>) -> String {
    if counts.is_empty() {
        return "none".into();
    }
    counts.iter().map(|(name, n)| format!("{n} {name}")).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}
