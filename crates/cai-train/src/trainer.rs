//! The loop.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::module::Module;
use cai_data::seed::Seed;

use crate::batches::Batches;
use crate::checkpoint::{self, Checkpoint, TrainerState};
use crate::optim::AdamW;
use crate::params::{self, Gradients};
use crate::schedule::Schedule;
use crate::tracker::Trackers;
use crate::{
    Error, LogEntry, Metrics, Objective, ObjectiveError, Progress, Result, StepLoss, TrainArgs,
    TrainReport, Verbosity, interrupt,
};

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
}

impl RunDir {
    /// A run in `dir`, named "train".
    pub fn new(dir: impl Into<PathBuf>, fingerprint: impl Into<String>) -> Self {
        Self { dir: dir.into(), fingerprint: fingerprint.into(), label: "train".into() }
    }

    /// The same run under another name.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
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
    let mut session = Session::open(model, args, run, total)?;
    let resumed_from = Some(session.state.global_step).filter(|&step| step > 0);
    session.run(objective, &mut batches)?;

    let state = session.state;
    let report = TrainReport {
        steps: state.global_step,
        tokens: state.num_input_tokens_seen,
        trainable_parameters,
        metrics: state.log_history.iter().flat_map(|entry| entry.metrics.clone()).collect(),
        log_history: state.log_history,
        resumed_from,
        seconds: start.elapsed().as_secs_f64(),
    };
    Ok((session.model.valid(), report))
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

fn weight<M: Module, O: Objective<M> + ?Sized>(objective: &O, micro_batches: &[Vec<usize>]) -> f64 {
    micro_batches.iter().map(|items| objective.weight(items)).sum()
}

/// A run in progress.
struct Session<'a, M> {
    model: M,
    optimizer: AdamW,
    state: TrainerState,
    args: &'a TrainArgs,
    schedule: Schedule,
    dir: &'a Path,
    trackers: Trackers,
    progress: Progress,
}

/// What the last step was like, for the log.
#[derive(Copy, Clone)]
struct StepStats {
    grad_norm: f64,
    learning_rate: f64,
}

impl<'a, M: Module> Session<'a, M> {
    /// Starts at the newest checkpoint, or at `model`.
    fn open(mut model: M, args: &'a TrainArgs, run: &'a RunDir, total: usize) -> Result<Self> {
        let mut optimizer = AdamW::new(args);
        let mut state = TrainerState::new(args, &run.fingerprint, total);
        if let Some((_, path)) = checkpoint::list(&run.dir)?.pop_last() {
            let found = Checkpoint::load(&path)?;
            let differences = found.state.differences(&state).join("; ");
            if !differences.is_empty() {
                return Err(Error::OtherRun { path, differences, folder: run.dir.clone() });
            }
            let unfit = |reason: String| Error::checkpoint(&path, reason);
            model = params::load(model, found.model).map_err(unfit)?;
            optimizer.load(&model, found.optimizer).map_err(unfit)?;
            state = TrainerState { args: state.args, ..found.state };
            tracing::info!("resuming from {}", path.display());
        }
        let trackers = Trackers::open(&run.dir, &state.log_history)?;
        let mut progress = Progress::new(&run.label, total as u64, Verbosity::Auto);
        progress.resume_at(state.global_step as u64);
        let (schedule, dir) = (args.schedule(total), run.dir.as_path());
        Ok(Self { model, optimizer, state, args, schedule, dir, trackers, progress })
    }

    fn run<O>(&mut self, objective: &O, batches: &mut Batches) -> Result<()>
    where
        O: Objective<M> + ?Sized,
    {
        if self.state.global_step == 0 && self.args.eval_on_start {
            self.evaluate(objective)?;
        }
        while self.state.global_step < self.state.max_steps {
            let stats = self.step(objective, batches)?;
            let step = self.state.global_step;
            let last = step == self.state.max_steps;
            let due = |every: usize| last || step.is_multiple_of(every);
            if due(self.args.logging_steps) || (step == 1 && self.args.logging_first_step) {
                self.log_training(stats)?;
            }
            if self.args.eval_steps.map_or(last, due) {
                self.evaluate(objective)?;
            }
            let interrupted = interrupt::requested() && !last;
            if due(self.args.save_steps) || interrupted {
                let path = self.save()?;
                if interrupted {
                    return Err(Error::Interrupted { step, path });
                }
            }
            self.progress.advance(1);
        }
        self.progress.finish("");
        Ok(())
    }

    /// One update of the parameters.
    fn step<O>(&mut self, objective: &O, batches: &mut Batches) -> Result<StepStats>
    where
        O: Objective<M> + ?Sized,
    {
        let done = self.state.global_step;
        let micro_batches = batches.step(done);
        let gradients = self.gradients(objective, micro_batches)?;
        let grad_norm = gradients.norm()?;
        if !grad_norm.is_finite() {
            return Err(self.not_finite("grad_norm", grad_norm, micro_batches.concat()));
        }
        let learning_rate = self.schedule.rate(done);
        let scale = clip(grad_norm, self.args.max_grad_norm);
        self.model = self.optimizer.step(self.model.clone(), gradients, scale, learning_rate);
        self.state.global_step = done + 1;
        self.state.epoch = (done + 1) as f64 / batches.steps_per_epoch() as f64;
        Ok(StepStats { grad_norm, learning_rate })
    }

