use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use cai_data::record::{Message, PromptCategory, Role};
use cai_model::device;
use clap::Args;
use evaluator::HarmScorer;
use evaluator::principles::{Evaluators, Exchange, Risk};
use safety_classifier::SafetyClassifier;
use serde::Deserialize;

/// Judge any answers: one line of scores for each line of {"prompt", "response"}, in order.
///
/// Each line written is {"refusal": "full" | "partial" | "none", "harm_prevention", "truthfulness",
/// "helpfulness", "fairness", "overall", "explanation"}, scores from 0 to 1. No model is needed.
#[derive(Args)]
pub struct JudgeArgs {
    /// JSONL of {"prompt": text or [messages], "response": text}; "category" (harmful, harmless,
    /// borderline), if given, is the request's label. "-" reads standard input.
    #[arg(long)]
    input: PathBuf,
    /// JSONL to write; "-" writes standard output.
    #[arg(long)]
    output: PathBuf,
    /// Safety classifier whose probabilities of harm are used for requests and responses.
    #[arg(long)]
    classifier: Option<PathBuf>,
    /// Where the classifier runs: cpu, cuda[:n], vulkan[:n], wgpu[:n].
    #[arg(long, default_value = "cpu")]
    device: String,
}

#[derive(Deserialize)]
struct Line {
    prompt: PromptText,
    response: String,
    #[serde(default)]
    category: Option<PromptCategory>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum PromptText {
    Text(String),
    Messages(Vec<Message>),
}

impl PromptText {
    /// The user's last turn; `None` if there is none.
    fn request(&self) -> Option<&str> {
        match self {
            PromptText::Text(text) => Some(text),
            PromptText::Messages(messages) => messages
                .iter()
                .rev()
                .find(|message| message.role == Role::User)
                .map(|message| message.content.as_str()),
        }
    }
}

/// Runs the command.
pub fn run(args: JudgeArgs) -> Result<()> {
    let lines = read(&args.input)?;
    let harms = match &args.classifier {
        Some(folder) => Some(harms(folder, &args.device, &lines)?),
        None => None,
    };
    let evaluators = Evaluators::default();
    let mut output = Vec::new();
    for (i, line) in lines.iter().enumerate() {
        let request = line.prompt.request().unwrap_or_default();
        let of_request = harms.as_ref().map(|(requests, _)| requests[i]);
        let of_reply = harms.as_ref().map(|(_, replies)| replies[i]);
        let risk = Risk::of(request, line.category, of_request);
        let exchange = Exchange::new(request, &line.response, risk, of_reply);
        serde_json::to_writer(&mut output, &evaluators.assess(&exchange))?;
        output.push(b'\n');
    }
    if args.output == Path::new("-") {
        std::io::stdout().write_all(&output).context("cannot write to standard output")
    } else {
        Ok(cai_data::atomic::write(&args.output, &output)?)
    }
}

/// Reads all lines; blank ones are skipped, any other that is no record is an error with its number.
fn read(path: &Path) -> Result<Vec<Line>> {
    if path != Path::new("-") {
        let lines: Vec<Line> = cai_data::jsonl::read(path)?;
        return check(lines, &path.display().to_string());
    }
    let mut lines = Vec::new();
    for (i, line) in std::io::stdin().lock().lines().enumerate() {
        let line = line.context("cannot read standard input")?;
        if !line.trim().is_empty() {
            let parsed = serde_json::from_str(&line);
            lines.push(parsed.with_context(|| format!("standard input:{}", i + 1))?);
        }
    }
    check(lines, "standard input")
}

fn check(lines: Vec<Line>, place: &str) -> Result<Vec<Line>> {
    if lines.is_empty() {
        bail!("{place} has no line to judge; give at least one {{\"prompt\", \"response\"}}");
    }
    if let Some(i) = lines.iter().position(|line| line.prompt.request().is_none()) {
        bail!(
            "{place}: record {}: the prompt has no turn of the user; give one to judge by",
            i + 1
        );
    }
    Ok(lines)
}

/// P(harm) of all requests and of all responses.
fn harms(folder: &Path, device: &str, lines: &[Line]) -> Result<(Vec<f64>, Vec<f64>)> {
    let classifier = SafetyClassifier::load(folder, &device::parse(device)?)?;
    let pairs = |text: fn(&Line) -> &str| -> Vec<(String, String)> {
        lines.iter().map(|line| (String::new(), text(line).to_owned())).collect()
    };
    let requests = classifier.harm(&pairs(|line| line.prompt.request().unwrap_or_default()))?;
    let replies = classifier.harm(&pairs(|line| &line.response))?;
    Ok((requests, replies))
}
