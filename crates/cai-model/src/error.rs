use std::path::PathBuf;

/// What can go wrong with a model, its files or its inputs. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A records file or an atomic write failed.
    #[error(transparent)]
    Data(#[from] cai_data::Error),
    /// config.json, adapter_config.json or another JSON file is not what it should be.
    #[error("{}: {reason}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A weights file is damaged or does not fit the model.
    #[error("{}: {reason}", path.display())]
    Weights {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// An adapter does not fit the base model.
    #[error("adapter {}: {reason}", path.display())]
    Adapter {
        /// The adapter's folder.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// The tokenizer's files are damaged, missing, or do not fit the model.
    #[error("{}: {reason}", path.display())]
    Tokenizer {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// The chat template refused the messages or is not valid.
    #[error("chat template: {reason}")]
    Template {
        /// What the template said.
        reason: String,
    },
    /// A model or dataset could not be fetched from the hub.
    #[error("{repo}: {reason}; {remedy}")]
    Hub {
        /// The repository on the hub.
        repo: String,
        /// What happened.
        reason: String,
        /// What to do about it.
        remedy: String,
    },
    /// The device setting is unknown or was not compiled in.
    #[error(transparent)]
    Device(#[from] cai_kernels::DeviceError),
    /// A request that the model cannot serve.
    #[error("{0}")]
    Input(String),
}

/// Result with this crate's error.
pub type Result<T> = std::result::Result<T, Error>;
