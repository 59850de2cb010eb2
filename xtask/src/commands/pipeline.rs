use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::ConfigArgs;
use crate::pipeline::{self, Options, Stage};

/// Run all stages. Works like make: a stage whose inputs and settings have not changed is not run
/// again, an interrupted one resumes.
#[derive(Args)]
pub struct PipelineArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Begin with this stage; earlier ones must be up to date.
    #[arg(long, value_enum)]
    from: Option<Stage>,
    /// End with this stage.
    #[arg(long, value_enum)]
    to: Option<Stage>,
    /// Run a stage though it is up to date; without a value, all of them.
    #[arg(long, value_enum, num_args = 0.., value_delimiter = ',')]
    force: Option<Vec<Stage>>,
    /// Say what would run, and stop.
    #[arg(long)]
    dry_run: bool,
    /// Folder of runs.
    #[arg(long, default_value = "artifacts/runs")]
    runs: PathBuf,
}

/// Runs the command.
pub fn run(args: PipelineArgs) -> Result<()> {
    cai_model::device::join_workers();
    let config = args.config.read()?;
    let force = match args.force {
        None => Vec::new(),
        Some(stages) if stages.is_empty() => Stage::ALL.to_vec(),
        Some(stages) => stages,
    };
    let whole = args.to.is_none() && !args.dry_run;
    let options =
        Options { runs: args.runs, from: args.from, to: args.to, force, dry_run: args.dry_run };
    let dir = pipeline::run(&config, &options)?;
    if whole {
        println!("\n{}", pipeline::outcome(&config, &dir)?);
    }
    Ok(())
}
