use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cai_data::constitution::Constitution;
use clap::{Args, Subcommand};
use critique_revision::{
    CRITIQUE_PLAN, CritiqueReport, FEEDBACK_PLAN, Models, Shard, merge_critiques, read_prompts,
    report_critiques, report_feedback,
};
use safety_classifier::SafetyClassifier;

use super::{ConfigArgs, MergeArgs, create_dir};
use crate::{config::Config, models};

/// Let a model answer prompts, criticise and revise its answers, with the `critique` section of the
/// config.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct CritiqueArgs {
    #[command(subcommand)]
    action: Option<Action>,
    // Beside the others: clap tells whether optional arguments are there only where none of them are
    // flattened in turn.
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    run: Option<RunArgs>,
}

#[derive(Subcommand)]
enum Action {
    /// Put finished shards together: the same bytes as one run.
    Merge(MergeArgs),
    /// Make the report pages of critique and feedback once more.
    Report {
        /// A run's folder, or that of its critique or feedback stage.
        folder: PathBuf,
    },
}

#[derive(Args)]
struct RunArgs {
    /// Model that answers: MODEL[+ADAPTER], or a server's http(s)://HOST/PATH#MODEL.
    #[arg(long, default_value = "artifacts/models/mini-gemma")]
    model: String,
    /// PEFT adapter folder.
    #[arg(long)]
    adapter: Option<PathBuf>,
    /// Model that criticises and revises; the one that answers if absent.
    #[arg(long)]
    critic: Option<String>,
    /// cpu, cuda[:n], vulkan[:n], wgpu[:n]; the config's if absent.
    #[arg(long)]
    device: Option<String>,
    /// JSONL of {"prompt": text or [messages]}, with an "id" or not.
    #[arg(long)]
    prompts: PathBuf,
    /// Safety classifier that scores answers and stops when they are safe.
    #[arg(long)]
    classifier: Option<PathBuf>,
    /// Do only this shard of the work, for example 0/4; then merge.
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// Folder to write.
    #[arg(long)]
    out: PathBuf,
}

/// Runs the command.
pub fn run(args: CritiqueArgs) -> Result<()> {
    match (args.action, args.run) {
        (Some(Action::Merge(merge)), _) => {
            say(&merge_critiques(&merge.out, &merge.from)?, &merge.out)
        }
        (Some(Action::Report { folder }), _) => report(&folder)?,
        (None, Some(run)) => critique(run, args.config.read()?)?,
        (None, None) => anyhow::bail!("give --prompts and --out; see --help"),
    }
    Ok(())
}

fn critique(args: RunArgs, config: Config) -> Result<()> {
    let constitution = Constitution::read(&config.constitution)?;
    let prompts = read_prompts(&args.prompts)?;
    let device = cai_model::device::parse(args.device.as_deref().unwrap_or(&config.device))?;
    let name = match &args.adapter {
        Some(adapter) => format!("{}+{}", args.model, adapter.display()),
        None => args.model.clone(),
    };
    let load = |name: &str| models::load(name, &config.server, &device);
    let author = load(&name)?;
    let critic = args.critic.as_deref().map(load).transpose()?;
    let models =
        Models { author: author.as_ref(), critic: critic.as_deref().unwrap_or(author.as_ref()) };
    let classifier = match &args.classifier {
        Some(dir) => Some(SafetyClassifier::load(dir, &device)?),
        None => None,
    };
    create_dir(&args.out)?;
    let (classifier, settings, out) = (classifier.as_ref(), &config.critique, &args.out);
    match args.shard {
        Some(shard) => {
            let records = critique_revision::run_shard(
                models,
                &constitution,
                classifier,
                &prompts,
                settings,
                shard,
                out,
            )?;
            println!(
                "shard {shard}: {records} records; when all are there: critique merge --out {}",
                out.display()
            );
        }
        None => {
            let report =
                critique_revision::run(models, &constitution, classifier, &prompts, settings, out)?;
            say(&report, out);
        }
    }
    Ok(())
}

fn say(report: &CritiqueReport, dir: &Path) {
    let CritiqueReport { n, prompts, left_out, outcomes, .. } = report;
    let page = dir.join("report.html");
    println!(
        "{n} of {prompts} prompts (left out {left_out:?}), outcomes {outcomes:?}: {}",
        page.display()
    );
}

/// Makes the pages of whatever stands in the folder, or in its stages' folders.
fn report(folder: &Path) -> Result<()> {
    let mut pages = Vec::new();
    for dir in [folder.to_path_buf(), folder.join("critique"), folder.join("feedback")] {
        if dir.join(CRITIQUE_PLAN).exists() {
            report_critiques(&dir)?;
            pages.push(dir.join("report.html"));
        }
        if dir.join(FEEDBACK_PLAN).exists() {
            report_feedback(&dir)?;
            pages.push(dir.join("feedback_report.html"));
        }
    }
    pages.first().with_context(|| {
        format!(
            "{} holds neither {CRITIQUE_PLAN} nor {FEEDBACK_PLAN}; give a run's folder",
            folder.display()
        )
    })?;
    pages.iter().for_each(|page| println!("{}", page.display()));
    Ok(())
}
