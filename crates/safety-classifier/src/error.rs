//! What can go wrong in this crate.

use std::path::PathBuf;

/// The result of a function of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of the classifier. Its message says what is wrong, where, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Reading or writing a file of records failed.
    #[error(transparent)]
    Data(#[from] cai_data::Error),

    /// The language model could not be loaded, adapted or saved.
    #[error(transparent)]
    Model(#[from] cai_model::Error),

    /// The training loop stopped.
    #[error(transparent)]
    Train(#[from] cai_train::Error),

    /// A setting makes no sense.
    #[error("classifier.{key}: {problem}")]
    Config {
        /// The setting's key path below `classifier`.
        key: &'static str,
        /// What is wrong with it, and what would be right.
        problem: String,
    },

    /// A record has a label that the config does not list.
    #[error(
        "{place}: unknown label {label:?}; the labels are {known}: correct the record, or add the \
         label to classifier.labels"
    )]
    UnknownLabel {
        /// `file:line`, or the record's position in the list.
        place: String,
        /// The label found there.
        label: String,
        /// The labels of the config, for the message.
        known: String,
    },

    /// A record has several labels where they exclude each other.
    #[error(
        "{place}: {label:?} is several labels; classifier.task: multi_label trains on such records"
    )]
    SeveralLabels {
        /// The record's position in the list.
        place: String,
        /// Its labels.
        label: String,
    },

    /// A record is called safe and harmful at once.
    #[error("the text {text:?} has the safe label beside others: take one of them away")]
    SafeAndHarmful {
        /// How the text begins.
        text: String,
    },

    /// A column of a record is not there or holds something else than text.
    #[error(
        "{place}: the column {column:?} {problem}; name the file's columns in the source's text, label, group and source"
    )]
    Column {
        /// `file:line`.
        place: String,
        /// The column.
        column: String,
        /// What is wrong with it.
        problem: &'static str,
    },

    /// A CSV or Parquet file could not be read.
    #[error("{}: {problem}", path.display())]
    Table {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },

    /// A figure of the report could not be drawn.
    #[error(transparent)]
    Figure(#[from] cai_chart::Error),

    /// The report could not be made.
    #[error("report: {0}")]
    Report(String),

    /// Predictions could not be written.
    #[error("writing predictions: {0}")]
    Output(std::io::Error),

    /// There is nothing to train on or to measure with.
    #[error("no labelled texts to {purpose}: {found}; check the data file")]
    NoRecords {
        /// `train on`, `hold out` or `evaluate`.
        purpose: &'static str,
        /// How many records there were, and why none of them counts.
        found: String,
    },

    /// Some labels of the config have no training text.
    #[error(
        "no training text has the label {labels}: add examples, or take the label out of \
         classifier.labels"
    )]
    MissingClass {
        /// The labels without a text.
        labels: String,
    },

    /// The tokenizer could not be trained, read or used.
    #[error("tokenizer: {0}")]
    Tokenizer(String),

    /// A classifier folder is incomplete or its files do not fit each other.
    #[error("{}: {problem}; train the classifier again, or restore the folder", path.display())]
    Checkpoint {
        /// The file at fault.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },

    /// A tensor could not be read back from the device.
    #[error("reading {what} from the device: {problem}")]
    Device {
        /// What was read.
        what: &'static str,
        /// What the device said.
        problem: String,
    },
}
