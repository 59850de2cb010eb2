//! What can go wrong in training.

use std::path::{Path, PathBuf};

use crate::ObjectiveError;

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of the training loop, its checkpoints or its trackers.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A training setting that makes no sense.
    #[error("training setting {key}: {reason}")]
    Setting {
        /// The key in the config.
        key: &'static str,
        /// What is wrong and what to do.
        reason: String,
    },
    /// The objective has no training example.
    #[error("there is no training example; check the data file and what was left out of it")]
    NoExamples,
    /// `Objective::lengths` and `Objective::len` disagree.
    #[error("the objective has {len} examples but gives {lengths} lengths; give one length each")]
    Lengths {
        /// `Objective::len`.
        len: usize,
        /// Number of entries of `Objective::lengths`.
        lengths: usize,
    },
    /// No parameter of the model requires a gradient.
    #[error("the model has no trainable parameter; add an adapter or unfreeze its weights")]
    NothingToTrain,
    /// A trainable parameter that the optimiser cannot hold in full precision.
    #[error(
        "trainable parameter {name} is {dtype}; the optimiser needs f32: cast it, or freeze it"
    )]
    NotF32 {
        /// Module path of the parameter.
        name: String,
        /// Its type.
        dtype: String,
    },
    /// A step over which the loss cannot be averaged.
    #[error(
        "step {step} (examples {items:?}) has nothing to train: its weight is {weight}; \
         check that truncation and the mask leave trained tokens"
    )]
    Weight {
        /// The step, from 1.
        step: usize,
        /// The examples of the step.
        items: Vec<usize>,
        /// Their weight.
        weight: f64,
    },
    /// A loss, gradient or metric that is NaN or infinite.
    #[error(
        "{what} is {value} at step {step} (examples {items:?}); training stopped, {kept}; \
         try a smaller learning_rate, or look at these examples"
    )]
    NotFinite {
        /// What is not finite: `loss`, `grad_norm` or a metric's name.
        what: String,
        /// Its value.
        value: f64,
        /// The step, from 1.
        step: usize,
        /// The examples that were seen.
        items: Vec<usize>,
        /// What remains on disk.
        kept: String,
    },
    /// The surrogate loss does not depend on any trainable parameter.
    #[error(
        "the loss at step {step} does not depend on any trainable parameter; \
         compute it with the model that `loss` is given"
    )]
    Untracked {
        /// The step, from 1.
        step: usize,
    },
    /// The objective failed.
    #[error("step {step}: {source}")]
    Objective {
        /// The step, from 1.
        step: usize,
        /// What the objective says.
        source: ObjectiveError,
    },
    /// A checkpoint of another run: of other settings, data or start model.
    #[error(
        "{path} is from another run ({differences}); \
         delete the folder {folder} to train anew, or restore the settings to resume"
    )]
    OtherRun {
        /// The checkpoint.
        path: PathBuf,
        /// What differs, was and is.
        differences: String,
        /// The run's folder.
        folder: PathBuf,
    },
    /// A checkpoint that cannot be read back.
    #[error("checkpoint {path}: {reason}; delete this folder to resume from the one before it")]
    Checkpoint {
        /// The checkpoint or the file in it.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Values could not be read back from the device.
    #[error("reading {name} from the device failed: {reason}")]
    Device {
        /// What was read.
        name: String,
        /// What the backend says.
        reason: String,
    },
    /// A file or folder that cannot be read or written.
    #[error("{path}: {source}; check that the folder is writable and the disk is not full")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// An error of the data layer.
    #[error(transparent)]
    Data(#[from] cai_data::Error),
    /// The user asked to stop.
    #[error("interrupted at step {step}, saved as {path}; run the same command again to resume")]
    Interrupted {
        /// Steps done.
        step: usize,
        /// The checkpoint.
        path: PathBuf,
    },
}

impl Error {
    /// For `map_err`: an [`Error::Io`] at `path`.
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Error + '_ {
        move |source| Error::Io { path: path.to_owned(), source }
    }

    /// An [`Error::Checkpoint`] at `path`.
    pub(crate) fn checkpoint(path: &Path, reason: impl ToString) -> Error {
        Error::Checkpoint { path: path.to_owned(), reason: reason.to_string() }
    }
}
