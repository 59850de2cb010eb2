/// What can go wrong when a model is asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The model or its files.
    #[error(transparent)]
    Model(#[from] cai_model::Error),
    /// A setting that makes no sense.
    #[error("{key}: {reason}")]
    Setting {
        /// The key in the config.
        key: &'static str,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A server that did not answer.
    #[error(
        "{url}: {reason} (after {attempts} attempts); what is finished is kept: check the server, \
         then run the same command again to resume"
    )]
    Server {
        /// The address.
        url: String,
        /// What it said last.
        reason: String,
        /// How often it was asked.
        attempts: usize,
    },
}

/// Result with this crate's error.
pub type Result<T> = std::result::Result<T, Error>;
