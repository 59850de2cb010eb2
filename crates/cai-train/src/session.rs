//! The loop: a run in progress, from a checkpoint or the start to the last step.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::module::Module;
use cai_data::seed::Seed;

use crate::batches::Batches;
use crate::checkpoint::{self, Checkpoint, TrainerState};
use crate::ema::Ema;
use crate::optim::Optimizer;
use crate::params::{self, Gradients};
use crate::progress::Gauge;
use crate::schedule::Schedule;
use crate::tracker::Trackers;
use crate::trainer::weight;
use crate::{
    Error, IntervalStrategy, LogEntry, Metrics, Objective, ObjectiveError, Progress, Result,
    RunDir, StepLoss, TrainArgs, Verbosity, interrupt,
};

/// A run in progress.
pub(crate) struct Session<'a, M> {
    model: M,
    optimizer: Optimizer,
    ema: Option<Ema>,
    pub(crate) state: TrainerState,
    args: &'a TrainArgs,
    schedule: Schedule,
    steps_per_epoch: usize,
    dir: &'a Path,
    pub(crate) trackers: Trackers,
    progress: Progress,
    gauge: Gauge,
}

/// What the last step was like, for the log.
#[derive(Copy, Clone)]
struct StepStats {
    grad_norm: f64,
    learning_rate: f64,
}

impl<'a, M: Module> Session<'a, M> {
    /// Starts at the newest checkpoint, or at `model`.
    pub(crate) fn open(
        mut model: M,
        args: &'a TrainArgs,
        run: &'a RunDir,
        total: usize,
        steps_per_epoch: usize,
    ) -> Result<Self> {
        let mut optimizer = Optimizer::new(args);
        let mut ema = args.ema_decay.map(|decay| Ema::new(decay, &model));
        let mut state = TrainerState::new(args, &run.fingerprint, total);
        if let Some((_, path)) = checkpoint::list(&run.dir)?.pop_last() {
            let mut found = Checkpoint::load(&path)?;
            let differences = found.state.differences(&state).join("; ");
            if !differences.is_empty() {
                return Err(Error::OtherRun { path, differences, folder: run.dir.clone() });
            }
            let unfit = |reason: String| Error::checkpoint(&path, reason);
            model = params::load(model, found.model).map_err(unfit)?;
            if let Some(ema) = &mut ema {
                ema.load(&mut found.optimizer).map_err(unfit)?;
            }
            optimizer.load(&model, found.optimizer).map_err(unfit)?;
            state = TrainerState { args: state.args, ..found.state };
            tracing::info!("resuming from {}", path.display());
        }
        let trackers = Trackers::open(run, args, &state.log_history)?;
        let mut progress = Progress::new(&run.label, total as u64, Verbosity::Auto);
        progress.resume_at(state.global_step as u64);
        let gauge = Gauge::new(state.num_input_tokens_seen);
        let (schedule, dir) = (args.schedule(total), run.dir.as_path());
        Ok(Self {
            model,
            optimizer,
            ema,
            state,
            args,
            schedule,
            steps_per_epoch,
            dir,
            trackers,
            progress,
            gauge,
        })
    }

    pub(crate) fn run<O>(&mut self, objective: &O, batches: &mut Batches) -> Result<()>
    where
        O: Objective<M> + ?Sized,
    {
        if self.state.global_step == 0 && self.args.eval_on_start {
            self.evaluate(objective)?;
        }
        let TrainArgs { logging_strategy, eval_strategy, save_strategy, .. } = *self.args;
        while self.state.global_step < self.state.max_steps && !self.state.stopped_early {
            let stats = self.step(objective, batches)?;
            let step = self.state.global_step;
            let mut last = step == self.state.max_steps;
            let first = step == 1 && self.args.logging_first_step;
            let logs = last || first || self.due(logging_strategy, Some(self.args.logging_steps));
            if logs {
                self.log_training(stats)?;
            }
            let evaluates = self.due(eval_strategy, self.args.eval_steps);
            if evaluates || (last && eval_strategy != IntervalStrategy::No) {
                let values = self.evaluate(objective)?;
                self.compare(&values)?;
            }
            if self.state.stopped_early {
                last = true;
                if !logs {
                    self.log_training(stats)?;
                }
            }
            let interrupted = interrupt::requested() && !last;
            if last || self.due(save_strategy, Some(self.args.save_steps)) || interrupted {
                let path = self.save()?;
                if interrupted {
                    return Err(Error::Interrupted { step, path });
                }
            }
            self.progress.advance(1);
        }
        self.progress.finish("");
        // Done by every save, but a kill may have come between the last one and this.
        self.prune()
    }

