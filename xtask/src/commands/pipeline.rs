use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::ConfigArgs;
use crate::pipeline::{self, Options, Step};

/// Run all stages. Works like make: a stage whose inputs and settings have not changed is not run
/// again, an interrupted one resumes.
#[derive(Args)]
pub struct PipelineArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Begin with this stage; earlier ones must be up to date. Stages are data, classifier, sft,
    /// critique, sl_cai, feedback, dpo, feedback-2, dpo-2, … (with dpo.rounds) and evaluate.
    #[arg(long, value_name = "STAGE")]
    from: Option<Step>,
    /// End with this stage.
    #[arg(long, value_name = "STAGE")]
    to: Option<Step>,
    /// Run a stage though it is up to date; without a value, all of them.
    #[arg(long, value_name = "STAGE", num_args = 0.., value_delimiter = ',')]
    force: Option<Vec<Step>>,
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
        Some(stages) if stages.is_empty() => Step::all(config.dpo.rounds),
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
