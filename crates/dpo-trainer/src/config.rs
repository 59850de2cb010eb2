use cai_data::overlay::over;
use cai_train::TrainArgs;
use serde::{Deserialize, Deserializer, Serialize};

use crate::{Error, Result};

/// Which loss is taken on a pair's margin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossType {
    /// `−log σ(margin)` (arXiv 2305.18290, equation 7).
    Sigmoid,
}

/// What the policy is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReferenceModel {
    /// A frozen copy of the model that the policy starts from.
    Start,
    /// The base alone, its adapter off.
    Base,
}

/// Settings of direct preference optimisation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DpoConfig {
    /// How closely the policy is held to the reference; larger is closer.
    pub beta: f64,
    /// The loss: sigmoid.
    pub loss_type: LossType,
    /// Take a pair's `chosen_probability` as the probability that the chosen completion is the
    /// better one; without it, or if false, that is 1.
    pub soft_labels: bool,
    /// Leave out pairs whose `chosen_probability` is closer to one half than this.
    pub min_confidence: f64,
    /// What the policy is compared with: start or base.
    pub reference: ReferenceModel,
    /// The loop. Keys that are not given are those of [`DpoConfig::default`].
    #[serde(deserialize_with = "train_args")]
    pub train: TrainArgs,
    /// Keep only each layer's input in the forward pass and run the layers again in the backward
    /// pass: the memory of one layer's activations, for about a third more time.
    pub gradient_checkpointing: bool,
    /// Longest prompt with completion in tokens; longer ones lose their end.
    pub max_length: usize,
    /// Share of prompts whose pairs are kept out of training and evaluated.
    pub held_out: f64,
}

impl Default for DpoConfig {
    fn default() -> Self {
        Self {
            beta: 0.1,
            loss_type: LossType::Sigmoid,
            soft_labels: true,
            min_confidence: 0.0,
            reference: ReferenceModel::Start,
            train: default_train_args(),
            gradient_checkpointing: false,
            max_length: 1024,
            held_out: 0.1,
        }
    }
}

/// TRL's for DPO, with the loss before the first update in the log.
fn default_train_args() -> TrainArgs {
    TrainArgs {
        learning_rate: 1e-6,
        logging_first_step: true,
        eval_on_start: true,
        ..TrainArgs::default()
    }
}

/// Reads the keys that are given over those of [`default_train_args`], which differ from
/// `TrainArgs`'s own defaults.
fn train_args<'de, D: Deserializer<'de>>(given: D) -> std::result::Result<TrainArgs, D::Error> {
    over(&default_train_args(), given)
}

impl DpoConfig {
    /// # Errors
    ///
    /// [`Error::Setting`] that names the key.
    pub fn check(&self) -> Result<()> {
        let check = |key, good: bool, value: String, wanted: &str| match good {
            true => Ok(()),
            false => Err(Error::Setting { key, reason: format!("is {value}; use {wanted}") }),
        };
        let beta = self.beta;
        check("beta", beta.is_finite() && beta > 0.0, beta.to_string(), "a number above 0")?;
        let confidence = self.min_confidence;
        let good = (0.0..=0.5).contains(&confidence);
        check("min_confidence", good, confidence.to_string(), "a number from 0 to 0.5")?;
        let good = (0.0..1.0).contains(&self.held_out);
        check("held_out", good, self.held_out.to_string(), "a share from 0 to below 1")?;
        check("max_length", self.max_length > 1, self.max_length.to_string(), "2 or more")?;
        Ok(self.train.validate()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_kept_where_the_loop_is_given_in_part() {
        let config: DpoConfig =
            serde_yaml::from_str("beta: 0.2\ntrain:\n  num_train_epochs: 1\n").unwrap();
        assert_eq!(config.train.learning_rate, 1e-6);
        assert!(config.train.eval_on_start);
        assert_eq!(config.train.num_train_epochs, 1.0);
        let text = serde_yaml::to_string(&config).unwrap();
        assert_eq!(serde_yaml::from_str::<DpoConfig>(&text).unwrap(), config);
        config.check().unwrap();
    }

    #[test]
    fn unknown_keys_and_names_are_errors() {
        for text in ["bta: 1", "train: {learning_rat: 1}", "loss_type: hinge", "reference: none"] {
            let error = serde_yaml::from_str::<DpoConfig>(text).unwrap_err().to_string();
            assert!(error.contains("unknown"), "{error}");
        }
    }

    #[test]
    fn bad_settings_are_named() {
        let bad = DpoConfig { min_confidence: 0.7, ..DpoConfig::default() };
        assert!(bad.check().unwrap_err().to_string().starts_with("min_confidence: is 0.7"));
        let bad = DpoConfig { beta: 0.0, ..DpoConfig::default() };
        assert!(bad.check().unwrap_err().to_string().starts_with("beta: is 0;"));
    }
}
