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
    /// A conversation with a weight that makes no sense.
    #[error("conversation {number}: weight is {value}; use a number of 0 or more, or remove it")]
    Weight {
        /// Its place among the conversations, from 1.
        number: usize,
        /// What it holds.
        value: String,
    },
    /// Shares of a mix that make no sense.
    #[error("data {number}: its share is {share}; use numbers above 0, for all data or for none")]
    Share {
        /// The set's place, from 1.
        number: usize,
        /// What was given.
        share: f64,
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
