use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use cai_data::jsonl;
use cai_model::{device, source::Quantize};
use clap::Args;
use evaluator::tasks::{self, Form, Records, Task, TaskSpec};

use super::{ConfigArgs, create_dir, evaluate::spec};
use crate::input;

/// Benchmarks by log-probability (HHH, TruthfulQA, BBQ), and prompt sets of others (XSTest, HarmBench).
///
/// Without a name, lists the tasks. A multiple-choice task asks --models which completion they find
/// likeliest; a prompt set is written as prompts for `evaluate --prompts` and `redteam --goals`.
#[derive(Args)]
pub struct TasksArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Tasks: names of configs/tasks, or task files.
    tasks: Vec<String>,
    /// The folder of task files.
    #[arg(long, default_value = "configs/tasks")]
    folder: PathBuf,
    /// Where a task's records are, if its file does not say so or in its place: a file, or
    /// hub:OWNER/NAME/FILE. Several times for a task of several files.
    #[arg(long, value_name = "TASK=FILE")]
    data: Vec<String>,
    /// Models: names of a run (base, sft, sl-cai, dpo), or NAME=MODEL, or NAME=MODEL+ADAPTER.
    #[arg(long, num_args = 1.., value_name = "NAME|NAME=MODEL[+ADAPTER]")]
    models: Vec<String>,
    /// The run whose models are meant by bare names.
    #[arg(long, default_value = "artifacts/runs/mini")]
    run: PathBuf,
    /// Ask this many questions of each task, spread evenly over its file.
    #[arg(long)]
    limit: Option<usize>,
    /// Questions asked together.
    #[arg(long)]
    batch_size: Option<usize>,
    /// Ask plain-text tasks through the model's chat template.
    #[arg(long)]
    apply_chat_template: bool,
    /// Hold the base in 8 or 4 bits per weight, or (a GGUF file) as stored (CPU).
    #[arg(long, value_name = "BITS")]
    quantize: Option<Quantize>,
    /// Folder to write.
    #[arg(long, visible_alias = "output-path")]
    out: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: TasksArgs) -> Result<()> {
    if args.tasks.is_empty() {
        return list(&args.folder);
    }
    let out = args.out.as_deref().context("--out is missing; give a folder for the results")?;
    let mut config = args.config.read()?;
    let settings = &mut config.evaluation;
    settings.max_prompts = args.limit;
    settings.batch_size = args.batch_size.unwrap_or(settings.batch_size);
    settings.quantize = args.quantize.or(settings.quantize);
    settings.validate()?;
    let models = args.models.iter().map(|m| spec(m, &args.run)).collect::<Result<Vec<_>>>()?;
    let specs = args
        .tasks
        .iter()
        .map(|name| Ok(TaskSpec::read(&tasks::find(name, &args.folder)?)?))
        .collect::<Result<Vec<_>>>()?;
    let data = data(&args.data, &specs)?;
    create_dir(out)?;
    let mut questions = Vec::new();
    for (spec, files) in specs.into_iter().zip(&data) {
        let records = Records::read(files)?;
        if let Some(set) = &spec.prompt_set {
            let path = out.join(format!("{}.jsonl", spec.task));
            let prompts = spec.prompts(set, &records)?;
            jsonl::write(&path, &prompts)?;
            println!("{}: {} prompts in {}", spec.task, prompts.len(), path.display());
        }
        if let Some(choice) = &spec.multiple_choice {
            let items = spec.items(choice, &records)?;
            let mut choice = choice.clone();
            if args.apply_chat_template && choice.form == Form::Text {
                choice.form = Form::Chat;
            }
            let sha256 = records.sha256;
            questions.push(Task {
                name: spec.task,
                description: spec.description,
                sha256,
                choice,
                items,
            });
        }
    }
    if questions.is_empty() {
        return Ok(());
    }
    if models.is_empty() {
        bail!(
            "--models is missing; name at least one, for example base=artifacts/models/mini-gemma"
        );
    }
    let device = device::parse(&config.device)?;
    let results = tasks::run(questions, &models, &config.evaluation, &device, out)?;
    results.write(out)?;
    println!("{}\nresults: {}", results.markdown(), out.join("results.json").display());
    Ok(())
}

/// What tasks there are.
fn list(folder: &Path) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|ending| ending == "yaml"))
        .collect();
    paths.sort();
    for path in paths {
        let spec = TaskSpec::read(&path)?;
        let kind = if spec.prompt_set.is_some() { "prompts" } else { "multiple choice" };
        println!("{} ({kind}): {}\n    data: {}", spec.task, spec.description, spec.source);
    }
    Ok(())
}

/// The files of each task: those of --data, else those that its file names.
fn data(given: &[String], specs: &[TaskSpec]) -> Result<Vec<Vec<PathBuf>>> {
    let mut files = vec![Vec::new(); specs.len()];
    for text in given {
        let (name, file) =
            text.split_once('=').with_context(|| format!("--data {text}: write TASK=FILE"))?;
        let at = specs.iter().position(|spec| spec.task == name);
        let at =
            at.with_context(|| format!("--data {text}: {name} is none of the tasks to run"))?;
        files[at].push(file.to_owned());
    }
    let resolve = |(spec, given): (&TaskSpec, Vec<String>)| -> Result<Vec<PathBuf>> {
        let sources = if given.is_empty() { &spec.data } else { &given };
        if sources.is_empty() {
            bail!(
                "task {}: its records do not come with this project; get {} and give \
                 --data {}=FILE",
                spec.task,
                spec.source,
                spec.task
            );
        }
        sources.iter().map(|source| Ok(input::file(source)?.path)).collect()
    };
    specs.iter().zip(files).map(resolve).collect()
}
