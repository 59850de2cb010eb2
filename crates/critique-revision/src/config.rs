//! The settings of critique and revision, and of AI feedback.

use cai_data::cutoff::OnTruncation;
use cai_data::overlay::over;
use cai_model::generate::SamplingConfig;
use serde::{Deserialize, Deserializer, Serialize};

use crate::{Error, Result};

/// Which principle a round goes by.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PrincipleChoice {
    /// Drawn by weight.
    #[default]
    Weighted,
    /// Drawn, each as often as the others (as in the paper).
    Uniform,
    /// Drawn by weight among those whose `risks` name the classifier's label of the answer in use;
    /// among all where none does, or without a classifier.
    Matched,
}

/// Settings of critique and revision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CritiqueConfig {
    /// Critiques and revisions of one answer at most; the paper has 4.
    pub rounds: usize,
    /// Which principle a round goes by: weighted, uniform or matched.
    pub principles: PrincipleChoice,
    /// Ask for revisions at once, without a critique before (section 3.5 of the paper).
    pub direct: bool,
    /// Examples of the constitution that stand before each critique and revision.
    pub few_shot: usize,
    /// Prompts of one block. Blocks are fixed, since matrix products of other sizes differ in the
    /// last digits.
    pub batch_size: usize,
    /// How the initial answer is sampled.
    pub initial: SamplingConfig,
    /// How critiques are sampled (temperature 0.7 unless set).
    #[serde(deserialize_with = "sampling_at_07")]
    pub critique: SamplingConfig,
    /// How revisions are sampled (temperature 0.7 unless set).
    #[serde(deserialize_with = "sampling_at_07")]
    pub revision: SamplingConfig,
    /// Decides principles and samples, together with a prompt's id.
    pub seed: u64,
    /// An answer that the classifier finds safe is not revised further. Without a classifier all
    /// rounds are run.
    pub stop_when_safe: bool,
    /// An answer is safe if the classifier's harm probability is below this.
    pub safe_threshold: f64,
    /// A safe answer must also decline, or it is revised further: for prompts that are all harmful.
    pub stop_needs_refusal: bool,
    /// Mend revisions that open with talk about themselves ("Here is a revised answer: …"). The
    /// record names the rule and keeps the text as it was.
    pub repair: bool,
    /// What becomes of answers and revisions that were cut off: drop, or trim_to_sentence, which the
    /// record names as a repair.
    pub on_truncation: OnTruncation,
}

/// Settings of AI feedback.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FeedbackConfig {
    /// Samples per prompt; every two different ones are compared.
    pub samples: usize,
    /// Principles by which two samples are compared, drawn without replacement; their probabilities
    /// are averaged.
    pub principles_per_pair: usize,
    /// How the samples are drawn.
    pub sampling: SamplingConfig,
    /// What becomes of samples that were cut off: drop or trim_to_sentence.
    pub on_truncation: OnTruncation,
    /// Let the feedback model reason before it chooses (chain of thought, section 4.1).
    pub chain_of_thought: bool,
    /// How the reasoning is sampled (temperature 0.7 unless set).
    #[serde(deserialize_with = "sampling_at_07")]
    pub reasoning: SamplingConfig,
    /// Pairs of lower confidence are dropped: 0 is undecided (probability 0.5), 1 is sure.
    pub min_confidence: f64,
    /// Keep pairs of probability 0.5, the first sample as the chosen one.
    pub keep_ties: bool,
    /// Bounds of the probability that goes into a pair. Absent: `[0.4, 0.6]` with chain of thought,
    /// as in the paper (section 4.1), and none without.
    pub clamp: Option<[f64; 2]>,
    /// Prompts of one block, and rows of one batch.
    pub batch_size: usize,
    /// Decides principles and samples, together with a prompt's id.
    pub seed: u64,
}

fn at_07() -> SamplingConfig {
    SamplingConfig { temperature: 0.7, ..SamplingConfig::default() }
}

/// Keys that are absent keep the value that they have in [`at_07`].
fn sampling_at_07<'de, D: Deserializer<'de>>(
    given: D,
) -> std::result::Result<SamplingConfig, D::Error> {
    over(&at_07(), given)
}

impl Default for CritiqueConfig {
    fn default() -> Self {
        Self {
            rounds: 2,
            principles: PrincipleChoice::default(),
            direct: false,
            few_shot: 0,
            batch_size: 32,
            initial: SamplingConfig::default(),
            critique: at_07(),
            revision: at_07(),
            seed: 42,
            stop_when_safe: true,
            safe_threshold: 0.5,
            stop_needs_refusal: false,
            repair: true,
            on_truncation: OnTruncation::default(),
        }
    }
}