    /// The gradient of the mean loss over all micro-batches of a step.
    fn gradients<O>(&mut self, objective: &O, micro_batches: &[Vec<usize>]) -> Result<Gradients>
    where
        O: Objective<M> + ?Sized,
    {
        let step = self.state.global_step;
        let seed = Seed(self.args.seed).derive("loss").index(step as u64);
        let total_weight = weight(objective, micro_batches);
        let mut gradients = Gradients::default();
        for (i, items) in micro_batches.iter().enumerate() {
            let StepLoss { surrogate, loss, tokens, mut metrics } = objective
                .loss(&self.model, items, seed.index(i as u64))
                .map_err(|source| Error::Objective { step: step + 1, source })?;
            metrics.add("loss", loss, objective.weight(items));
            self.check_finite(loss, &metrics, items)?;
            if !surrogate.is_tracked() {
                return Err(Error::Untracked { step: step + 1 });
            }
            let mut grads = surrogate.div_scalar(total_weight).backward();
            gradients.accumulate(&self.model, &mut grads);
            self.state.unlogged.merge(&metrics);
            self.state.num_input_tokens_seen += tokens as u64;
        }
        Ok(gradients)
    }

    fn check_finite(&self, loss: f64, metrics: &Metrics, items: &[usize]) -> Result<()> {
        let mut values = [("loss", loss)].into_iter().chain(metrics.means());
        match values.find(|(_, value)| !value.is_finite()) {
            Some((name, value)) => Err(self.not_finite(name, value, items.to_vec())),
            None => Ok(()),
        }
    }

    fn not_finite(&self, what: &str, value: f64, items: Vec<usize>) -> Error {
        let kept = match checkpoint::list(self.dir).unwrap_or_default().pop_last() {
            Some((_, path)) => format!("{} is the last good checkpoint", path.display()),
            None => "no checkpoint was saved before".into(),
        };
        Error::NotFinite { what: what.into(), value, step: self.state.global_step + 1, items, kept }
    }

    /// Logs what was measured since the last such entry.
    fn log_training(&mut self, stats: StepStats) -> Result<()> {
        let measured = std::mem::take(&mut self.state.unlogged);
        let mut values = named(&measured, "");
        values.insert("grad_norm".into(), stats.grad_norm);
        values.insert("learning_rate".into(), stats.learning_rate);
        values.insert("num_tokens".into(), self.state.num_input_tokens_seen as f64);
        let loss = measured.mean("loss").unwrap_or_default();
        self.progress.message(format!("loss {loss:.4}"));
        self.log(values)
    }

    /// Evaluates on held-out examples and logs the result.
    fn evaluate<O: Objective<M> + ?Sized>(&mut self, objective: &O) -> Result<()> {
        let step = self.state.global_step;
        let measured = objective
            .evaluate(&self.model.valid())
            .map_err(|source: ObjectiveError| Error::Objective { step, source })?;
        if measured.is_empty() {
            return Ok(());
        }
        let values = named(&measured, "eval_");
        match values.iter().find(|(_, value)| !value.is_finite()) {
            Some((name, &value)) => Err(self.not_finite(name, value, Vec::new())),
            None => self.log(values),
        }
    }

    fn log(&mut self, metrics: BTreeMap<String, f64>) -> Result<()> {
        let entry = LogEntry { step: self.state.global_step, epoch: self.state.epoch, metrics };
        self.trackers.log(&entry)?;
        self.state.log_history.push(entry);
        Ok(())
    }

    fn save(&self) -> Result<PathBuf> {
        let path = Checkpoint {
            state: self.state.clone(),
            model: params::values(&self.model)?,
            optimizer: self.optimizer.values()?,
        }
        .save(self.dir)?;
        checkpoint::prune(self.dir, self.args.save_steps, self.args.save_total_limit)?;
        Ok(path)
    }
}

/// What to multiply a gradient of this norm by so that it is no longer than `max_norm`: as
/// PyTorch's `clip_grad_norm_`.
fn clip(norm: f64, max_norm: f64) -> f64 {
    let scale = max_norm / (norm + 1e-6);
    if max_norm > 0.0 && scale < 1.0 { scale } else { 1.0 }
}

fn named(metrics: &Metrics, prefix: &str) -> BTreeMap<String, f64> {
    metrics.means().map(|(name, value)| (format!("{prefix}{name}"), value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_long_gradients_are_scaled() {
        assert_eq!(clip(0.5, 1.0), 1.0);
        assert_eq!(clip(5.0, 0.0), 1.0);
        assert!((clip(4.0, 1.0) - 0.25).abs() < 1e-6);
    }
}
