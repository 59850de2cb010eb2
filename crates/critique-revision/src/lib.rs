//! Stage 3A: critique and revision against a constitution, and AI feedback.
//!
//! Constitutional AI (arXiv 2212.08073). [`run`] is the first half (section 3): a model answers
//! prompts, criticises its answers by principles drawn from a constitution, and revises them;
//! [`sl_cai_conversations`] and [`revision_pairs`] make training data of the records.
//! [`run_feedback`] is the second half (section 4): a feedback model says which of two samples of
//! the policy is better, and [`feedback_pairs`] makes preference pairs with probabilities of that.
//!
//! Both work in blocks of consecutive prompts, each on disk once it is finished: a run that is
//! killed and started again ends with the same bytes as one that was not. [`run_live`] does one prompt
//! and tells each step.

mod blocks;
pub mod clean;
mod config;
mod critique;
mod data;
mod draw;
mod error;
mod feedback;
mod feedback_report;
pub mod hhh;
pub mod hostile;
mod live;
mod models;
mod prompts;
mod record;
mod report;
mod report_files;
mod shards;
pub mod shortfall;
mod stats;

pub use config::{CritiqueConfig, FeedbackConfig, PrincipleChoice};
pub use critique::{merge_critiques, report_critiques, run, run_shard};
pub use data::{Revisions, SlCaiSet, revision_pairs, sl_cai_conversations};
pub use error::{Error, Result};
pub use feedback::{
    feedback_pairs, merge_feedback, report_feedback, run_feedback, run_feedback_shard,
};
pub use feedback_report::{Bin, FeedbackExample, FeedbackReport, PrincipleFeedback};
pub use live::{Step, run_live};
pub use models::Models;
pub use prompts::{CritiquePrompt, PromptFile, Prompts, read_prompts};
pub use record::{Answer, Comparison, CritiqueRecord, FeedbackRecord, Outcome, Round, Sample};
pub use report::{CritiqueReport, Example, PairStatistics, RoundStatistics, RuleExample, Truth};
pub use shards::Shard;
pub use stats::Mean;

/// The records of [`run`], a [`CritiqueRecord`] per prompt.
pub const CRITIQUES: &str = "critiques.jsonl";
/// The records of [`run_feedback`], a [`FeedbackRecord`] per prompt.
pub const FEEDBACK: &str = "feedback.jsonl";
/// The preference pairs of [`run`]: final revision over initial answer.
pub const REVISION_PAIRS: &str = "revision_pairs.jsonl";
/// The preference pairs of [`run_feedback`].
pub const FEEDBACK_PAIRS: &str = "feedback_pairs.jsonl";
/// What [`run`] does, for the merge of its shards and for reports.
pub const CRITIQUE_PLAN: &str = "critique_plan.json";
/// What [`run_feedback`] does.
pub const FEEDBACK_PLAN: &str = "feedback_plan.json";
