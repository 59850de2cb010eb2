use std::collections::BTreeMap;

use cai_train::LogEntry;
use serde::{Deserialize, Serialize};

/// What supervised fine-tuning did. Holds no times, so that the same run writes the same bytes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SftReport {
    /// Records read.
    pub records: usize,
    /// Examples trained on.
    pub trained: usize,
    /// Examples held out.
    pub held_out: usize,
    /// Records left out, by reason.
    pub left_out: BTreeMap<String, usize>,
    /// Records that lost their end.
    pub truncated: usize,
    /// Trainable numbers.
    pub trainable_parameters: usize,
    /// Trainable numbers as a share of all, in percent.
    pub trainable_percent: f64,
    /// Optimiser steps.
    pub steps: usize,
    /// Held-out loss before training.
    pub eval_loss_start: Option<f64>,
    /// Held-out loss at the end.
    pub eval_loss_end: Option<f64>,
    /// All that was logged.
    pub log_history: Vec<LogEntry>,
}
