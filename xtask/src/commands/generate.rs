use std::{
    io::{self, Write},
    ops::ControlFlow,
    path::PathBuf,
};

use anyhow::{Context, Result, bail};
use cai_data::{
    dataset, jsonl,
    record::{Message, Prompt},
    seed::Seed,
};
use cai_model::{
    generate::{Event, Generation, Request, SamplingConfig, complete},
    lora::merge_adapter,
    model::LanguageModel,
};
use cai_train::{Progress, Verbosity, interrupt};
use clap::Args;
use serde_json::{Value, json};

use super::ModelArgs;

/// What `--help` ends with.
const EXAMPLES: &str = r#"One prompt is answered on the terminal, as the answer grows; a file of prompts with a line for each answer:

  cargo xtask generate --prompt "How do I bake bread at home?" --greedy
  cargo xtask generate --input prompts.jsonl --output answers.jsonl --samples 4 --top-p 0.9"#;

/// Answer prompts.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct GenerateArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Merge the adapter into the weights first: faster, with other last digits.
    #[arg(long, requires = "adapter", conflicts_with = "quantize")]
    merge_adapter: bool,
    /// A prompt: one user turn.
    #[arg(long, conflicts_with = "input", required_unless_present = "input")]
    prompt: Option<String>,
    /// JSONL of {"prompt": text or [messages]}.
    #[arg(long)]
    input: Option<PathBuf>,
    /// JSONL to write, a line for each sample; standard output if absent.
    #[arg(long)]
    output: Option<PathBuf>,
    /// Answers to each prompt.
    #[arg(long, default_value_t = 1)]
    samples: u64,
    /// Seed; each answer draws from its own stream.
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Answers generated together. Changes nothing but speed and memory.
    #[arg(long, default_value_t = 32)]
    batch_size: usize,
    #[command(flatten)]
    sampling: SamplingArgs,
}

/// How tokens are chosen. Applied in this order: repetition penalty, temperature, top-k, top-p, min-p.
#[derive(Args)]
#[command(next_help_heading = "Sampling")]
struct SamplingArgs {
    /// Tokens of an answer at most.
    #[arg(long, default_value_t = 256)]
    max_new_tokens: usize,
    /// Take the most likely token at every step.
    #[arg(long, conflicts_with_all = ["temperature", "top_k", "top_p", "min_p"])]
    greedy: bool,
    /// Logits are divided by this; 0 is --greedy.
    #[arg(long, default_value_t = 1.0)]
    temperature: f64,
    /// Only the k most likely tokens.
    #[arg(long, value_name = "K")]
    top_k: Option<usize>,
    /// Only the most likely tokens whose probabilities add up to this.
    #[arg(long, value_name = "P")]
    top_p: Option<f64>,
    /// Only tokens at least this share as likely as the most likely one.
    #[arg(long, value_name = "P")]
    min_p: Option<f64>,
    /// Above 1, tokens that prompt or answer already hold become less likely.
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    repetition_penalty: f64,
    /// Text that ends an answer and is not part of it; may be given several times.
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// Token id that ends an answer, besides the model's own; may be given several times.
    #[arg(long, value_name = "ID")]
    stop_token_id: Vec<u32>,
    /// Write each token's log-probability, and those of the N most likely ones.
    #[arg(long, value_name = "N")]
    logprobs: Option<usize>,
}

impl SamplingArgs {
    fn config(&self) -> SamplingConfig {
        SamplingConfig {
            max_new_tokens: self.max_new_tokens,
            temperature: if self.greedy { 0.0 } else { self.temperature },
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
            stop: self.stop.clone(),
            stop_token_ids: self.stop_token_id.clone(),
            logprobs: self.logprobs,
        }
    }
}

