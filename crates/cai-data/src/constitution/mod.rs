//! The constitution: the principles by which answers are criticised, revised and compared.
//!
//! A file is YAML of this project's own form (see [`Constitution`]), which may extend other files,
//! or one of the forms that others use (see [`Constitution::read`]).

mod file;
mod foreign;
mod lines;
#[cfg(test)]
mod tests;

use crate::Result;
use crate::record::Message;
use crate::seed::Seed;
use rand::RngExt;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// A set of principles.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Constitution {
    /// What it is called.
    pub name: String,
    /// The language of its texts (ISO 639-1, such as `en`).
    pub language: String,
    /// The principles; at least one.
    pub principles: Vec<Principle>,
    /// Conversations that show how answers are criticised and revised. Each alternates from a user
    /// turn to an assistant turn; how many a run puts before its own dialogues is a setting of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub few_shot: Vec<Vec<Message>>,
}

/// What a principle protects.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Category {
    /// That no one is hurt.
    HarmPrevention,
    /// That what is said is true.
    Truthfulness,
    /// That the person gets what they need.
    Helpfulness,
    /// That people are treated alike.
    Fairness,
}

impl Category {
    /// The name in files and reports.
    pub fn name(self) -> &'static str {
        match self {
            Category::HarmPrevention => "harm_prevention",
            Category::Truthfulness => "truthfulness",
            Category::Helpfulness => "helpfulness",
            Category::Fairness => "fairness",
        }
    }
}

/// One principle, in the three forms in which a model is asked about it. A principle has the two
/// requests, the question, or all three.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Principle {
    /// A name, unique in the constitution.
    pub id: String,
    /// What it protects.
    pub category: Category,
    /// How often it is drawn, relative to the others; above 0.
    #[serde(default = "one")]
    pub weight: f64,
    /// The classifier's labels that call for this principle, where principles are matched to them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub risks: Vec<String>,
    /// Asks for a critique of the answer before; empty if the principle does not serve for that.
    #[serde(default)]
    pub critique_request: String,
    /// Asks for a revision of that answer; empty together with `critique_request`.
    #[serde(default)]
    pub revision_request: String,
    /// Asks which of two answers is better; empty if the principle does not serve for that.
    #[serde(default)]
    pub preference_question: String,
}

impl Principle {
    /// Whether it serves for critique and revision.
    pub fn criticises(&self) -> bool {
        !self.critique_request.is_empty()
    }

    /// Whether it serves for comparing answers.
    pub fn compares(&self) -> bool {
        !self.preference_question.is_empty()
    }
}

fn one() -> f64 {
    1.0
}

impl Constitution {
    /// Reads a file and those that it extends, and checks them. By its content, a file is
    ///
    /// - this project's YAML: `name`, `language` (`en` if absent), `principles`, `few_shot`, and
    ///   `extends`: a file or a list of files, relative to this one, whose principles come first. A
    ///   principle with the id of an extended one takes its place;
    /// - the paper's critique file, an object of `{"prompt": [critique request], "edit_request"}`;
    /// - the paper's feedback file, a list of preference questions;
    /// - llm-swarm's `{"constitutions": [{"critic", "revision"}], "system_chat": [messages]}`.
    ///
    /// # Errors
    ///
    /// If a file cannot be read, is none of these (with the line), has an unknown key, or if an id
    /// is used twice, a text is empty, a weight is not above 0, a request lacks its other half, a
    /// file extends itself, or there is no principle.
    pub fn read(path: &Path) -> Result<Self> {
        Ok(file::read(path)?.0)
    }

    /// The file at `path` and those that it extends: what decides the constitution.
    ///
    /// # Errors
    ///
    /// As [`Constitution::read`].
    pub fn files(path: &Path) -> Result<Vec<PathBuf>> {
        Ok(file::read(path)?.1)
    }

    /// Reads text of any of these forms that extends nothing, and checks it; `place` is what errors
    /// call it.
    ///
    /// # Errors
    ///
    /// As [`Constitution::read`].
    pub fn parse(text: &str, place: &str) -> Result<Self> {
        file::parse(text, place)
    }

    /// The constitution with only the principles that `keep` holds of.
    pub fn only(&self, keep: impl Fn(&Principle) -> bool) -> Self {
        let principles = self.principles.iter().filter(|principle| keep(principle)).cloned();
        Self { principles: principles.collect(), ..self.clone() }
    }

    /// The principle that `seed` draws, each as often as its weight says.
    ///
    /// # Panics
    ///
    /// Without principles; a constitution that was read has at least one.
    pub fn sample(&self, seed: Seed) -> &Principle {
        let total: f64 = self.principles.iter().map(|principle| principle.weight).sum();
        let mut roll = seed.rng().random::<f64>() * total;
        let last = self.principles.len() - 1;
        for principle in &self.principles[..last] {
            if roll < principle.weight {
                return principle;
            }
            roll -= principle.weight;
        }
        &self.principles[last]
    }
}
