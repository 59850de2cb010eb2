use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use cai_data::{atomic, constitution::Constitution};
use cai_train::{Progress, Verbosity};
use clap::{Args, Subcommand};
use critique_revision::{
    FeedbackReport, Shard,
    hhh::{measure, read_known_pairs},
    merge_feedback, read_prompts,
};

use super::{ConfigArgs, MergeArgs, create_dir};
use crate::{config::Config, models};

/// Let a feedback model compare samples of a policy, with the `feedback` section of the config.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct FeedbackArgs {
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
    /// Measure a feedback model on comparisons whose better answer is known.
    Eval(EvalArgs),
}

#[derive(Args)]
struct RunArgs {
    /// Model that gives the samples: MODEL[+ADAPTER], or a server's http(s)://HOST/PATH#MODEL.
    #[arg(long)]
    policy: String,
    /// Model that compares them, named in the same way.
    #[arg(long)]
    judge: String,
    /// cpu, cuda[:n], vulkan[:n], wgpu[:n]; the config's if absent.
    #[arg(long)]
    device: Option<String>,
    /// JSONL of {"prompt": text or [messages]}, with an "id" or not.
    #[arg(long)]
    prompts: PathBuf,
    /// Do only this shard of the work, for example 0/4; then merge.
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// Folder to write.
    #[arg(long)]
    out: PathBuf,
}

#[derive(Args)]
struct EvalArgs {
    /// The paper's evaluations (prompt, corrects, incorrects), or preference pairs.
    #[arg(long)]
    input: PathBuf,
    /// Feedback model: MODEL[+ADAPTER], or a server's http(s)://HOST/PATH#MODEL.
    #[arg(long, default_value = "artifacts/models/mini-gemma")]
    judge: String,
    /// Ask by this constitution's questions, not by those that came with the comparisons.
    #[arg(long)]
    constitution: Option<PathBuf>,
    /// Let the model reason before it chooses.
    #[arg(long)]
    chain_of_thought: bool,
    /// cpu, cuda[:n], vulkan[:n], wgpu[:n]; the config's if absent.
    #[arg(long)]
    device: Option<String>,
    #[command(flatten)]
    config: ConfigArgs,
    /// JSON file to write the numbers to.
    #[arg(long)]
    output: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: FeedbackArgs) -> Result<()> {
    match (args.action, args.run) {
        (Some(Action::Merge(merge)), _) => {
            say(&merge_feedback(&merge.out, &merge.from)?, &merge.out)
        }
        (Some(Action::Eval(args)), _) => eval(args)?,
        (None, Some(run)) => feedback(run, args.config.read()?)?,
        (None, None) => bail!("give --policy, --judge, --prompts and --out; see --help"),
    }
    Ok(())
}

fn feedback(args: RunArgs, config: Config) -> Result<()> {
    let constitution = Constitution::read(&config.constitution)?;
    let prompts = read_prompts(&args.prompts)?;
    let device = cai_model::device::parse(args.device.as_deref().unwrap_or(&config.device))?;
    let policy = models::load(&args.policy, &config.server, &device)?;
    let judge = models::load(&args.judge, &config.server, &device)?;
    create_dir(&args.out)?;
    let (policy, judge, settings, out) = (&*policy, &*judge, &config.feedback, &args.out);
    match args.shard {
        Some(shard) => {
            let records = critique_revision::run_feedback_shard(
                policy,
                judge,
                &constitution,
                &prompts,
                settings,
                shard,
                out,
            )?;
            println!(
                "shard {shard}: {records} records; when all are there: feedback merge --out {}",
                out.display()
            );
        }
        None => {
            let report = critique_revision::run_feedback(
                policy,
                judge,
                &constitution,
                &prompts,
                settings,
                out,
            )?;
            say(&report, out);
        }
    }
    Ok(())
}

fn say(report: &FeedbackReport, dir: &Path) {
    let FeedbackReport { n, prompts, left_out, pairs, dropped, .. } = report;
    let page = dir.join("feedback_report.html");
    println!(
        "{n} of {prompts} prompts (left out {left_out:?}), {pairs} pairs (dropped {dropped:?}): {}",
        page.display()
    );
}

fn eval(args: EvalArgs) -> Result<()> {
    let config = args.config.read()?;
    let constitution = args.constitution.as_deref().map(Constitution::read).transpose()?;
    let known = read_known_pairs(&args.input)?;
    let device = cai_model::device::parse(args.device.as_deref().unwrap_or(&config.device))?;
    let judge = models::load(&args.judge, &config.server, &device)?;
    let mut settings = config.feedback;
    settings.chain_of_thought |= args.chain_of_thought;
    let questions = constitution.as_ref().map_or(1, |_| settings.principles_per_pair);
    let steps = if settings.chain_of_thought { 4 } else { 2 };
    let total = (known.pairs.len() * questions * steps) as u64;
    let mut progress = Progress::new("feedback eval", total, Verbosity::Auto);
    let accuracy = measure(&*judge, &known, constitution.as_ref(), &settings, &mut progress)?;
    progress.finish("");
    print!("{}", accuracy.markdown());
    if let Some(path) = &args.output {
        atomic::write_json(path, &accuracy)?;
    }
    Ok(())
}
