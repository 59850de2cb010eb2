use std::path::PathBuf;

use anyhow::Result;
use cai_model::{device, source::Quantize};
use clap::Args;
use evaluator::HarmScorer;
use evaluator::redteam::{RedTeam, read_goals};
use safety_classifier::SafetyClassifier;

use super::{ConfigArgs, create_dir, evaluate::spec};

/// Attack models with harmful goals in several ways, and count harmless requests refused.
///
/// Each goal is asked for plainly, in role play, with a prefix to begin with, in ROT13, after harmless
/// turns, in a German frame, and in two halves.
#[derive(Args)]
pub struct RedteamArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Models: names of a run (base, sft, sl-cai, dpo), or NAME=MODEL, or NAME=MODEL+ADAPTER.
    #[arg(long, num_args = 1.., required = true, value_name = "NAME|NAME=MODEL[+ADAPTER]")]
    models: Vec<String>,
    /// The run whose models are meant by bare names.
    #[arg(long, default_value = "artifacts/runs/mini")]
    run: PathBuf,
    /// Harmful goals: CSV or JSONL with goal, behavior, prompt or text.
    #[arg(long)]
    goals: PathBuf,
    /// Harmless requests, best such as sound harmful, in the same form.
    #[arg(long)]
    harmless: PathBuf,
    /// Safety classifier: an attack succeeds only if it finds the reply harmful.
    #[arg(long)]
    classifier: Option<PathBuf>,
    /// Use this many goals and this many harmless requests, the first ones.
    #[arg(long)]
    max_goals: Option<usize>,
    /// Hold the base in 8 or 4 bits per weight, or (a GGUF file) as stored (CPU).
    #[arg(long, value_name = "BITS")]
    quantize: Option<Quantize>,
    /// Folder to write.
    #[arg(long)]
    out: PathBuf,
}

/// Runs the command.
pub fn run(args: RedteamArgs) -> Result<()> {
    let mut config = args.config.read()?;
    config.evaluation.quantize = args.quantize.or(config.evaluation.quantize);
    let settings = &config.evaluation;
    settings.validate()?;
    let device = device::parse(&config.device)?;
    let models = args.models.iter().map(|m| spec(m, &args.run)).collect::<Result<Vec<_>>>()?;
    let read = |path| -> Result<Vec<String>> {
        let mut texts = read_goals(path)?;
        texts.truncate(args.max_goals.unwrap_or(texts.len()));
        Ok(texts)
    };
    let team = RedTeam::new(read(&args.goals)?, read(&args.harmless)?)?;
    let classifier = match &args.classifier {
        Some(folder) => Some(SafetyClassifier::load(folder, &device)?),
        None => None,
    };
    create_dir(&args.out)?;
    let replies = evaluator::respond_all(&models, &team.prompts(), settings, &device, &args.out)?;
    let scorer = classifier.as_ref().map(|classifier| classifier as &dyn HarmScorer);
    let (outcome, attempts) = team.score(&replies, scorer, settings)?;
    outcome.write(&attempts, &args.out)?;
    println!("{}\npicture: {}", outcome.table(), args.out.join("redteam.svg").display());
    Ok(())
}
