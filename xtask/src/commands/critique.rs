use std::path::PathBuf;

use anyhow::{Result, bail};
use cai_data::{constitution::Constitution, jsonl};
use clap::Args;
use critique_revision::CritiquePrompt;
use safety_classifier::SafetyClassifier;

use super::{ConfigArgs, ModelArgs, create_dir};

/// Let a model answer prompts, criticise and revise its answers, with the `critique` section of the
/// config.
#[derive(Args)]
pub struct CritiqueArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    config: ConfigArgs,
    /// JSONL of {"id", "prompt": [messages]}.
    #[arg(long)]
    prompts: PathBuf,
    /// Safety classifier that scores answers and stops when they are safe.
    #[arg(long)]
    classifier: Option<PathBuf>,
    /// Folder to write.
    #[arg(long)]
    out: PathBuf,
}

/// Runs the command.
pub fn run(args: CritiqueArgs) -> Result<()> {
    let config = args.config.read()?;
    let constitution = Constitution::read(&config.constitution)?;
    let prompts: Vec<CritiquePrompt> = jsonl::read(&args.prompts)?;
    if prompts.is_empty() {
        bail!("{} has no prompt; give a file with at least one", args.prompts.display());
    }
    let model = args.model.load()?;
    let classifier = match &args.classifier {
        Some(dir) => Some(SafetyClassifier::load(dir, &model.device)?),
        None => None,
    };
    create_dir(&args.out)?;
    let report = critique_revision::run(
        &model,
        &constitution,
        classifier.as_ref(),
        &prompts,
        &config.critique,
        &args.out,
    )?;
    println!("{} records, outcomes {:?}: {}", report.n, report.outcomes, args.out.display());
    Ok(())
}
