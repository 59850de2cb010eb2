use std::path::PathBuf;

use anyhow::{Result, bail};
use cai_data::{jsonl, record::Conversation, world::World};
use cai_model::device;
use clap::Args;
use evaluator::{ModelSpec, WorldJudge};
use safety_classifier::SafetyClassifier;

use super::{ConfigArgs, create_dir};
use crate::input;

/// Compare models side by side on harm prevention, truthfulness, helpfulness and fairness.
#[derive(Args)]
pub struct EvaluateArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Models, each NAME=MODEL or NAME=MODEL+ADAPTER.
    #[arg(long, num_args = 1.., required = true, value_name = "NAME=MODEL[+ADAPTER]")]
    models: Vec<String>,
    /// Evaluation prompts.
    #[arg(long)]
    prompts: PathBuf,
    /// Safety classifier that scores harm.
    #[arg(long)]
    classifier: PathBuf,
    /// Training conversations for the nearest-prompt baseline.
    #[arg(long)]
    training: Option<PathBuf>,
    /// Evaluate this many prompts, spread evenly over categories.
    #[arg(long)]
    max_prompts: Option<usize>,
    /// Folder to write.
    #[arg(long)]
    out: PathBuf,
}

/// Runs the command.
pub fn run(args: EvaluateArgs) -> Result<()> {
    let config = args.config.read()?;
    let device = device::parse(&config.device)?;
    let models = args.models.iter().map(|m| spec(m)).collect::<Result<Vec<_>>>()?;
    let max_prompts = args.max_prompts.or(config.evaluation.max_prompts);
    let prompts = evaluator::read_prompts(&args.prompts, max_prompts)?;
    let classifier = SafetyClassifier::load(&args.classifier, &device)?;
    let training: Option<Vec<Conversation>> = match &args.training {
        Some(path) => Some(jsonl::read(path)?),
        None => None,
    };
    let world = World::new();
    let judge = WorldJudge(&world);
    create_dir(&args.out)?;
    // The world judges only prompts that carry its topics.
    let (evaluation, report) = evaluator::run(
        &prompts,
        &models,
        training.as_deref(),
        &classifier,
        Some(&judge),
        &config.evaluation,
        &device,
        &args.out,
    )?;
    println!("{}\nreport: {}", evaluator::table(&evaluation.results), report.display());
    Ok(())
}

fn spec(text: &str) -> Result<ModelSpec> {
    let Some((name, model)) = text.split_once('=') else {
        bail!("--models {text}: write NAME=MODEL or NAME=MODEL+ADAPTER");
    };
    let (model, adapter) = match model.split_once('+') {
        Some((model, adapter)) => (model, Some(PathBuf::from(adapter))),
        None => (model, None),
    };
    Ok(ModelSpec { name: name.into(), dir: input::model(model)?.path, adapter })
}
