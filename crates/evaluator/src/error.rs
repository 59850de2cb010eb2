//! What can go wrong in an evaluation, each with its remedy.

use std::path::{Path, PathBuf};

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, where, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A data file could not be read or written, or holds something else.
    #[error(transparent)]
    Data(#[from] cai_data::Error),
    /// A model could not be loaded or did not generate.
    #[error("model {name}: {source}")]
    Model {
        /// The model's name in the comparison.
        name: String,
        /// What the model said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A setting is out of range.
    #[error("evaluation.{key}: {reason}")]
    Config {
        /// The setting.
        key: &'static str,
        /// What is wrong and what to do.
        reason: String,
    },
    /// The prompts, models or replies do not make an evaluation.
    #[error("{place}: {reason}")]
    Input {
        /// Where: a prompt, a model, a file.
        place: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A language model that judges failed.
    #[error("judge {name}: {source}")]
    Judge {
        /// The judge's name in results.
        name: String,
        /// What the model or its server said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The harm scorer failed.
    #[error("the harm scorer failed: {0}")]
    Scorer(String),
    /// A figure could not be drawn.
    #[error(transparent)]
    Figure(#[from] cai_chart::Error),
    /// The table or the report could not be made.
    #[error("cannot make {}: {reason}", path.display())]
    Report {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        reason: String,
    },
    /// The user asked to stop; what is done is kept.
    #[error("interrupted; run the same command again to resume")]
    Interrupted,
}

impl Error {
    /// For `map_err` on a model's errors: names the model.
    pub fn model<E>(name: &str) -> impl FnOnce(E) -> Error
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        let name = name.to_owned();
        move |source| Error::Model { name, source: Box::new(source) }
    }

    /// For `map_err` on what goes wrong while a report file is made.
    pub fn report<E: std::fmt::Display>(path: &Path) -> impl FnOnce(E) -> Error {
        let path = path.to_owned();
        move |reason| Error::Report { path, reason: reason.to_string() }
    }

    pub(crate) fn input(place: impl Into<String>, reason: impl Into<String>) -> Error {
        Error::Input { place: place.into(), reason: reason.into() }
    }
}
