//! The settings of the loop, under the names and with the defaults of TRL.

use serde::{Deserialize, Serialize};

use crate::optim::OptimizerName;
use crate::schedule::{LrSchedulerType, Schedule};
use crate::{Error, Result};

/// When something is done again and again.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IntervalStrategy {
    /// Never on the way.
    No,
    /// Every so many steps.
    #[default]
    Steps,
    /// After every pass over the training examples.
    Epoch,
}

/// Settings of a training run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainArgs {
    /// Peak learning rate.
    pub learning_rate: f64,
    /// The optimiser: adamw, rmsprop, adafactor, lion or muon.
    pub optim: OptimizerName,
    /// Shape of the learning rate: linear, cosine, cosine_with_min_lr, cosine_with_restarts,
    /// warmup_stable_decay, constant or constant_with_warmup.
    pub lr_scheduler_type: LrSchedulerType,
    /// Final share of the peak rate under cosine_with_min_lr.
    pub min_lr_rate: f64,
    /// Cosines of cosine_with_restarts.
    pub num_cycles: usize,
    /// Share of all steps over which warmup_stable_decay goes down, at the end.
    pub decay_ratio: f64,
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
    /// Decay of AdamW's first moment; Lion's weight of the momentum in an update.
    pub adam_beta1: f64,
    /// Decay of AdamW's second moment; of Lion's momentum.
    pub adam_beta2: f64,
    /// Term that keeps the denominator of AdamW and RMSprop from 0.
    pub adam_epsilon: f64,
    /// Decay of RMSprop's mean square.
    pub rmsprop_alpha: f64,
    /// Decay of Muon's momentum.
    pub muon_momentum: f64,
    /// Average the trained parameters over the steps with this decay (such as 0.99): the average is
    /// what is evaluated and what the run returns. Absent means none.
    pub ema_decay: Option<f64>,
    /// When to log: steps, epoch or no; the end of training is always logged.
    pub logging_strategy: IntervalStrategy,
    /// Steps between log entries.
    pub logging_steps: usize,
    /// Log the first step too.
    pub logging_first_step: bool,
    /// When to evaluate: steps, epoch or no. But for no, the end of training is always evaluated.
    pub eval_strategy: IntervalStrategy,
    /// Steps between evaluations; absent means at the end alone.
    pub eval_steps: Option<usize>,
    /// Evaluate before the first step too.
    pub eval_on_start: bool,
    /// When to save checkpoints: steps, epoch or no; the end of training is always saved.
    pub save_strategy: IntervalStrategy,
    /// Steps between checkpoints.
    pub save_steps: usize,
    /// Checkpoints kept; the oldest are deleted. None keeps all. The best one is kept beside them.
    pub save_total_limit: Option<usize>,
    /// The metric of held-out examples, such as eval_loss, that says which checkpoint is best.
    pub metric_for_best_model: Option<String>,
    /// Whether larger is better; absent means yes, unless the metric's name ends with loss.
    pub greater_is_better: Option<bool>,
    /// Return the parameters of the best evaluation, not the last ones. An evaluation that is the
    /// best so far is saved. Without metric_for_best_model: by eval_loss.
    pub load_best_model_at_end: bool,
    /// Stop after so many evaluations in a row that were no better than the best before them.
    pub early_stopping_patience: Option<usize>,
    /// How much better counts as better, for early stopping.
    pub early_stopping_threshold: f64,
    /// Where else the log goes.
    pub tracking: Tracking,
    /// Seed of everything random in training.
    pub seed: u64,
}

/// Trackers beside `metrics.jsonl` and the TensorBoard files.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tracking {
    /// Address of an MLflow tracking server, such as `http://127.0.0.1:5000`; absent means none.
    pub mlflow: Option<String>,
    /// MLflow's experiment; absent means `constitutional-ai`.
    pub experiment: Option<String>,
}

