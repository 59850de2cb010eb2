//! What is written about each prompt.

use cai_chat::Judgement;
use cai_data::constitution::Category;
use cai_data::record::Message;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::blocks::Line;
use crate::clean::{Repair, Rule};

/// One prompt's answer, critiques and revisions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CritiqueRecord {
    /// The prompt's name.
    pub id: String,
    /// The turns that were answered.
    pub prompt: Vec<Message>,
    /// The first answer.
    pub initial: Answer,
    /// Critiques and revisions, in order; fewer than asked for if an answer was found safe.
    pub rounds: Vec<Round>,
    /// The answer in use at the end: the last revision that breaks no rule, or the initial answer.
    pub final_revision: String,
    /// What came of it.
    pub outcome: Outcome,
    /// The seed of the run.
    pub seed: u64,
    /// The fingerprint of the model that answered.
    pub model: String,
    /// The fingerprint of the model that criticised and revised, if it is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub critic: Option<String>,
    /// Names everything that decided this record (a hash).
    pub run: String,
    /// The prompt's other fields.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// An answer and what is found about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The text.
    pub text: String,
    /// The classifier's probability that it is harmful; absent without a classifier.
    pub harm: Option<f64>,
    /// The classifier's most probable label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub risk: Option<String>,
    /// Whether it declines.
    pub refused: bool,
    /// The rules that it breaks.
    pub cleaning: Vec<Rule>,
    /// The text as the model wrote it, if it was repaired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unrepaired: Option<String>,
    /// The rules by which it was repaired.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repairs: Vec<Repair>,
}

/// A critique and the revision after it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// The principle's id.
    pub principle: String,
    /// What it protects.
    pub category: Category,
    /// The critique; empty if there was no room for it.
    pub critique: String,
    /// The revision; empty if there was no room for it.
    pub revision: String,
    /// The revision as the model wrote it, if it was repaired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unrepaired: Option<String>,
    /// The rules by which it was repaired.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repairs: Vec<Repair>,
    /// The classifier's probability that the revision is harmful; absent without a classifier or a
    /// revision.
    pub harm: Option<f64>,
    /// The classifier's most probable label for the revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub risk: Option<String>,
    /// Whether the revision declines.
    pub refused: bool,
    /// The rules that the revision breaks. It replaces the answer only if there are none.
    pub cleaning: Vec<Rule>,
}

/// What came of a prompt.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The answer was replaced by a revision.
    Revised,
    /// The initial answer stayed, and the classifier finds it safe.
    Safe,
    /// The initial answer stayed, and no one says that it is safe.
    Unchanged,
}

impl Outcome {
    /// The name in records and reports.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Revised => "revised",
            Outcome::Safe => "safe",
            Outcome::Unchanged => "unchanged",
        }
    }
}

impl CritiqueRecord {
    /// Harm and refusal of the answer in use after `rounds` rounds; 0 is the initial answer. After
    /// the last round that was run, its answer stays in use.
    pub fn in_use(&self, rounds: usize) -> (Option<f64>, bool) {
        match self.round_in_use(rounds) {
            Some(round) => (round.harm, round.refused),
            None => (self.initial.harm, self.initial.refused),
        }
    }

    /// The answer in use after `rounds` rounds.
    pub fn text_in_use(&self, rounds: usize) -> &str {
        self.round_in_use(rounds).map_or(&self.initial.text, |round| &round.revision)
    }

    /// The classifier's label of the answer in use after `rounds` rounds.
    pub(crate) fn risk_in_use(&self, rounds: usize) -> Option<&str> {
        match self.round_in_use(rounds) {
            Some(round) => round.risk.as_deref(),
            None => self.initial.risk.as_deref(),
        }
    }

    /// The round whose revision is in use after `rounds` rounds; `None` for the initial answer.
    fn round_in_use(&self, rounds: usize) -> Option<&Round> {
        let run = &self.rounds[..rounds.min(self.rounds.len())];
        run.iter().rev().find(|round| round.cleaning.is_empty())
    }

    /// Whether the final answer may be trained on: a revision, or an initial answer that breaks no
    /// rule and is safe.
    pub fn is_clean(&self) -> bool {
        match self.outcome {
            Outcome::Revised => true,
            Outcome::Safe => self.initial.cleaning.is_empty(),
            Outcome::Unchanged => false,
        }
    }
}

impl Line for CritiqueRecord {
    const FIELDS: &[&str] = &[
        "id",
        "prompt",
        "initial",
        "rounds",
        "final_revision",
        "outcome",
        "seed",
        "model",
        "critic",
        "run",
    ];

    fn run(&self) -> &str {
        &self.run
    }

    fn id(&self) -> &str {
        &self.id
    }
}

/// One prompt's samples and how they compare.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeedbackRecord {
    /// The prompt's name.
    pub id: String,
    /// The turns that were answered.
    pub prompt: Vec<Message>,
    /// The policy's answers.
    pub samples: Vec<Sample>,
    /// What the judge says of every two samples.
    pub comparisons: Vec<Comparison>,
    /// The seed of the run.
    pub seed: u64,
    /// The fingerprint of the policy.
    pub policy: String,
    /// The fingerprint of the feedback model.
    pub judge: String,
    /// Names everything that decided this record (a hash).
    pub run: String,
    /// The prompt's other fields.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// An answer of the policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The text.
    pub text: String,
    /// Whether it declines.
    pub refused: bool,
    /// The rules that it breaks. It is compared only if there are none.
    pub cleaning: Vec<Rule>,
    /// The text as the model wrote it, if it was repaired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unrepaired: Option<String>,
    /// The rules by which it was repaired.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repairs: Vec<Repair>,
}

/// Two samples side by side.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Position of one sample.
    pub first: usize,
    /// Position of the other.
    pub second: usize,
    /// Why they were not compared: `identical`, `unclean` (one breaks a rule), or the rule by which
    /// the judge gave no answer: `no_room` (a question is longer than the judge's context),
    /// `rejected`, `no_answer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropped: Option<String>,
    /// What the judge says under each principle; none if dropped.
    pub judgements: Vec<Judgement>,
}

impl Comparison {
    /// The probability that the first sample is better, averaged over principles and orders; `None`
    /// if they were not compared.
    pub fn first_probability(&self) -> Option<f64> {
        let count = self.judgements.len() as f64;
        let sum: f64 = self.judgements.iter().map(Judgement::first_probability).sum();
        (count > 0.0).then(|| sum / count)
    }
}

impl Line for FeedbackRecord {
    const FIELDS: &[&str] =
        &["id", "prompt", "samples", "comparisons", "seed", "policy", "judge", "run"];

    fn run(&self) -> &str {
        &self.run
    }

    fn id(&self) -> &str {
        &self.id
    }
}
