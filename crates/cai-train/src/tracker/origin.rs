//! `run.json`: what a run is made with and of.

use std::process::Command;

use cai_data::atomic;
use serde::Serialize;
use serde_json::Value;

use crate::{Result, RunDir, TrainArgs};

/// Goes with a run: into its folder, and to trackers.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Origin {
    /// What the run is called.
    pub label: String,
    /// Version of this crate.
    pub version: &'static str,
    /// The commit of the working folder, if it is one of git's.
    pub revision: Option<String>,
    /// Hash of the examples, the start model and what else decides the result.
    pub fingerprint: String,
    /// The settings of the stage; those of the loop where it gives none.
    pub config: Value,
}

impl Origin {
    /// That of `run`.
    pub fn of(run: &RunDir, args: &TrainArgs) -> Self {
        Self {
            label: run.label.clone(),
            version: env!("CARGO_PKG_VERSION"),
            revision: git_revision(),
            fingerprint: run.fingerprint.clone(),
            config: match &run.config {
                Value::Null => serde_json::to_value(args).unwrap_or_default(),
                config => config.clone(),
            },
        }
    }

    /// Writes it into the folder of `run`.
    pub fn write(&self, run: &RunDir) -> Result<()> {
        Ok(atomic::write_json(&run.dir.join("run.json"), self)?)
    }
}

/// The commit of the working folder, if it is one of git's.
pub fn git_revision() -> Option<String> {
    let output = Command::new("git").args(["rev-parse", "HEAD"]).output().ok()?;
    let revision = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| revision.trim().to_owned())
}
