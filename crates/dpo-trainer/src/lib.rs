//! Stage 3B: direct preference optimisation (DPO) on AI preferences or human pairs.
//!
//! The policy is trained to prefer the chosen completion over the rejected one by more than a frozen
//! reference does (Rafailov et al., arXiv 2305.18290, equation 7). The reference is the model that
//! the policy starts from, or the base alone; its log-probabilities are computed once, before
//! training, and kept. The names and defaults of settings and metrics are TRL's.
//!
//! ```no_run
//! use std::path::Path;
//!
//! use cai_data::{jsonl, record::PreferencePair};
//! use cai_model::{device, model::LanguageModel};
//! use dpo_trainer::DpoConfig;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let pairs: Vec<PreferencePair> = jsonl::read(Path::new("pairs.jsonl"))?;
//! let base = Path::new("artifacts/models/mini-gemma");
//! let sft = Path::new("artifacts/runs/mini/sft/adapter");
//! let model = LanguageModel::load(base, Some(sft), &device::parse("cpu")?)?;
//! let config = DpoConfig::default();
//! let (_, report) = dpo_trainer::run(model, &pairs, &config, Path::new("dpo"), "dpo")?;
//! println!("held-out accuracy {:?}", report.eval.accuracy_end);
//! # Ok(())
//! # }
//! ```

mod config;
mod data;
mod error;
mod loss;
mod objective;
mod reference;
mod report;
mod train;

pub use config::{DpoConfig, FDivergenceType, LossType, PairObjective, ReferenceModel};
pub use data::{Pair, Prepared, prepare};
pub use error::{Error, Result};
pub use loss::{Completion, PairInput, PairLogps, PairLoss, batch_loss};
pub use objective::DpoObjective;
pub use reference::{Reference, Sources, pair_logps};
pub use report::{DpoReport, HeldOutScores};
pub use train::{first_batch, run};
