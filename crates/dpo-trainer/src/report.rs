use std::collections::BTreeMap;

use cai_train::{LogEntry, TrainReport};
use serde::{Deserialize, Serialize};

use crate::{Pair, Prepared, ReferenceModel};

/// Held-out loss and accuracy, before and after training. Absent where nothing was held out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HeldOutScores {
    /// Held-out pairs.
    pub pairs: usize,
    /// Loss before the first update: ln 2 if the reference is the start model.
    pub loss_start: Option<f64>,
    /// Loss at the end.
    pub loss_end: Option<f64>,
    /// Share of pairs with a positive margin before the first update: 0 if the reference is the
    /// start model, because then all are ties.
    pub accuracy_start: Option<f64>,
    /// Share of pairs with a positive margin at the end.
    pub accuracy_end: Option<f64>,
    /// Mean margin of the rewards at the end.
    pub margin_end: Option<f64>,
}

impl HeldOutScores {
    /// Those of the metrics whose names begin with `prefix`.
    fn of(trained: &TrainReport, pairs: usize, prefix: &str) -> Self {
        let name = |metric: &str| format!("eval_{prefix}{metric}");
        let start = |metric: &str| trained.at(0, &name(metric));
        let end = |metric: &str| trained.at(trained.model_step, &name(metric));
        Self {
            pairs,
            loss_start: start("loss"),
            loss_end: end("loss"),
            accuracy_start: start("rewards/accuracies"),
            accuracy_end: end("rewards/accuracies"),
            margin_end: end("rewards/margins"),
        }
    }
}

/// What preference training did. Holds no times, so that the same run writes the same bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DpoReport {
    /// Records read.
    pub records: usize,
    /// Pairs trained on.
    pub trained: usize,
    /// Pairs held out.
    pub held_out: usize,
    /// Records left out, by reason.
    pub left_out: BTreeMap<String, usize>,
    /// Pairs of which a completion lost its end.
    pub truncated: usize,
    /// What the policy was compared with.
    pub reference: ReferenceModel,
    /// How closely the policy was held to the reference.
    pub beta: f64,
    /// Trainable numbers.
    pub trainable_parameters: usize,
    /// Trainable numbers as a share of all, in percent.
    pub trainable_percent: f64,
    /// Optimiser steps.
    pub steps: usize,
    /// Training loss of the first step, before any update: ln 2 (times the pairs' mean weight) if
    /// the reference is the start model. Absent if the first step was not logged by itself.
    pub first_loss: Option<f64>,
    /// All held-out pairs.
    pub eval: HeldOutScores,
    /// Held-out pairs by source, if they name one.
    pub eval_by_source: BTreeMap<String, HeldOutScores>,
    /// All that was logged.
    pub log_history: Vec<LogEntry>,
}

impl DpoReport {
    pub(crate) fn new(
        prepared: Prepared,
        trained: TrainReport,
        parameters: usize,
        reference: ReferenceModel,
        beta: f64,
    ) -> Self {
        let count = |of: &dyn Fn(&Pair) -> bool| prepared.held_out.iter().filter(|p| of(p)).count();
        let scores = |source: &String| {
            let pairs = count(&|pair| pair.source.as_ref() == Some(source));
            (source.clone(), HeldOutScores::of(&trained, pairs, &format!("{source}_")))
        };
        let eval_by_source =
            prepared.held_out.iter().filter_map(|p| p.source.as_ref()).map(scores).collect();
        let trainable = trained.trainable_parameters;
        Self {
            records: prepared.total,
            trained: prepared.train.len(),
            held_out: prepared.held_out.len(),
            left_out: prepared.left_out,
            truncated: prepared.truncated,
            reference,
            beta,
            trainable_parameters: trainable,
            trainable_percent: 100.0 * trainable as f64 / (parameters + trainable) as f64,
            steps: trained.steps,
            first_loss: trained.at(1, "loss"),
            eval: HeldOutScores::of(&trained, prepared.held_out.len(), ""),
            eval_by_source,
            log_history: trained.log_history,
        }
    }
}
