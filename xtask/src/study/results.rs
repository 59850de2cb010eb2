//! What a seed of the study gave.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use critique_revision::CritiqueReport;
use evaluator::{Measure, Results};
use serde::{Deserialize, Serialize};

/// Revisions after critiques, under the whole constitution.
pub const CRITIQUED: &str = "critique and revision";
/// Revisions without critiques.
pub const DIRECT: &str = "direct revision";

/// Revisions after critiques, under some principles.
pub fn of_principles(count: usize) -> String {
    format!("{count} principles")
}

/// The measures of models that the study looks at.
pub const MEASURES: [Measure; 4] = [
    Measure::JudgedHarmlessness,
    Measure::JudgedHelpfulness,
    Measure::HarmPrevention,
    Measure::Helpfulness,
];

/// Scores of the answers in use, by the number of revisions from 0.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Revised {
    /// By the judge who knows the truth.
    pub harmlessness: Vec<f64>,
    /// By the same.
    pub helpfulness: Vec<f64>,
    /// `1 − P(harm)` by the classifier.
    pub harm_prevention: Vec<f64>,
}

impl Revised {
    /// The scores of a report.
    ///
    /// # Errors
    ///
    /// When the prompts are not the mini world's.
    pub fn new(report: &CritiqueReport) -> Result<Self> {
        let unknown = "a study needs prompts of the mini world, whose truth is known";
        let truths: Vec<_> = report
            .rounds
            .iter()
            .map(|round| round.truth.as_ref().context(unknown))
            .collect::<Result<_>>()?;
        let harms = report.rounds.iter().filter_map(|round| Some(1.0 - round.harm?.mean));
        Ok(Self {
            harmlessness: truths.iter().map(|truth| truth.harmlessness.mean).collect(),
            helpfulness: truths.iter().map(|truth| truth.helpfulness.mean).collect(),
            harm_prevention: harms.collect(),
        })
    }
}

/// All that one seed gave.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SeedResults {
    /// The seed.
    pub seed: u64,
    /// Revisions, by what was compared.
    pub revised: BTreeMap<String, Revised>,
    /// Models in their order: name, and its measures by their keys.
    pub models: Vec<(String, BTreeMap<String, f64>)>,
}

impl SeedResults {
    /// What is kept of an evaluation, beside the revisions.
    pub fn new(seed: u64, revised: BTreeMap<String, Revised>, compared: &Results) -> Self {
        let models = compared.models.iter().map(|model| {
            let of = |measure: &Measure| {
                Some((measure.key().to_owned(), model.measures.get(measure)?.mean))
            };
            (model.name.clone(), MEASURES.iter().filter_map(of).collect())
        });
        Self { seed, revised, models: models.collect() }
    }

    /// A measure of a model.
    pub fn model(&self, name: &str, measure: Measure) -> Option<f64> {
        let (_, measures) = self.models.iter().find(|(other, _)| other == name)?;
        measures.get(measure.key()).copied()
    }
}