    /// Whether it is time for what happens by `strategy`.
    fn due(&self, strategy: IntervalStrategy, every: Option<usize>) -> bool {
        let step = self.state.global_step;
        match strategy {
            IntervalStrategy::No => false,
            IntervalStrategy::Steps => every.is_some_and(|every| step.is_multiple_of(every)),
            IntervalStrategy::Epoch => step.is_multiple_of(self.steps_per_epoch),
        }
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
        if let Some(ema) = &mut self.ema {
            ema.update(&self.model);
        }
        self.state.global_step = done + 1;
        self.state.epoch = (done + 1) as f64 / self.steps_per_epoch as f64;
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
        let speed = self.gauge.measure(self.state.num_input_tokens_seen);
        let (loss, rate) = (measured.mean("loss").unwrap_or_default(), stats.learning_rate);
        self.progress.message(format!("loss {loss:.4}, lr {rate:.1e}, {speed}"));
        self.log(values)
    }

    /// Evaluates on held-out examples and logs the result, which it also returns.
    fn evaluate<O>(&mut self, objective: &O) -> Result<BTreeMap<String, f64>>
    where
        O: Objective<M> + ?Sized,
    {
        let step = self.state.global_step;
        let measured = objective
            .evaluate(&self.current())
            .map_err(|source: ObjectiveError| Error::Objective { step, source })?;
        let values = named(&measured, "eval_");
        if let Some((name, &value)) = values.iter().find(|(_, value)| !value.is_finite()) {
            return Err(self.not_finite(name, value, Vec::new()));
        }
        if !values.is_empty() {
            self.log(values.clone())?;
        }
        Ok(values)
    }

    /// Compares an evaluation with the best one before it: keeps a better one, and stops training
    /// when it has not got better for long enough.
    fn compare(&mut self, values: &BTreeMap<String, f64>) -> Result<()> {
        let Some((metric, greater)) = self.args.best_metric() else { return Ok(()) };
        let Some(&value) = values.get(metric) else {
            let names = values.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            let reason = format!("is {metric}, which is not measured; use one of: {names}");
            return Err(Error::Setting { key: "metric_for_best_model", reason });
        };
        let best = self.state.best_metric;
        let gain = best.map(|best| if greater { value - best } else { best - value });
        let state = &mut self.state;
        if gain.is_none_or(|gain| gain > self.args.early_stopping_threshold) {
            state.early_stopping_patience_counter = 0;
        } else {
            state.early_stopping_patience_counter += 1;
        }
        let patience = self.args.early_stopping_patience.unwrap_or(usize::MAX);
        state.stopped_early = state.early_stopping_patience_counter >= patience;
        if gain.is_none_or(|gain| gain > 0.0) {
            state.best_metric = Some(value);
            state.best_global_step = Some(state.global_step);
            if self.args.load_best_model_at_end {
                state.best_model_checkpoint = Some(checkpoint::name(state.global_step));
                self.save()?;
            }
        }
        Ok(())
    }

    fn log(&mut self, metrics: BTreeMap<String, f64>) -> Result<()> {
        let entry = LogEntry { step: self.state.global_step, epoch: self.state.epoch, metrics };
        self.trackers.log(&entry)?;
        self.state.log_history.push(entry);
        Ok(())
    }

    fn save(&self) -> Result<PathBuf> {
        let mut optimizer = self.optimizer.values();
        if let Some(ema) = &self.ema {
            optimizer.extend(ema.values()?);
        }
        let model = params::values(&self.model)?;
        let path = Checkpoint { state: self.state.clone(), model, optimizer }.save(self.dir)?;
        self.prune()?;
        Ok(path)
    }

    /// Deletes the checkpoints that the settings do not keep.
    fn prune(&self) -> Result<()> {
        let planned = |step: usize| match self.args.save_strategy {
            IntervalStrategy::No => false,
            IntervalStrategy::Steps => step.is_multiple_of(self.args.save_steps),
            IntervalStrategy::Epoch => step.is_multiple_of(self.steps_per_epoch),
        };
        let best =
            self.state.best_model_checkpoint.is_some().then_some(self.state.best_global_step);
        checkpoint::prune(self.dir, planned, self.args.save_total_limit, best.flatten())
    }

    /// The model as it is evaluated: without autodiff, with averaged parameters if there are such.
    fn current(&self) -> M {
        match &self.ema {
            Some(ema) => ema.apply(self.model.clone()).valid(),
            None => self.model.valid(),
        }
    }

    /// The step whose parameters [`Session::result`] returns.
    pub(crate) fn result_step(&self) -> usize {
        match self.state.best_model_checkpoint {
            Some(_) => self.state.best_global_step.unwrap_or(self.state.global_step),
            None => self.state.global_step,
        }
    }

    /// What the run returns: the best model if that is asked for, else the current one.
    pub(crate) fn result(&mut self) -> Result<M> {
        let Some(best) = self.state.best_model_checkpoint.as_ref() else {
            return Ok(self.current());
        };
        let path = self.dir.join(best);
        let mut found = Checkpoint::load(&path)?;
        let unfit = |reason: String| Error::checkpoint(&path, reason);
        let model = params::load(self.model.clone(), found.model).map_err(unfit)?;
        match &mut self.ema {
            Some(ema) => {
                ema.load(&mut found.optimizer).map_err(unfit)?;
                Ok(ema.apply(model).valid())
            }
            None => Ok(model.valid()),
        }
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
