//! `checkpoint-N/`: everything that training needs to go on after step N.
//!
//! A checkpoint is written beside its place and renamed when it is on disk, so a folder of that name
//! is always complete.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use burn::tensor::TensorData;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Error, LogEntry, Metrics, Result, TrainArgs, tensor_file};

/// Values of the trainable parameters.
pub const MODEL_FILE: &str = "model.safetensors";
/// State of the optimiser.
pub const OPTIMIZER_FILE: &str = "optimizer.safetensors";
/// The [`TrainerState`].
pub const STATE_FILE: &str = "trainer_state.json";

/// Settings that do not change what is trained, and so may differ when a run is resumed.
const FREE: [&str; 10] = [
    "logging_strategy",
    "logging_steps",
    "logging_first_step",
    "eval_strategy",
    "eval_steps",
    "eval_on_start",
    "save_strategy",
    "save_steps",
    "save_total_limit",
    "tracking",
];

/// Where the run stands: transformers' `trainer_state.json` and what the loop adds to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainerState {
    /// Step of the best evaluation, if evaluations are compared.
    pub best_global_step: Option<usize>,
    /// Its value of the metric.
    pub best_metric: Option<f64>,
    /// Name of its checkpoint in the run's folder, if it was saved.
    pub best_model_checkpoint: Option<String>,
    /// Evaluations in a row that were not better.
    pub early_stopping_patience_counter: usize,
    /// Whether training stopped before its last step, because it no longer got better.
    pub stopped_early: bool,
    /// Passes over the training examples done.
    pub epoch: f64,
    /// Optimiser steps done.
    pub global_step: usize,
    /// Optimiser steps of the whole run.
    pub max_steps: usize,
    /// Input tokens seen.
    pub num_input_tokens_seen: u64,
    /// Examples per micro-batch.
    pub train_batch_size: usize,
    /// All that was logged, oldest first.
    pub log_history: Vec<LogEntry>,
    /// What was measured since the last log entry.
    pub unlogged: Metrics,
    /// The settings of the run.
    pub args: Value,
    /// What the examples and the start model are, in the words of the stage.
    pub fingerprint: String,
}

impl TrainerState {
    /// The state before the first of `max_steps` steps.
    pub fn new(args: &TrainArgs, fingerprint: &str, max_steps: usize) -> Self {
        Self {
            best_global_step: None,
            best_metric: None,
            best_model_checkpoint: None,
            early_stopping_patience_counter: 0,
            stopped_early: false,
            epoch: 0.0,
            global_step: 0,
            max_steps,
            num_input_tokens_seen: 0,
            train_batch_size: args.per_device_train_batch_size,
            log_history: Vec::new(),
            unlogged: Metrics::new(),
            args: serde_json::to_value(args).unwrap_or_default(),
            fingerprint: fingerprint.to_owned(),
        }
    }

    /// In words, how the run of `self` differs from that of `other`; empty if it does not.
    pub fn differences(&self, other: &TrainerState) -> Vec<String> {
        let mut differences = Vec::new();
        let mut compare = |key: &str, was: &Value, is: &Value| {
            if was != is {
                differences.push(format!("{key} was {was} and is {is}"));
            }
        };
        if let Some(args) = other.args.as_object() {
            // What is evaluated when decides the result, if evaluations are compared.
            let compared = !args["metric_for_best_model"].is_null()
                || args["load_best_model_at_end"] == true
                || !args["early_stopping_patience"].is_null();
            let decides = |key: &str| {
                !FREE.contains(&key)
                    || (compared && key.starts_with("eval_") && key != "eval_on_start")
            };
            for (key, is) in args.iter().filter(|(key, _)| decides(key)) {
                compare(key, &self.args[key], is);
            }
        }
        compare("steps of the run", &self.max_steps.into(), &other.max_steps.into());
        if self.fingerprint != other.fingerprint {
            let what = "other data, or another start model (base, adapter or settings of it)";
            differences.push(what.into());
        }
        differences
    }
}