impl Default for TrainArgs {
    fn default() -> Self {
        Self {
            learning_rate: 2e-5,
            optim: OptimizerName::Adamw,
            lr_scheduler_type: LrSchedulerType::Linear,
            min_lr_rate: 0.1,
            num_cycles: 1,
            decay_ratio: 0.1,
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
            rmsprop_alpha: 0.99,
            muon_momentum: 0.95,
            ema_decay: None,
            logging_strategy: IntervalStrategy::Steps,
            logging_steps: 10,
            logging_first_step: false,
            eval_strategy: IntervalStrategy::Steps,
            eval_steps: None,
            eval_on_start: false,
            save_strategy: IntervalStrategy::Steps,
            save_steps: 500,
            save_total_limit: None,
            metric_for_best_model: None,
            greater_is_better: None,
            load_best_model_at_end: false,
            early_stopping_patience: None,
            early_stopping_threshold: 0.0,
            tracking: Tracking::default(),
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
            ("early_stopping_threshold", self.early_stopping_threshold),
        ];
        for (key, value) in not_negative {
            check(key, value.is_finite() && value >= 0.0, value, "a number of 0 or more")?;
        }
        let shares = [
            ("min_lr_rate", self.min_lr_rate),
            ("warmup_ratio", self.warmup_ratio),
            ("decay_ratio", self.decay_ratio),
        ];
        for (key, value) in shares {
            check(key, (0.0..=1.0).contains(&value), value, "a number from 0 to 1")?;
        }
        for (key, value) in [
            ("adam_beta1", self.adam_beta1),
            ("adam_beta2", self.adam_beta2),
            ("rmsprop_alpha", self.rmsprop_alpha),
            ("muon_momentum", self.muon_momentum),
            ("ema_decay", self.ema_decay.unwrap_or_default()),
        ] {
            check(key, (0.0..1.0).contains(&value), value, "a number from 0 to below 1")?;
        }
        let epsilon = self.adam_epsilon;
        check("adam_epsilon", epsilon.is_finite() && epsilon > 0.0, epsilon, "a number above 0")?;
        let counts = [
            ("per_device_train_batch_size", self.per_device_train_batch_size),
            ("gradient_accumulation_steps", self.gradient_accumulation_steps),
            ("num_cycles", self.num_cycles),
            ("logging_steps", self.logging_steps),
            ("early_stopping_patience", self.early_stopping_patience.unwrap_or(1)),
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
        check("lr_scheduler_type", !(constant && warms_up), "constant", advice)?;
        let never = match self.eval_strategy {
            IntervalStrategy::No => true,
            IntervalStrategy::Steps => self.eval_steps.is_none(),
            IntervalStrategy::Epoch => false,
        };
        let advice = "it with eval_steps or eval_strategy: epoch, which it compares";
        check(
            "early_stopping_patience",
            !(never && self.early_stopping_patience.is_some()),
            "set",
            advice,
        )?;
        check("load_best_model_at_end", !(never && self.load_best_model_at_end), true, advice)?;
        if let Some(metric) = &self.metric_for_best_model {
            let advice = "the name of a metric of held-out examples, which begins with eval_";
            check("metric_for_best_model", metric.starts_with("eval_"), metric, advice)?;
        }
        Ok(())
    }

    /// The metric by which evaluations are compared and whether larger is better; `None` if they
    /// are not.
    pub fn best_metric(&self) -> Option<(&str, bool)> {
        let compared = self.metric_for_best_model.is_some()
            || self.load_best_model_at_end
            || self.early_stopping_patience.is_some();
        let metric = self.metric_for_best_model.as_deref().unwrap_or("eval_loss");
        let greater = self.greater_is_better.unwrap_or(!metric.ends_with("loss"));
        compared.then_some((metric, greater))
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
            num_cycles: self.num_cycles,
            decay: (total as f64 * self.decay_ratio).ceil() as usize,
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
    fn what_is_compared_must_be_measured() {
        let stops = TrainArgs { early_stopping_patience: Some(2), ..Default::default() };
        assert!(stops.validate().unwrap_err().to_string().contains("early_stopping_patience"));
        let stops = TrainArgs { eval_strategy: IntervalStrategy::Epoch, ..stops };
        stops.validate().unwrap();
        assert_eq!(stops.best_metric(), Some(("eval_loss", false)));
        let metric_for_best_model = Some("eval_rewards/accuracies".to_owned());
        let best = TrainArgs { metric_for_best_model, ..Default::default() };
        assert_eq!(best.best_metric(), Some(("eval_rewards/accuracies", true)));
        assert_eq!(TrainArgs::default().best_metric(), None);
        let metric_for_best_model = Some("loss".to_owned());
        let bad = TrainArgs { metric_for_best_model, ..Default::default() };
        assert!(bad.validate().unwrap_err().to_string().contains("begins with eval_"));
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
