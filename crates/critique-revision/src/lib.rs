//! Stage 3A: critique and revision against a constitution, and AI feedback.
//!
//! Constitutional AI (arXiv 2212.08073). [`run`] is the first half (section 3): a model answers
//! prompts, criticises its answers by principles drawn from a constitution, and revises them;
//! [`sl_cai_conversations`] and [`revision_pairs`] make training data of the records.
//! [`run_feedback`] is the second half (section 4): a feedback model says which of two samples of
//! the policy is better, and [`feedback_pairs`] makes preference pairs with probabilities of that.
//!
//! Both work in blocks of consecutive prompts, each on disk once it is finished: a run that is
//! killed and started again ends with the same bytes as one that was not.

mod blocks;
pub mod clean;
mod config;
mod critique;
mod data;
mod error;
mod feedback;
mod feedback_report;
mod judge;
mod record;
mod reply;
mod report;
mod stats;

pub use config::{CritiqueConfig, FeedbackConfig};
pub use critique::run;
pub use data::{CritiquePrompt, SlCaiSet, revision_pairs, sl_cai_conversations};
pub use error::{Error, Result};
pub use feedback::{feedback_pairs, run_feedback};
pub use feedback_report::{Bin, FeedbackExample, FeedbackReport, PrincipleFeedback};
pub use judge::{Judgement, Question, prefer};
pub use record::{Answer, Comparison, CritiqueRecord, FeedbackRecord, Outcome, Round, Sample};
pub use reply::Reply;
pub use report::{CritiqueReport, Example, PairStatistics, RoundStatistics};
pub use stats::Mean;

/// The records of [`run`], a [`CritiqueRecord`] per prompt.
pub const CRITIQUES: &str = "critiques.jsonl";
/// The records of [`run_feedback`], a [`FeedbackRecord`] per prompt.
pub const FEEDBACK: &str = "feedback.jsonl";
/// The preference pairs of [`run`]: final revision over initial answer.
pub const REVISION_PAIRS: &str = "revision_pairs.jsonl";
/// The preference pairs of [`run_feedback`].
pub const FEEDBACK_PAIRS: &str = "feedback_pairs.jsonl";
