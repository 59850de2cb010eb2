use std::path::PathBuf;

/// What can go wrong in preference training.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The model or its files.
    #[error(transparent)]
    Model(#[from] cai_model::Error),
    /// The training loop.
    #[error(transparent)]
    Train(#[from] cai_train::Error),
    /// Records or output files.
    #[error(transparent)]
    Data(#[from] cai_data::Error),
    /// No pair is left to train on.
    #[error(
        "no preference pair is left to train on: {counts}; \
         check the data, max_length, min_confidence and held_out"
    )]
    NothingLeft {
        /// What was left out, by reason.
        counts: String,
    },
    /// A pair with a number that makes no sense.
    #[error("preference pair {number}: {key} is {value}; use {wanted}, or remove the field")]
    Pair {
        /// Its place among the pairs, from 1.
        number: usize,
        /// The field.
        key: &'static str,
        /// What it holds.
        value: f64,
        /// What it may hold.
        wanted: &'static str,
    },
    /// The reference gives a completion no finite log-probability.
    #[error(
        "the reference model gives a completion the log-probability {value}; \
         its weights are damaged, or overflow on this device: check them with `score`"
    )]
    Reference {
        /// The log-probability.
        value: f64,
    },
    /// The file of the reference's log-probabilities is not of this run.
    #[error(
        "{path}: {reason}, so these are not this run's reference log-probabilities; \
         delete the folder it is in to train anew, or give another output folder",
        path = path.display()
    )]
    StaleReference {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, or differs.
        reason: String,
    },
    /// A setting that makes no sense.
    #[error("{key}: {reason}")]
    Setting {
        /// The key in the config.
        key: &'static str,
        /// What is wrong and what to do.
        reason: String,
    },
}

/// Result with this crate's error.
pub type Result<T> = std::result::Result<T, Error>;