impl Default for FeedbackConfig {
    fn default() -> Self {
        Self {
            samples: 2,
            principles_per_pair: 4,
            sampling: SamplingConfig::default(),
            on_truncation: OnTruncation::default(),
            chain_of_thought: false,
            reasoning: at_07(),
            min_confidence: 0.0,
            keep_ties: false,
            clamp: None,
            batch_size: 32,
            seed: 42,
        }
    }
}

impl CritiqueConfig {
    /// # Errors
    ///
    /// [`Error::Setting`] that names the key.
    pub fn check(&self) -> Result<()> {
        at_least("rounds", self.rounds, 1)?;
        at_least("batch_size", self.batch_size, 1)?;
        sampling("initial", &self.initial)?;
        sampling("critique", &self.critique)?;
        sampling("revision", &self.revision)?;
        within("safe_threshold", self.safe_threshold, (0.0..=1.0).contains(&self.safe_threshold))
    }
}

impl FeedbackConfig {
    /// # Errors
    ///
    /// [`Error::Setting`] that names the key.
    pub fn check(&self) -> Result<()> {
        at_least("samples", self.samples, 2)?;
        at_least("principles_per_pair", self.principles_per_pair, 1)?;
        at_least("batch_size", self.batch_size, 1)?;
        sampling("sampling", &self.sampling)?;
        sampling("reasoning", &self.reasoning)?;
        within("min_confidence", self.min_confidence, (0.0..=1.0).contains(&self.min_confidence))?;
        if let Some([low, high]) = self.clamp
            && !(0.0..=0.5).contains(&low) | !(0.5..=1.0).contains(&high)
        {
            let reason = format!(
                "is [{low}, {high}]; use a lower bound from 0 to 0.5 and an upper from 0.5 to 1"
            );
            return Err(Error::Setting { key: "clamp", reason });
        }
        Ok(())
    }

    /// The settings that decide the records, without those that only use them.
    pub(crate) fn of_records(&self) -> Self {
        let Self { min_confidence, keep_ties, clamp, .. } = Self::default();
        Self { min_confidence, keep_ties, clamp, ..self.clone() }
    }

    /// The bounds of a pair's probability.
    pub(crate) fn bounds(&self) -> [f64; 2] {
        let reasoned = if self.chain_of_thought { [0.4, 0.6] } else { [0.0, 1.0] };
        self.clamp.unwrap_or(reasoned)
    }
}

fn at_least(key: &'static str, value: usize, least: usize) -> Result<()> {
    if value >= least {
        return Ok(());
    }
    Err(Error::Setting { key, reason: format!("is {value}; must be at least {least}") })
}

fn within(key: &'static str, value: f64, holds: bool) -> Result<()> {
    if holds {
        return Ok(());
    }
    Err(Error::Setting { key, reason: format!("is {value}; use a share from 0 to 1") })
}

fn sampling(key: &'static str, settings: &SamplingConfig) -> Result<()> {
    settings.check().map_err(|error| Error::Setting { key, reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_the_sampling_settings_keeps_the_stages_own_defaults() {
        let yaml = "critique: {max_new_tokens: 8}\nrevision: {temperature: 0.2}\nrounds: 4";
        let config: CritiqueConfig = serde_yaml::from_str(yaml).unwrap();
        assert_eq!((config.critique.max_new_tokens, config.critique.temperature), (8, 0.7));
        assert_eq!((config.revision.max_new_tokens, config.revision.temperature), (256, 0.2));
        assert_eq!((config.rounds, config.initial.temperature), (4, 1.0));
        let unknown = serde_yaml::from_str::<CritiqueConfig>("critique: {temprature: 1}");
        assert!(unknown.unwrap_err().to_string().contains("temprature"));
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let error = CritiqueConfig { rounds: 0, ..Default::default() }.check().unwrap_err();
        assert!(error.to_string().starts_with("rounds:"), "{error}");
        let error = CritiqueConfig { safe_threshold: 1.5, ..Default::default() }.check();
        assert!(error.unwrap_err().to_string().starts_with("safe_threshold:"));
        let clamp = Some([0.6, 0.7]);
        let error = FeedbackConfig { clamp, ..Default::default() }.check().unwrap_err();
        assert!(error.to_string().starts_with("clamp:"), "{error}");
        CritiqueConfig::default().check().unwrap();
        FeedbackConfig::default().check().unwrap();
    }
}
