use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use cai_data::{jsonl, record::Message};
use cai_model::{
    model::LanguageModel,
    score::{CompletionScore, LogprobChange, score},
    tokenizer::Example,
};
use cai_train::{Progress, Verbosity};
use clap::Args;
use serde::{Deserialize, Serialize};

use super::ModelArgs;

/// Log-probabilities of completions: one line of {"logprob", "tokens"} for each input line.
#[derive(Args)]
pub struct ScoreArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// JSONL of {"prompt": text or [messages], "completion": text}. With messages, the completion is
    /// what the chat template adds for the assistant's turn; with text, the text as it is.
    #[arg(long)]
    input: PathBuf,
    /// JSONL to write.
    #[arg(long)]
    output: PathBuf,
    /// Write each token's log-probability too.
    #[arg(long)]
    tokens: bool,
    /// With --quantize: score with the base as it is stored too, and print what changes.
    #[arg(long, requires = "quantize")]
    compare: bool,
    /// Completions scored together.
    #[arg(long, default_value_t = 16)]
    batch_size: usize,
}

#[derive(Deserialize)]
struct Line {
    prompt: PromptText,
    completion: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum PromptText {
    Text(String),
    Messages(Vec<Message>),
}

#[derive(Serialize)]
struct Scored {
    logprob: f64,
    tokens: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_logprobs: Option<Vec<f32>>,
}

/// Runs the command.
pub fn run(args: ScoreArgs) -> Result<()> {
    let lines: Vec<Line> = jsonl::read(&args.input)?;
    if lines.is_empty() {
        bail!("{} has no line to score; give a file with at least one", args.input.display());
    }
    let model = args.model.load()?;
    let place = |i| format!("{}: record {}", args.input.display(), i + 1);
    let examples = lines
        .iter()
        .enumerate()
        .map(|(i, line)| example(&model, line).with_context(|| place(i)))
        .collect::<Result<Vec<_>>>()?;
    let run = |model: &LanguageModel| -> Result<Vec<CompletionScore>> {
        let mut progress = Progress::new("score", examples.len() as u64, Verbosity::Auto);
        let mut on_done = |n: usize| progress.advance(n as u64);
        let scores = score(model, &examples, args.batch_size, &mut on_done)
            .with_context(|| args.input.display().to_string())?;
        progress.finish("");
        Ok(scores)
    };
    let scores = run(&model)?;
    if args.compare {
        let per_weight = model.decoder.bytes_per_weight();
        drop(model);
        let mut stored = args.model.clone();
        stored.base.quantize = None;
        let stored = stored.load()?;
        let change = LogprobChange::new(&run(&stored)?, &scores);
        println!(
            "{per_weight:.4} bytes per weight, stored {:.4}; mean log-probability of {} tokens {:.5}, \
             stored {:.5}; absolute change {:.5} on average, {:.4} at most",
            stored.decoder.bytes_per_weight(),
            change.tokens,
            change.after,
            change.before,
            change.mean_absolute,
            change.largest
        );
    }
    let records = scores.into_iter().map(|score| Scored {
        logprob: score.logprob,
        tokens: score.tokens,
        token_logprobs: args.tokens.then_some(score.token_logprobs),
    });
    Ok(jsonl::write(&args.output, records)?)
}

fn example(model: &LanguageModel, line: &Line) -> Result<Example> {
    let tokenizer = &model.tokenizer;
    match &line.prompt {
        PromptText::Messages(messages) => {
            Ok(tokenizer.completion(messages, &[Message::assistant(&line.completion)])?)
        }
        PromptText::Text(prompt) => Ok(tokenizer.text_completion(prompt, &line.completion)?),
    }
}
