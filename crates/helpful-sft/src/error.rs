/// What can go wrong in supervised fine-tuning.
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
    /// No record is left to train on.
    #[error("no conversation is left to train on: {counts}; check the data and max_length")]
    NothingLeft {
        /// What was left out, by reason.
        counts: String,
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
