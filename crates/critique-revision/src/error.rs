use std::path::PathBuf;

/// What can go wrong in critique, revision and AI feedback.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A model that was asked, or its server.
    #[error(transparent)]
    Chat(#[from] cai_chat::Error),
    /// The model or its files.
    #[error(transparent)]
    Model(#[from] cai_model::Error),
    /// Records or output files.
    #[error(transparent)]
    Data(#[from] cai_data::Error),
    /// The safety classifier.
    #[error(transparent)]
    Classifier(#[from] safety_classifier::Error),
    /// A setting that makes no sense.
    #[error("{key}: {reason}")]
    Setting {
        /// The key in the config.
        key: &'static str,
        /// What is wrong and what to do.
        reason: String,
    },
    /// The constitution has no principle for this.
    #[error("the constitution {name:?} has no principle with {what}; write at least one")]
    NoPrinciple {
        /// The constitution's name.
        name: String,
        /// What the principles lack.
        what: &'static str,
    },
    /// A figure that cannot be drawn.
    #[error("{0}; the records are whole: make the report again with critique report")]
    Figure(#[from] cai_chart::Error),
    /// A page that cannot be made.
    #[error("{what}: {reason}; the records are whole: make the report again with critique report")]
    Report {
        /// Which.
        what: String,
        /// What the template engine said.
        reason: String,
    },
    /// Shards that cannot be merged.
    #[error("{}: {reason}", path.display())]
    Shards {
        /// The folder or file.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A prompt that cannot be worked on.
    #[error("prompt {id:?}: {reason}")]
    Prompt {
        /// Its id.
        id: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// No prompt is left to work on.
    #[error("no prompt is left to answer: {counts}; check the prompts and max_new_tokens")]
    NothingLeft {
        /// What was left out, by reason.
        counts: String,
    },
    /// No record is clean enough to train on.
    #[error("no answer to train on: none of {why}")]
    NoRevision {
        /// The records, which counts did it, and which settings change that.
        why: String,
    },
    /// Too few helpful conversations for the share that was asked for.
    #[error(
        "sl_cai.helpful_share {share} needs {needed} helpful conversations beside {revisions} revisions, \
         there are {given}; give more or lower sl_cai.helpful_share"
    )]
    TooFewHelpful {
        /// The share.
        share: f64,
        /// How many it needs.
        needed: usize,
        /// Conversations with revisions.
        revisions: usize,
        /// How many there are.
        given: usize,
    },
    /// The user asked to stop; finished blocks are kept.
    #[error(
        "interrupted after {done} of {total} prompts, kept in {}; run the same command again to \
         resume",
        path.display()
    )]
    Interrupted {
        /// Prompts done.
        done: usize,
        /// All prompts.
        total: usize,
        /// The unfinished file.
        path: PathBuf,
    },
}

/// Result with this crate's error.
pub type Result<T> = std::result::Result<T, Error>;
