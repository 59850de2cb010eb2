//! Why a server does not start.

use std::path::PathBuf;

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, where, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A model could not be loaded.
    #[error("model {name}: {source}")]
    Model {
        /// Its name.
        name: String,
        /// What is wrong with it.
        source: cai_model::Error,
    },
    /// The classifier could not be loaded.
    #[error(transparent)]
    Classifier(#[from] safety_classifier::Error),
    /// The constitution could not be read.
    #[error(transparent)]
    Data(#[from] cai_data::Error),
    /// A setting is out of range.
    #[error("{key}: {reason}")]
    Config {
        /// The setting.
        key: &'static str,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The address could not be listened on.
    #[error("cannot listen on {address}: {source}; choose another --host or --port")]
    Listen {
        /// Host and port.
        address: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The system refused something that a server needs.
    #[error("{what}: {source}")]
    System {
        /// What was asked for.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}