/// What a checkpoint holds.
pub struct Checkpoint {
    /// Where the run stands.
    pub state: TrainerState,
    /// Values of the trainable parameters, by module path.
    pub model: BTreeMap<String, TensorData>,
    /// State of the optimiser.
    pub optimizer: BTreeMap<String, TensorData>,
}

impl Checkpoint {
    /// Writes `checkpoint-N` into the folder `run` and returns its path.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]; earlier checkpoints are then as they were.
    pub fn save(&self, run: &Path) -> Result<PathBuf> {
        let path = run.join(name(self.state.global_step));
        if path.exists() {
            return Ok(path);
        }
        let unfinished = unfinished(run, self.state.global_step);
        remove(&unfinished)?;
        fs::create_dir_all(&unfinished).map_err(Error::io(&unfinished))?;
        let wrong = |reason: String| Error::checkpoint(&path, reason);
        let state = serde_json::to_vec_pretty(&self.state).map_err(|e| wrong(e.to_string()))?;
        let files = [
            (MODEL_FILE, tensor_file::to_bytes(&self.model).map_err(wrong)?),
            (OPTIMIZER_FILE, tensor_file::to_bytes(&self.optimizer).map_err(wrong)?),
            (STATE_FILE, state),
        ];
        for (file, bytes) in files {
            write_synced(&unfinished.join(file), &bytes)?;
        }
        sync_folder(&unfinished)?;
        fs::rename(&unfinished, &path).map_err(Error::io(&path))?;
        sync_folder(run)?;
        Ok(path)
    }

    /// Reads the checkpoint at `path`.
    ///
    /// # Errors
    ///
    /// [`Error::Checkpoint`] that names the file.
    pub fn load(path: &Path) -> Result<Self> {
        let read = |file: &str| {
            let file = path.join(file);
            fs::read(&file).map_err(|error| Error::checkpoint(&file, error))
        };
        let tensors = |file: &str| {
            let wrong = |reason: String| Error::checkpoint(&path.join(file), reason);
            tensor_file::from_bytes(&read(file)?).map_err(wrong)
        };
        let state = serde_json::from_slice(&read(STATE_FILE)?)
            .map_err(|error| Error::checkpoint(&path.join(STATE_FILE), error))?;
        Ok(Self { state, model: tensors(MODEL_FILE)?, optimizer: tensors(OPTIMIZER_FILE)? })
    }
}

/// The complete checkpoints in the folder `run`, by step.
///
/// # Errors
///
/// [`Error::Io`] if the folder exists but cannot be listed.
pub fn list(run: &Path) -> Result<BTreeMap<usize, PathBuf>> {
    let entries = match fs::read_dir(run) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(Error::io(run)(error)),
    };
    let mut found = BTreeMap::new();
    for entry in entries {
        let entry = entry.map_err(Error::io(run))?;
        let file_name = entry.file_name();
        let step = file_name.to_str().and_then(|name| name.strip_prefix("checkpoint-"));
        if let Some(step) = step.and_then(|step| step.parse().ok()) {
            found.insert(step, entry.path());
        }
    }
    Ok(found)
}

/// Deletes the checkpoints that are not to be kept beside the newest and that of the step `best`:
/// all but the newest `limit`, and those that were not `planned`, which only an interruption or an
/// evaluation that is no longer the best saved.
///
/// # Errors
///
/// [`Error::Io`].
pub fn prune(
    run: &Path,
    planned: impl Fn(usize) -> bool,
    limit: Option<usize>,
    best: Option<usize>,
) -> Result<()> {
    let mut checkpoints = list(run)?;
    let newest = checkpoints.pop_last();
    let older = limit.unwrap_or(usize::MAX).saturating_sub(usize::from(newest.is_some()));
    best.map(|step| checkpoints.remove(&step));
    let planned = checkpoints.iter().rev().filter(|(step, _)| planned(**step));
    let kept: Vec<usize> = planned.take(older).map(|(step, _)| *step).collect();
    checkpoints.retain(|step, _| !kept.contains(step));
    for (step, path) in &checkpoints {
        // Renamed first: a kill must not leave half of what looks like a checkpoint.
        let doomed = unfinished(run, *step);
        remove(&doomed)?;
        fs::rename(path, &doomed).map_err(Error::io(path))?;
        remove(&doomed)?;
    }
    Ok(())
}

