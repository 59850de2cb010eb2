//! One file per command.

pub mod bench;
pub mod classifier;
pub mod constitution;
pub mod critique;
pub mod doctor;
pub mod dpo;
pub mod evaluate;
pub mod feedback;
pub mod generate;
pub mod judge;
pub mod merge;
pub mod pipeline;
pub mod pretrain;
pub mod random_model;
pub mod redteam;
pub mod score;
pub mod serve;
pub mod sft;
mod show_batch;
pub mod study;
pub mod tasks;
pub mod test;

use std::path::{Path, PathBuf};

use anyhow::Result;
use cai_model::{
    device,
    model::{LanguageModel, LoadOptions},
    source::{ModelSource, Quantize},
    tokenizer::{ChatTokenizer, TemplateChoice},
};
use clap::{Args, Parser, Subcommand};

use crate::{config::Config, input};

/// Where the shards of a run are.
#[derive(Args)]
pub struct MergeArgs {
    /// The folder of the run.
    #[arg(long)]
    out: PathBuf,
    /// Folders of the same run on other machines that hold some of the shards.
    #[arg(long, num_args = 1..)]
    from: Vec<PathBuf>,
}

/// Constitutional AI from end to end: a Gemma checkpoint and a written constitution go in, a model
/// that is helpful and harmless comes out, with the evidence.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, max_term_width = 100)]
pub struct Cli {
    /// Print results and errors only.
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Say more about what happens (RUST_LOG says it in detail).
    #[arg(long, short, global = true)]
    pub verbose: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Run all stages: data, classifier, SFT, critique, SL-CAI, feedback, DPO, evaluation.
    Pipeline(pipeline::PipelineArgs),
    /// Train mini-gemma from scratch on the mini world.
    Pretrain(pretrain::PretrainArgs),
    /// Train, evaluate or use the safety classifier.
    Classifier(classifier::ClassifierArgs),
    /// Fine-tune on conversations with LoRA.
    Sft(sft::SftArgs),
    /// Let a model answer prompts, criticise and revise its answers.
    Critique(critique::CritiqueArgs),
    /// Let a feedback model compare samples of a policy, or measure one.
    Feedback(feedback::FeedbackArgs),
    /// Optimise a policy on preference pairs.
    Dpo(dpo::DpoArgs),
    /// Compare models side by side.
    Evaluate(evaluate::EvaluateArgs),
    /// Attack models with harmful goals in several ways, and count harmless requests refused.
    Redteam(redteam::RedteamArgs),
    /// Benchmarks by log-probability, and prompt sets of others.
    Tasks(tasks::TasksArgs),
    /// Judge any answers, without a model.
    Judge(judge::JudgeArgs),
    /// Answer prompts.
    Generate(generate::GenerateArgs),
    /// Log-probabilities of completions.
    Score(score::ScoreArgs),
    /// Serve models and classifier over HTTP, with a playground.
    Serve(serve::ServeArgs),
    /// Merge an adapter into its base model.
    Merge(merge::MergeArgs),
    /// Write a model folder of random weights, of any size: for benches and tests of memory.
    RandomModel(random_model::RandomModelArgs),
    /// Check config, files, devices, disk and memory before anything is trained.
    Doctor(doctor::DoctorArgs),
    /// Check a constitution.
    Constitution(constitution::ConstitutionArgs),
    /// Repeat the paper's comparisons over several seeds.
    Study(study::StudyArgs),
    /// Run the tests.
    Test(test::TestArgs),
    /// Time steps: beside what the machine can do, beside PyTorch, against their sizes.
    Bench(bench::BenchArgs),
}

/// Cargo, to run a command of it.
fn cargo() -> std::process::Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut cargo = std::process::Command::new(program);
    // `cargo run` names this package in the environment. Build scripts that ask for the name (ring)
    // would run again, and everything above them would be compiled again.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(&name);
        }
    }
    cargo
}

/// The config that a command takes its settings from.
#[derive(Args, Clone)]
pub struct ConfigArgs {
    /// Configuration file.
    #[arg(long, default_value = "configs/mini.yaml")]
    pub config: PathBuf,
    /// Change a setting; may be given several times.
    #[arg(long = "set", value_name = "KEY.PATH=VALUE")]
    pub sets: Vec<String>,
}

impl ConfigArgs {
    /// Reads it.
    pub fn read(&self) -> Result<Config> {
        Config::read(&self.config, &self.sets)
    }
}

/// A model on the command line.
#[derive(Args, Clone)]
pub struct ModelArgs {
    /// Model folder, GGUF file, or hub:OWNER/NAME[@REVISION].
    #[arg(long, default_value = "artifacts/models/mini-gemma")]
    pub model: String,
    /// PEFT adapter folder.
    #[arg(long)]
    pub adapter: Option<PathBuf>,
    #[command(flatten)]
    pub base: BaseArgs,
}

/// How a base model is loaded.
#[derive(Args, Clone)]
pub struct BaseArgs {
    /// cpu, cuda[:n], vulkan[:n], wgpu[:n].
    #[arg(long, default_value = "cpu")]
    pub device: String,
    /// Hold the base in 8 or 4 bits per weight, or (a GGUF file) as stored (CPU).
    #[arg(long, value_name = "BITS")]
    pub quantize: Option<Quantize>,
    /// Folder whose tokenizer takes the place of the model's own.
    #[arg(long, value_name = "DIR")]
    pub tokenizer: Option<PathBuf>,
    /// Chat template in place of the model's own: gemma, chatml, plain, or a Jinja file.
    #[arg(long, value_name = "NAME|FILE")]
    pub chat_template: Option<TemplateChoice>,
}

impl BaseArgs {
    /// Loads the base that `model` names.
    pub fn load(&self, model: &str, adapter: Option<PathBuf>) -> Result<LanguageModel> {
        let options = LoadOptions {
            adapter,
            quantize: self.quantize,
            tokenizer: self.tokenizer.clone(),
            chat_template: self.chat_template.clone(),
        };
        let device = device::parse(&self.device)?;
        Ok(LanguageModel::load_with(&input::model(model)?.path, &options, &device)?)
    }
}

impl ModelArgs {
    /// The tokenizer alone, with the chat template that is asked for.
    pub fn tokenizer(&self) -> Result<ChatTokenizer> {
        let path = input::model(&self.model)?.path;
        let tokenizer = ModelSource::open(&path, self.base.tokenizer.as_deref())?.tokenizer;
        Ok(match &self.base.chat_template {
            Some(choice) => tokenizer.with_choice(choice)?,
            None => tokenizer,
        })
    }

    /// Loads it.
    pub fn load(&self) -> Result<LanguageModel> {
        self.base.load(&self.model, self.adapter.clone())
    }
}

/// An error with its causes, each said once.
pub fn message(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        // A wrapper often repeats what it wraps.
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// Creates a folder for outputs.
pub fn create_dir(dir: &Path) -> Result<()> {
    use anyhow::Context;
    std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))
}
