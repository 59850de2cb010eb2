//! Training from the first check to the report; the loop itself is in `session.rs`.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use burn::module::Module;
use serde::Serialize;
use serde_json::Value;

use crate::batches::Batches;
use crate::session::Session;
use crate::tracker::RunStatus;
use crate::{Error, Objective, Result, TrainArgs, TrainReport, checkpoint, params};

/// Where a run lives and what it is a run of.
#[derive(Clone, Debug)]
pub struct RunDir {
    /// Folder of checkpoints, `metrics.jsonl` and `tensorboard/`. Nothing else of the stage's may
    /// be named `checkpoint-…` in it.
    pub dir: PathBuf,
    /// Hash of the examples, the start model and whatever else decides the result beside the
    /// settings. A run with another one is not resumed.
    pub fingerprint: String,
    /// What the progress bar is called.
    pub label: String,
    /// The settings of the stage, for trackers; those of the loop where it gives none.
    pub config: Value,
}

impl RunDir {
    /// A run in `dir`, named "train".
    pub fn new(dir: impl Into<PathBuf>, fingerprint: impl Into<String>) -> Self {
        Self {
            dir: dir.into(),
            fingerprint: fingerprint.into(),
            label: "train".into(),
            config: Value::Null,
        }
    }

    /// The same run under another name.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// The same run with the settings of its stage.
    pub fn config(mut self, config: &impl Serialize) -> Self {
        self.config = serde_json::to_value(config).unwrap_or_default();
        self
    }
}

/// Trains `model` on `objective` and returns it without autodiff, with a report.
///
/// Resumes from the newest checkpoint in the folder of `run`, if there is one: killed at any moment
/// and called again with the same arguments, it ends with the same parameters, bit for bit. A run
/// that is complete returns its model at once.
///
/// # Errors
///
/// [`Error`]; whatever it is, checkpoints that are complete stay.
pub fn train<M: Module, O: Objective<M> + ?Sized>(
    model: M,
    objective: &O,
    args: &TrainArgs,
    run: &RunDir,
) -> Result<(M, TrainReport)> {
    let start = Instant::now();
    args.validate()?;
    let mut batches = batches(objective, args)?;
    let total = args.total_steps(batches.steps_per_epoch());
    check_weights(objective, &mut batches, total)?;

    let model = model.train();
    let trainable_parameters = params::trainable(&model)?.into_iter().map(|(_, size)| size).sum();
    fs::create_dir_all(&run.dir).map_err(Error::io(&run.dir))?;
    checkpoint::clean(&run.dir)?;
    let mut session = Session::open(model, args, run, total, batches.steps_per_epoch())?;
    let resumed_from = Some(session.state.global_step).filter(|&step| step > 0);
    let result = session.run(objective, &mut batches);
    session.trackers.finish(match &result {
        Ok(()) => RunStatus::Finished,
        Err(Error::Interrupted { .. }) => RunStatus::Killed,
        Err(_) => RunStatus::Failed,
    });
    result?;

    let model = session.result()?;
    let session_step = session.result_step();
    let state = session.state;
    let report = TrainReport {
        steps: state.global_step,
        best_step: state.best_global_step,
        model_step: session_step,
        stopped_early: state.stopped_early,
        tokens: state.num_input_tokens_seen,
        trainable_parameters,
        metrics: state.log_history.iter().flat_map(|entry| entry.metrics.clone()).collect(),
        log_history: state.log_history,
        resumed_from,
        seconds: start.elapsed().as_secs_f64(),
    };
    Ok((model, report))
}

fn batches<M: Module, O: Objective<M> + ?Sized>(
    objective: &O,
    args: &TrainArgs,
) -> Result<Batches> {
    let lengths = objective.lengths();
    if lengths.len() != objective.len() {
        return Err(Error::Lengths { len: objective.len(), lengths: lengths.len() });
    }
    Batches::new(lengths, args)
}

/// Finds a step that has nothing to average over before any time is spent on training.
fn check_weights<M: Module, O: Objective<M> + ?Sized>(
    objective: &O,
    batches: &mut Batches,
    total: usize,
) -> Result<()> {
    for step in 0..total {
        let micro_batches = batches.step(step);
        let weight = weight(objective, micro_batches);
        if !(weight.is_finite() && weight > 0.0) {
            return Err(Error::Weight { step: step + 1, items: micro_batches.concat(), weight });
        }
    }
    Ok(())
}

pub(crate) fn weight<M: Module, O: Objective<M> + ?Sized>(
    objective: &O,
    micro_batches: &[Vec<usize>],
) -> f64 {
    micro_batches.iter().map(|items| objective.weight(items)).sum()
}