/// Deletes what a killed process left half written or half deleted.
///
/// # Errors
///
/// [`Error::Io`].
pub fn clean(run: &Path) -> Result<()> {
    for entry in fs::read_dir(run).map_err(Error::io(run))? {
        let entry = entry.map_err(Error::io(run))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(".checkpoint-") && name.ends_with(".tmp") {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

pub(crate) fn name(step: usize) -> String {
    format!("checkpoint-{step}")
}

fn unfinished(run: &Path, step: usize) -> PathBuf {
    run.join(format!(".{}.tmp", name(step)))
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io(folder)(error)),
        _ => Ok(()),
    }
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = File::create(path).map_err(Error::io(path))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(Error::io(path))
}

fn sync_folder(path: &Path) -> Result<()> {
    // Some file systems refuse to sync a folder; the rename is then as safe as they make it.
    let _ = File::open(path).map_err(Error::io(path))?.sync_all();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint(step: usize) -> Checkpoint {
        let mut state = TrainerState::new(&TrainArgs::default(), "data", 100);
        state.global_step = step;
        state.unlogged.add("loss", 0.1 + 0.2, 3.0);
        let model = BTreeMap::from([("w".to_owned(), TensorData::new(vec![1.0f32], [1]))]);
        Checkpoint { state, model, optimizer: BTreeMap::new() }
    }

    fn steps(run: &Path) -> Vec<usize> {
        list(run).unwrap().into_keys().collect()
    }

    #[test]
    fn a_checkpoint_comes_back() {
        let run = tempfile::tempdir().unwrap();
        let saved = checkpoint(7);
        let path = saved.save(run.path()).unwrap();
        let loaded = Checkpoint::load(&path).unwrap();
        assert_eq!(loaded.state, saved.state);
        assert_eq!(loaded.model, saved.model);
        fs::write(path.join(MODEL_FILE), b"half").unwrap();
        let error = Checkpoint::load(&path).err().unwrap().to_string();
        assert!(error.contains(MODEL_FILE) && error.contains("delete"), "{error}");
    }

    #[test]
    fn old_and_unplanned_checkpoints_go() {
        let run = tempfile::tempdir().unwrap();
        for step in [10, 20, 30, 37, 40] {
            checkpoint(step).save(run.path()).unwrap();
        }
        prune(run.path(), |step| step % 10 == 0, Some(3), None).unwrap();
        assert_eq!(steps(run.path()), [20, 30, 40]);
        prune(run.path(), |step| step % 10 == 0, None, None).unwrap();
        assert_eq!(steps(run.path()), [20, 30, 40]);
        prune(run.path(), |step| step % 10 == 0, Some(1), Some(20)).unwrap();
        assert_eq!(steps(run.path()), [20, 40]);
    }

    #[test]
    fn differences_are_named() {
        let args = TrainArgs::default();
        let was = TrainerState::new(&args, "data", 100);
        let args = TrainArgs { learning_rate: 0.5, save_steps: 1, ..args };
        let is = TrainerState::new(&args, "data", 100);
        assert_eq!(was.differences(&is), ["learning_rate was 0.00002 and is 0.5"]);
        assert!(is.differences(&is).is_empty());
        let elsewhere = TrainerState { fingerprint: "other data".into(), ..is.clone() };
        let differences = is.differences(&elsewhere);
        assert!(differences[0].starts_with("other data, or another start model"));
    }
}
