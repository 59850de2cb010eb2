//! Benchmarks by log-probability: which of several completions a model finds likeliest.
//!
//! A task is one file of `configs/tasks/` ([`TaskSpec`]): where its records come from, how a record
//! becomes a prompt with choices, what is right, and what is measured. [`Records`] and
//! [`TaskSpec::items`] read it, [`run()`] asks models, [`TaskResults`] holds what comes out. A task may be
//! a set of prompts instead, which [`crate::run()`] or the red team can use.

mod items;
mod metrics;
mod results;
mod run;
mod spec;

pub use items::{BiasItem, Item, Records, find};
pub use metrics::ChoiceScores;
pub use results::{ModelScores, TaskDifference, TaskResult, TaskResults};
pub use run::{Task, run};
pub use spec::{Bias, Form, Metric, MultipleChoice, Normalise, PromptSet, TaskSpec};
