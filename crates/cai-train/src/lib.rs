//! One training loop for every stage: optimiser, schedule, accumulation, checkpoints and resume,
//! metrics, progress.
//!
//! A stage says what its loss is by implementing [`Objective`]; [`train`] does the rest. Everything
//! that decides the result is derived from the seed and the step number, so a run that is killed
//! and started again ends with the same bytes as one that was not.

pub mod args;
pub mod batches;
pub mod checkpoint;
mod ema;
mod error;
pub mod interrupt;
pub mod metrics;
pub mod objective;
pub mod optim;
pub mod params;
pub mod progress;
pub mod report;
pub mod schedule;
mod session;
mod tensor_file;
pub mod tracker;
mod trainer;

pub use args::{IntervalStrategy, Tracking, TrainArgs};
pub use error::{Error, Result};
pub use metrics::{LogEntry, Metrics};
pub use objective::{Objective, ObjectiveError, StepLoss};
pub use progress::{Progress, Verbosity};
pub use report::TrainReport;
pub use trainer::{RunDir, train};
