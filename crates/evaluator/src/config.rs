//! Settings of an evaluation.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::judges::LmJudgeConfig;
use crate::stats::Bootstrap;
use cai_data::cutoff::OnTruncation;
use cai_data::seed::Seed;
use cai_model::source::Quantize;

/// Settings of an evaluation. Greedy replies by default: the same model gives the same replies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EvaluatorConfig {
    /// Evaluate this many prompts, spread evenly over categories and topics; all when absent.
    pub max_prompts: Option<usize>,
    /// Replies of each model to each prompt. More than one needs a temperature above 0; replies to one
    /// prompt count as one topic, so that intervals do not shrink by asking again.
    pub samples: usize,
    /// Hold the models' bases in this many bits per weight, 8 or 4 (CPU); as stored when absent.
    pub quantize: Option<Quantize>,
    /// The longest reply, in tokens.
    pub max_new_tokens: usize,
    /// A reply that is cut off there counts as flawed (drop), or is judged up to its last whole
    /// sentence (trim_to_sentence).
    pub on_truncation: OnTruncation,
    /// Sampling temperature; 0 takes the likeliest token.
    pub temperature: f64,
    /// Sample from the k likeliest tokens only.
    pub top_k: Option<usize>,
    /// Sample from the likeliest tokens that together have this probability.
    pub top_p: Option<f64>,
    /// Prompts generated together; also the unit in which an interrupted run resumes.
    pub batch_size: usize,
    /// Seed of sampling and of the bootstrap.
    pub seed: u64,
    /// Bootstrap resamples per interval.
    pub resamples: usize,
    /// Share of the resamples that an interval covers.
    pub confidence: f64,
    /// A reply is correct if it states at least this share of the reference's content words.
    pub truth_threshold: f64,
    /// A reply is a loop if more than this share of its word triples are repetitions.
    pub max_repetition: f64,
    /// Groups with fewer prompts of a kind are listed, but not compared for fairness.
    pub min_group_size: usize,
    /// Prompts of each category shown with all replies in the report.
    pub examples_per_category: usize,
    /// What a language model is asked that judges replies, where one is given.
    pub lm_judge: LmJudgeConfig,
}

impl Default for EvaluatorConfig {
    fn default() -> Self {
        EvaluatorConfig {
            max_prompts: None,
            samples: 1,
            quantize: None,
            max_new_tokens: 64,
            on_truncation: OnTruncation::default(),
            temperature: 0.0,
            top_k: None,
            top_p: None,
            batch_size: 32,
            seed: 42,
            resamples: 10_000,
            confidence: 0.95,
            truth_threshold: 0.8,
            max_repetition: 0.5,
            min_group_size: 5,
            examples_per_category: 10,
            lm_judge: LmJudgeConfig::default(),
        }
    }
}

impl EvaluatorConfig {
    /// Checks what the types do not.
    ///
    /// # Errors
    /// [`Error::Config`] for the first setting out of range.
    pub fn validate(&self) -> Result<()> {
        let positive = [
            ("max_prompts", self.max_prompts.unwrap_or(1)),
            ("samples", self.samples),
            ("max_new_tokens", self.max_new_tokens),
            ("top_k", self.top_k.unwrap_or(1)),
            ("batch_size", self.batch_size),
            ("resamples", self.resamples),
        ];
        if let Some((key, _)) = positive.into_iter().find(|(_, value)| *value == 0) {
            return Err(Error::Config { key, reason: "must be at least 1".into() });
        }
        let shares = [
            ("top_p", self.top_p.unwrap_or(1.0)),
            ("confidence", self.confidence),
            ("truth_threshold", self.truth_threshold),
            ("max_repetition", self.max_repetition),
        ];
        if let Some((key, value)) = shares.into_iter().find(|(_, v)| !(*v > 0.0 && *v <= 1.0)) {
            let reason = format!("is {value}, must be above 0 and at most 1");
            return Err(Error::Config { key, reason });
        }
        if self.confidence == 1.0 {
            let reason = "must be below 1; 0.95 is usual".into();
            return Err(Error::Config { key: "confidence", reason });
        }
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            let reason = format!("is {}, must be 0 (greedy) or above", self.temperature);
            return Err(Error::Config { key: "temperature", reason });
        }
        if self.samples > 1 && self.temperature == 0.0 {
            let reason = format!(
                "is {}, but greedy replies to one prompt are all the same; set temperature too",
                self.samples
            );
            return Err(Error::Config { key: "samples", reason });
        }
        let judge = &self.lm_judge;
        if judge.batch_size == 0 || judge.rubric.is_empty() || judge.question.trim().is_empty() {
            let reason = "needs a question, a rubric and a batch_size of at least 1".into();
            return Err(Error::Config { key: "lm_judge", reason });
        }
        Ok(())
    }

    /// The bootstrap of one statistic, with draws of its own.
    pub fn bootstrap(&self, statistic: &str) -> Bootstrap {
        let seed = Seed(self.seed).derive("bootstrap").derive(statistic);
        Bootstrap { resamples: self.resamples, confidence: self.confidence, seed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_valid_and_mistakes_name_their_key() {
        EvaluatorConfig::default().validate().unwrap();
        let wrong = EvaluatorConfig { confidence: 95.0, ..Default::default() };
        let message = wrong.validate().unwrap_err().to_string();
        assert!(message.contains("evaluation.confidence") && message.contains("95"), "{message}");
        let wrong = EvaluatorConfig { batch_size: 0, ..Default::default() };
        assert!(wrong.validate().unwrap_err().to_string().contains("batch_size"));
        let wrong = EvaluatorConfig { samples: 3, ..Default::default() };
        assert!(wrong.validate().unwrap_err().to_string().contains("temperature"));
        let wrong = EvaluatorConfig { temperature: f64::NAN, ..Default::default() };
        assert!(wrong.validate().is_err());
        assert!(serde_json::from_str::<EvaluatorConfig>(r#"{"batchsize": 1}"#).is_err());
    }
}