/// Runs the command.
pub fn run(args: GenerateArgs) -> Result<()> {
    let prompts = match (&args.prompt, &args.input) {
        (Some(text), _) => vec![Prompt::new(vec![Message::user(text)])],
        (None, Some(path)) => dataset::read_prompts(path)?,
        (None, None) => bail!("give --prompt or --input"),
    };
    if args.samples == 0 {
        bail!("--samples must be at least 1");
    }
    let sampling = args.sampling.config();
    sampling.check()?;
    let mut model = args.model.load()?;
    if args.merge_adapter {
        model.decoder = merge_adapter(model.decoder).0;
    }
    let requests = prompts
        .iter()
        .enumerate()
        .map(|(i, prompt)| {
            let ids = model.tokenizer.prompt(&prompt.prompt);
            let prompt = ids.with_context(|| format!("prompt {}", i + 1))?;
            let seeds = seeds(Seed(args.seed).index(i as u64), args.samples);
            Ok(Request { prompt, sampling: sampling.clone(), seeds })
        })
        .collect::<Result<Vec<_>>>()?;
    let on_terminal = args.prompt.is_some() && args.output.is_none() && args.samples == 1;
    let answers = match on_terminal {
        true => print_live(&model, &requests)?,
        false => with_progress(&model, &requests, args.batch_size)?,
    };
    if on_terminal {
        return Ok(());
    }
    let mut lines = Vec::new();
    for (prompt, samples) in prompts.iter().zip(&answers) {
        for (i, answer) in samples.iter().enumerate() {
            let mut line = line(prompt, answer, args.sampling.logprobs.is_some());
            if args.samples > 1 {
                line["sample"] = json!(i);
            }
            lines.push(line);
        }
    }
    match &args.output {
        Some(path) => jsonl::write(path, lines)?,
        None => lines.iter().for_each(|line| println!("{line}")),
    }
    Ok(())
}

/// A prompt's seed for its only sample, one derived from it for each of several.
fn seeds(seed: Seed, samples: u64) -> Vec<Seed> {
    match samples {
        1 => vec![seed],
        _ => (0..samples).map(|i| seed.index(i)).collect(),
    }
}

/// Writes the answer to standard output as it grows.
fn print_live(model: &LanguageModel, requests: &[Request]) -> Result<Vec<Vec<Generation>>> {
    let mut failed = None;
    let answers = complete(model, requests, 1, &mut |_, event| {
        let (Event::Token { text, .. } | Event::Finished { text, .. }) = event;
        let mut out = io::stdout().lock();
        if let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            failed = Some(error);
            return ControlFlow::Break(());
        }
        go_on()
    })?;
    println!();
    match (answers, failed) {
        (Some(answers), _) => Ok(answers),
        (None, Some(error)) => Err(error).context("cannot write to standard output"),
        (None, None) => bail!("interrupted"),
    }
}

fn with_progress(
    model: &LanguageModel,
    requests: &[Request],
    batch_size: usize,
) -> Result<Vec<Vec<Generation>>> {
    let samples: usize = requests.iter().map(|request| request.seeds.len()).sum();
    let mut progress = Progress::new("generate", samples as u64, Verbosity::Auto);
    let mut tokens = 0;
    let answers = complete(model, requests, batch_size, &mut |_, event| {
        match event {
            Event::Token { .. } => tokens += 1,
            Event::Finished { .. } => {
                progress.message(format!("{tokens} tokens"));
                progress.advance(1);
            }
        }
        go_on()
    })?;
    let Some(answers) = answers else {
        bail!("interrupted; nothing was written");
    };
    progress.finish("");
    Ok(answers)
}

fn go_on() -> ControlFlow<()> {
    if interrupt::requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

fn line(prompt: &Prompt, answer: &Generation, logprobs: bool) -> Value {
    let mut line = json!({
        "prompt": prompt.prompt,
        "completion": answer.text,
        "finish": answer.finish,
        "tokens": answer.ids.len(),
        "logprob": answer.logprob,
    });
    if logprobs {
        line["ids"] = json!(answer.ids);
        line["token_logprobs"] = json!(answer.token_logprobs);
        line["top_logprobs"] = json!(answer.top_logprobs);
    }
    line
}
