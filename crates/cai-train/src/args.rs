//! The settings of the loop, under the names and with the defaults of TRL.

use serde::{Deserialize, Serialize};

use crate::schedule::{LrSchedulerType, Schedule};
use crate::{Error, Result};

/// Settings of a training run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainArgs {
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Shape of the learning rate: linear, cosine, cosine_with_min_lr, constant or
    /// constant_with_warmup.
    pub lr_scheduler_type: LrSchedulerType,
    /// Final share of the peak rate under cosine_with_min_lr.
    pub min_lr_rate: f64,
    /// Steps of linear warm-up; if above 0, warmup_ratio is not used.
    pub warmup_steps: usize,
    /// Warm-up as a share of all steps, rounded up.
    pub warmup_ratio: f64,
    /// Passes over the training examples; may be a fraction.
    pub num_train_epochs: f64,
    /// Optimiser steps; -1 means as many as num_train_epochs needs.
    pub max_steps: i64,
    /// Examples per micro-batch.
    pub per_device_train_batch_size: usize,
    /// Micro-batches per optimiser step.
    pub gradient_accumulation_steps: usize,
    /// Put examples of similar length into the same micro-batch.
    pub group_by_length: bool,
    /// Largest global gradient norm; longer gradients are scaled down. 0 means no clipping.
    pub max_grad_norm: f64,
    /// Decoupled weight decay of parameters with at least two dimensions.
    pub weight_decay: f64,
    /// Decay of AdamW's first moment.
    pub adam_beta1: f64,
    /// Decay of AdamW's second moment.
    pub adam_beta2: f64,
    /// Term that keeps AdamW's denominator from 0.
    pub adam_epsilon: f64,
    /// Steps between log entries.
    pub logging_steps: usize,
    /// Log the first step too.
    pub logging_first_step: bool,
    /// Steps between evaluations; the end of training is always evaluated.
    pub eval_steps: Option<usize>,
    /// Evaluate before the first step too.
    pub eval_on_start: bool,
    /// Steps between checkpoints; the end of training is always saved.
    pub save_steps: usize,
    /// Checkpoints kept; the oldest are deleted. None keeps all.
    pub save_total_limit: Option<usize>,
    /// Seed of everything random in training.
    pub seed: u64,
}

impl Default for TrainArgs {
    fn default() -> Self {
        Self {
            learning_rate: 2e-5,
            lr_scheduler_type: LrSchedulerType::Linear,
            min_lr_rate: 0.1,
            warmup_steps: 0,
            warmup_ratio: 0.0,
            num_train_epochs: 3.0,
            max_steps: -1,
            per_device_train_batch_size: 8,
            gradient_accumulation_steps: 1,
            group_by_length: true,
            max_grad_norm: 1.0,
            weight_decay: 0.0,
            adam_beta1: 0.9,
            adam_beta2: 0.999,
            adam_epsilon: 1e-8,
            logging_steps: 10,
            logging_first_step: false,
            eval_steps: None,
            eval_on_start: false,
            save_steps: 500,
            save_total_limit: None,
            seed: 42,
        }
    }
}

impl TrainArgs {
    /// Checks what serde cannot.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] that names the key.
    pub fn validate(&self) -> Result<()> {
        let not_negative = [
            ("learning_rate", self.learning_rate),
            ("max_grad_norm", self.max_grad_norm),
            ("weight_decay", self.weight_decay),
        ];
        for (key, value) in not_negative {
            check(key, value.is_finite() && value >= 0.0, value, "a number of 0 or more")?;
        }
        let shares = [("min_lr_rate", self.min_lr_rate), ("warmup_ratio", self.warmup_ratio)];
        for (key, value) in shares {
            check(key, (0.0..=1.0).contains(&value), value, "a number from 0 to 1")?;
        }
        for (key, value) in [("adam_beta1", self.adam_beta1), ("adam_beta2", self.adam_beta2)] {
            check(key, (0.0..1.0).contains(&value), value, "a number from 0 to below 1")?;
        }
        let epsilon = self.adam_epsilon;
        check("adam_epsilon", epsilon.is_finite() && epsilon > 0.0, epsilon, "a number above 0")?;
        let counts = [
            ("per_device_train_batch_size", self.per_device_train_batch_size),
            ("gradient_accumulation_steps", self.gradient_accumulation_steps),
            ("logging_steps", self.logging_steps),
            ("eval_steps", self.eval_steps.unwrap_or(1)),
            ("save_steps", self.save_steps),
            ("save_total_limit", self.save_total_limit.unwrap_or(1)),
        ];
        for (key, value) in counts {
            check(key, value > 0, value, "1 or more")?;
        }
        check(
            "max_steps",
            self.max_steps == -1 || self.max_steps > 0,
            self.max_steps,
            "-1 or above 0",
        )?;
        let epochs = self.num_train_epochs;
        let used = self.max_steps == -1;
        let good = !used || (epochs.is_finite() && epochs > 0.0);
        check("num_train_epochs", good, epochs, "a number above 0")?;
        let warms_up = self.warmup_steps > 0 || self.warmup_ratio > 0.0;
        let constant = self.lr_scheduler_type == LrSchedulerType::Constant;
        let advice = "constant_with_warmup, because a warm-up is set";
        check("lr_scheduler_type", !(constant && warms_up), "constant", advice)
    }

    /// Optimiser steps of a run with `steps_per_epoch`.
    pub fn total_steps(&self, steps_per_epoch: usize) -> usize {
        match usize::try_from(self.max_steps) {
            Ok(steps) => steps,
            Err(_) => (self.num_train_epochs * steps_per_epoch as f64).ceil() as usize,
        }
    }

    /// The learning rates of a run of `total` steps.
    pub fn schedule(&self, total: usize) -> Schedule {
        let warmup = match self.warmup_steps {
            0 => (total as f64 * self.warmup_ratio).ceil() as usize,
            steps => steps,
        };
        Schedule {
            kind: self.lr_scheduler_type,
            peak: self.learning_rate,
            warmup,
            total,
            min_lr_rate: self.min_lr_rate,
        }
    }
}

fn check(key: &'static str, good: bool, value: impl ToString, wanted: &str) -> Result<()> {
    if good {
        return Ok(());
    }
    Err(Error::Setting { key, reason: format!("is {}; use {wanted}", value.to_string()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_bad_settings_are_named() {
        TrainArgs::default().validate().unwrap();
        let bad = TrainArgs { adam_beta2: 1.0, ..Default::default() };
        assert!(bad.validate().unwrap_err().to_string().contains("adam_beta2: is 1"));
        let kind = LrSchedulerType::Constant;
        let bad = TrainArgs { lr_scheduler_type: kind, warmup_steps: 1, ..Default::default() };
        assert!(bad.validate().unwrap_err().to_string().contains("constant_with_warmup"));
        let bad = TrainArgs { max_steps: 0, ..Default::default() };
        assert!(bad.validate().is_err());
    }

    #[test]
    fn unknown_keys_are_errors() {
        assert!(serde_json::from_str::<TrainArgs>(r#"{"learning_rat": 1}"#).is_err());
    }

    #[test]
    fn steps_come_from_epochs_unless_given() {
        let args = TrainArgs { num_train_epochs: 0.5, warmup_ratio: 0.1, ..Default::default() };
        assert_eq!(args.total_steps(7), 4);
        assert_eq!(args.schedule(11).warmup, 2);
        let args = TrainArgs { max_steps: 3, ..args };
        assert_eq!(args.total_steps(7), 3);
    }
}
