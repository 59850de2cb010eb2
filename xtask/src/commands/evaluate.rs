use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use cai_data::{jsonl, record::Conversation, world::World};
use cai_model::{device, lora::ADAPTER_CONFIG, source::Quantize, tokenizer::TemplateChoice};
use clap::Args;
use evaluator::judges::LmJudge;
use evaluator::{ModelSpec, WorldJudge};
use safety_classifier::SafetyClassifier;
use serde::Deserialize;

use super::{ConfigArgs, create_dir};
use crate::{
    input, models,
    pipeline::{ADAPTER, Stage, Step},
};

/// Compare models side by side on harm prevention, truthfulness, helpfulness and fairness.
///
/// Replies are kept in the folder: run again with the same models, prompts and sampling, and only the
/// scores are made anew.
#[derive(Args)]
pub struct EvaluateArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Models: names of a run (base, sft, sl-cai, dpo), or NAME=MODEL, or NAME=MODEL+ADAPTER.
    #[arg(long, num_args = 1.., required = true, value_name = "NAME|NAME=MODEL[+ADAPTER]")]
    models: Vec<String>,
    /// The run whose models, prompts and classifier are meant where none are given.
    #[arg(long, default_value = "artifacts/runs/mini")]
    run: PathBuf,
    /// Evaluation prompts; those of the run if absent.
    #[arg(long, visible_alias = "test-file")]
    prompts: Option<PathBuf>,
    /// Safety classifier that scores harm; that of the run if absent.
    #[arg(long)]
    classifier: Option<PathBuf>,
    /// A language model that judges all replies too, by a rubric and by comparison, each question in both
    /// orders: MODEL[+ADAPTER], or http(s)://HOST/PATH#MODEL.
    #[arg(long, value_name = "MODEL")]
    judge: Option<String>,
    /// Training conversations for the nearest-prompt baseline.
    #[arg(long)]
    training: Option<PathBuf>,
    /// Evaluate this many prompts, spread evenly over categories.
    #[arg(long)]
    max_prompts: Option<usize>,
    /// Replies of each model to each prompt; needs evaluation.temperature above 0.
    #[arg(long, value_name = "K")]
    samples: Option<usize>,
    /// Hold the base in 8 or 4 bits per weight, or (a GGUF file) as stored (CPU).
    #[arg(long, value_name = "BITS")]
    quantize: Option<Quantize>,
    /// Folder to write.
    #[arg(long, visible_alias = "output-dir")]
    out: PathBuf,
}

/// Runs the command.
pub fn run(args: EvaluateArgs) -> Result<()> {
    let mut config = args.config.read()?;
    let settings = &mut config.evaluation;
    settings.max_prompts = args.max_prompts.or(settings.max_prompts);
    settings.samples = args.samples.unwrap_or(settings.samples);
    settings.quantize = args.quantize.or(settings.quantize);
    settings.validate()?;
    let device = device::parse(&config.device)?;
    let compared = args.models.iter().map(|m| spec(m, &args.run)).collect::<Result<Vec<_>>>()?;
    let prompts = args.prompts.unwrap_or_else(|| args.run.join("data/evaluation.jsonl"));
    let prompts = evaluator::read_prompts(&prompts, config.evaluation.max_prompts)?;
    let classifier = args.classifier.unwrap_or_else(|| args.run.join("classifier"));
    let classifier = SafetyClassifier::load(&classifier, &device)?;
    let training: Option<Vec<Conversation>> = match &args.training {
        Some(path) => Some(jsonl::read(path)?),
        None => None,
    };
    let world = World::new();
    let judge = WorldJudge(&world);
    let chat = match &args.judge {
        Some(name) => Some(models::load(name, &config.server, &device)?),
        None => None,
    };
    let lm = chat.as_deref().map(|model| LmJudge {
        name: "language model".into(),
        model,
        config: config.evaluation.lm_judge.clone(),
    });
    create_dir(&args.out)?;
    // The world judges only prompts that carry its topics.
    let (evaluation, report) = evaluator::run(
        &prompts,
        &compared,
        training.as_deref(),
        &classifier,
        Some(&judge),
        lm.as_ref(),
        &config.evaluation,
        &device,
        &args.out,
    )?;
    println!("{}\nreport: {}", evaluator::table(&evaluation.results), report.display());
    Ok(())
}

/// A model of the command line.
pub(super) fn spec(text: &str, run: &Path) -> Result<ModelSpec> {
    let Some((name, model)) = text.split_once('=') else {
        return of_run(text, run);
    };
    let (model, adapter) = match model.split_once('+') {
        Some((model, adapter)) => (model, Some(PathBuf::from(adapter))),
        None => (model, None),
    };
    Ok(ModelSpec { adapter, ..ModelSpec::base(name, input::model(model)?.path) })
}

/// The base of a run, or the adapter that one of its stages trained.
fn of_run(name: &str, run: &Path) -> Result<ModelSpec> {
    let folder: Option<String> = match name {
        "base" => None,
        "sft" => Some("sft".into()),
        "sl-cai" => Some("sl_cai".into()),
        _ => match name.parse::<Step>() {
            Ok(step) if step.stage == Stage::Dpo => Some(step.to_string()),
            _ => bail!(
                "--models {name}: no model of a run; write base, sft, sl-cai, dpo (dpo-2, … of later \
                 rounds), or NAME=MODEL[+ADAPTER]"
            ),
        },
    };
    let adapter = folder.map(|folder| run.join(folder).join(ADAPTER));
    if let Some(dir) = adapter.as_ref().filter(|dir| !dir.join(ADAPTER_CONFIG).is_file()) {
        bail!("--models {name}: {} has no adapter; run the pipeline, or give --run", dir.display());
    }
    /// What is needed of a run's settings; runs of other versions may have other keys.
    #[derive(Deserialize)]
    struct Settings {
        model: String,
        #[serde(default)]
        tokenizer: Option<PathBuf>,
        #[serde(default)]
        chat_template: Option<TemplateChoice>,
    }
    let path = run.join("run.yaml");
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("--models {name}: cannot read {}; give --run", path.display()))?;
    let settings: Settings =
        serde_yaml::from_str(&text).with_context(|| path.display().to_string())?;
    let Settings { model, tokenizer, chat_template } = settings;
    let base = ModelSpec::base(name, input::model(&model)?.path);
    Ok(ModelSpec { adapter, tokenizer, chat_template, ..base })
}
