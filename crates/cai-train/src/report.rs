//! What a training run hands back.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::LogEntry;

/// The result of [`train`](crate::train).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TrainReport {
    /// Optimiser steps of the whole run, resumed ones included.
    pub steps: usize,
    /// The step of the best evaluation, where evaluations are compared.
    pub best_step: Option<usize>,
    /// The step whose parameters the run returned: the last one, or the best one where
    /// `load_best_model_at_end` is set.
    pub model_step: usize,
    /// Whether it stopped before its last step, because it no longer got better.
    pub stopped_early: bool,
    /// Input tokens seen in the whole run.
    pub tokens: u64,
    /// Number of trainable scalars.
    pub trainable_parameters: usize,
    /// The last logged value of each metric; evaluation ones begin with `eval_`.
    pub metrics: BTreeMap<String, f64>,
    /// All that was logged, oldest first.
    pub log_history: Vec<LogEntry>,
    /// The step that this session resumed from.
    pub resumed_from: Option<usize>,
    /// Wall-clock seconds of this session. Differs from run to run: keep it out of outputs that
    /// must be reproducible.
    pub seconds: f64,
}

impl TrainReport {
    /// The first logged value of `metric`.
    pub fn first(&self, metric: &str) -> Option<f64> {
        self.log_history.iter().find_map(|entry| entry.metrics.get(metric).copied())
    }

    /// The value of `metric` that was logged at `step`, the later one if there are two.
    pub fn at(&self, step: usize, metric: &str) -> Option<f64> {
        let entries = self.log_history.iter().filter(|entry| entry.step == step);
        entries.filter_map(|entry| entry.metrics.get(metric).copied()).next_back()
    }

    /// The last logged value of `metric`.
    pub fn last(&self, metric: &str) -> Option<f64> {
        self.metrics.get(metric).copied()
    }
}
