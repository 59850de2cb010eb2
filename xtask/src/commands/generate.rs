use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use cai_data::{
    dataset, jsonl,
    record::{Message, Prompt},
    seed::Seed,
};
use cai_model::generate::{SamplingConfig, generate};
use cai_train::{Progress, Verbosity};
use clap::Args;
use serde_json::json;

use super::ModelArgs;

/// Answer prompts.
#[derive(Args)]
pub struct GenerateArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// A prompt: one user turn.
    #[arg(long, conflicts_with = "input", required_unless_present = "input")]
    prompt: Option<String>,
    /// JSONL of {"prompt": text or [messages]}.
    #[arg(long)]
    input: Option<PathBuf>,
    /// JSONL to write; standard output if absent.
    #[arg(long)]
    output: Option<PathBuf>,
    /// Tokens of an answer at most.
    #[arg(long, default_value_t = 256)]
    max_new_tokens: usize,
    /// Take the most likely token at every step.
    #[arg(long, conflicts_with_all = ["temperature", "top_k", "top_p"])]
    greedy: bool,
    /// Logits are divided by this.
    #[arg(long, default_value_t = 1.0)]
    temperature: f64,
    /// Only the k most likely tokens.
    #[arg(long)]
    top_k: Option<usize>,
    /// Only the most likely tokens whose probabilities add up to this.
    #[arg(long)]
    top_p: Option<f64>,
    /// Seed; each prompt draws from its own stream.
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Prompts generated together.
    #[arg(long, default_value_t = 32)]
    batch_size: usize,
}

/// Runs the command.
pub fn run(args: GenerateArgs) -> Result<()> {
    let prompts = match (&args.prompt, &args.input) {
        (Some(text), _) => vec![Prompt::new(vec![Message::user(text)])],
        (None, Some(path)) => dataset::read_prompts(path)?,
        (None, None) => bail!("give --prompt or --input"),
    };
    let model = args.model.load()?;
    let ids = prompts
        .iter()
        .enumerate()
        .map(|(i, p)| {
            model.tokenizer.prompt(&p.prompt).with_context(|| format!("prompt {}", i + 1))
        })
        .collect::<Result<Vec<_>>>()?;
    let temperature = if args.greedy { 0.0 } else { args.temperature };
    let sampling = SamplingConfig {
        max_new_tokens: args.max_new_tokens,
        temperature,
        top_k: args.top_k,
        top_p: args.top_p,
    };
    let seeds: Vec<Seed> = (0..ids.len()).map(|i| Seed(args.seed).index(i as u64)).collect();
    // A bar beside one short answer would only be in the way.
    let verbosity = if ids.len() == 1 { Verbosity::Quiet } else { Verbosity::Auto };
    let mut progress = Progress::new("generate", ids.len() as u64, verbosity);
    let mut on_done = |n: usize| progress.advance(n as u64);
    let answers = generate(&model, &ids, &sampling, &seeds, args.batch_size, &mut on_done)?;
    progress.finish("");
    let lines = prompts.iter().zip(&answers).map(|(prompt, answer)| {
        json!({"prompt": prompt.prompt, "completion": answer.text, "finish": answer.finish,
               "tokens": answer.ids.len(), "logprob": answer.logprob})
    });
    match (&args.output, &args.prompt) {
        (Some(path), _) => jsonl::write(path, lines)?,
        (None, Some(_)) => println!("{}", answers[0].text),
        (None, None) => lines.for_each(|line| println!("{line}")),
    }
    Ok(())
}
