//! Stage 2: supervised fine-tuning of a decoder with LoRA on helpful replies, and on revisions
//! (SL-CAI): the same objective on other data. Pretraining of the mini model is here too: the same
//! objective with every parameter trained.
//!
//! Loss is taken on assistant turns only: their content, end-of-turn, and the newline that the
//! template puts after it, as TRL does.

mod config;
mod data;
mod error;
mod mix;
mod objective;
mod packing;
pub mod pretrain;
mod report;
mod train;

pub use config::{SftConfig, TrainedTurns};
pub use data::{Prepared, prepare};
pub use error::{Error, Result};
pub use mix::mix;
pub use objective::{Mode, SftObjective};
pub use packing::pack;
pub use report::SftReport;
pub use train::{first_batch, run};
