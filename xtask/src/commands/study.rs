use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::study::{self, StudyConfig};

/// Repeat the paper's comparisons over several seeds: revisions by round, direct revision, numbers of
/// principles, soft and hard labels, sources of preferences. What is done is not done again.
#[derive(Args)]
pub struct StudyArgs {
    /// What is compared.
    #[arg(long, default_value = "configs/study.yaml")]
    config: PathBuf,
    /// Folder of runs; the study gets its own in it.
    #[arg(long, default_value = "artifacts/runs")]
    runs: PathBuf,
}

/// Runs the command.
pub fn run(args: StudyArgs) -> Result<()> {
    let config = StudyConfig::read(&args.config)?;
    let dir = study::run(&config, &args.runs)?;
    println!("\n{}", std::fs::read_to_string(dir.join("study.md"))?);
    println!("figures: {}", dir.display());
    Ok(())
}
