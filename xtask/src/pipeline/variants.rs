//! Parts of a finished run done differently, for comparison: with other settings of critique, or
//! with other models side by side.

use std::path::{Path, PathBuf};

use anyhow::Result;
use cai_data::{constitution::Constitution, jsonl};
use critique_revision::{CritiqueConfig, CritiquePrompt, CritiqueReport};
use evaluator::Results;

use super::{
    Stage,
    stages::{self, Run},
};
use crate::{config::Config, input};

/// The run of `config` in `dir`, of which the stages up to DPO are done.
pub struct Finished<'a> {
    run: Run<'a>,
}

impl<'a> Finished<'a> {
    /// Opens it.
    ///
    /// # Errors
    ///
    /// A base model or a device that is not there.
    pub fn open(config: &'a Config, dir: &'a Path) -> Result<Self> {
        let base = input::model(&config.model)?.path;
        let device = cai_model::device::parse(&config.device)?;
        Ok(Self { run: Run { config, dir, base, device } })
    }

    /// Critique and revision of the run's first `prompts` red-team prompts with other settings, into
    /// `out`. What is there already is not made again.
    ///
    /// # Errors
    ///
    /// Those of the stage.
    pub fn critique(
        &self,
        settings: &CritiqueConfig,
        constitution: &Constitution,
        prompts: usize,
        out: &Path,
    ) -> Result<CritiqueReport> {
        let path = self.run.folder(Stage::Data).join("red_team.jsonl");
        let mut all: Vec<CritiquePrompt> = jsonl::read(&path)?;
        all.truncate(prompts);
        stages::critique_of(&self.run, settings, constitution, &all, out)
    }

    /// The run's models beside other adapters over the same base, on the run's evaluation prompts.
    ///
    /// # Errors
    ///
    /// Those of the evaluation.
    pub fn compare(&self, others: &[(String, PathBuf)], out: &Path) -> Result<Results> {
        let mut models = self.run.models();
        let others = others.iter().map(|(name, adapter)| (name, Some(adapter.clone())));
        models.extend(others.map(|(name, adapter)| self.run.model(name, adapter)));
        std::fs::create_dir_all(out)?;
        Ok(stages::evaluation_of(&self.run, &models, out)?.results)
    }
}
