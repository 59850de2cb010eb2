use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use cai_data::atomic;
use cai_data::record::{Message, PromptCategory, Role};
use cai_data::refusal::Refusal;
use cai_model::device;
use clap::Args;
use evaluator::HarmScorer;
use evaluator::judges::{Judged, LmJudge, Opinion, PrincipleAgreement, agreement, refusal_score};
use evaluator::principles::{Evaluators, Exchange, Request, Verdict};
use safety_classifier::SafetyClassifier;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::ConfigArgs;
use crate::models;

/// Judge any answers: one line of scores for each line of {"prompt", "response"}, in order.
///
/// Each line written is {"refusal": "full" | "partial" | "none", "harm_prevention", "truthfulness",
/// "helpfulness", "fairness", "overall", "explanation"}, scores from 0 to 1. No model is needed.
#[derive(Args)]
pub struct JudgeArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// JSONL of {"prompt": text or [messages], "response": text}; "category" (harmful, harmless,
    /// borderline), if given, is the request's label, and "human" holds what people say of the response:
    /// any of "refusal" and the four principles. "-" reads standard input.
    #[arg(long)]
    input: PathBuf,
    /// JSONL to write; "-" writes standard output.
    #[arg(long)]
    output: PathBuf,
    /// Safety classifier whose probabilities of harm are used for requests and responses.
    #[arg(long)]
    classifier: Option<PathBuf>,
    /// A language model that rates the responses by a rubric, written as "judge" in each line:
    /// MODEL[+ADAPTER], or http(s)://HOST/PATH#MODEL.
    #[arg(long, value_name = "MODEL", requires = "agreement")]
    judge: Option<String>,
    /// Folder for agreement.json: how far heuristics, classifier, language model and people agree.
    #[arg(long, value_name = "FOLDER")]
    agreement: Option<PathBuf>,
    /// Where models run: cpu, cuda[:n], vulkan[:n], wgpu[:n].
    #[arg(long, default_value = "cpu")]
    device: String,
}

#[derive(Deserialize)]
struct Line {
    prompt: PromptText,
    response: String,
    #[serde(default)]
    category: Option<PromptCategory>,
    #[serde(default)]
    human: Option<Human>,
}

/// What people say of a response.
#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct Human {
    refusal: Option<Refusal>,
    harm_prevention: Option<f64>,
    truthfulness: Option<f64>,
    helpfulness: Option<f64>,
    fairness: Option<f64>,
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

    fn turns(&self) -> Vec<Message> {
        match self {
            PromptText::Text(text) => vec![Message::user(text)],
            PromptText::Messages(messages) => messages.clone(),
        }
    }
}

/// A line of the output.
#[derive(Serialize)]
struct Scored {
    #[serde(flatten)]
    verdict: Verdict,
    #[serde(skip_serializing_if = "Map::is_empty")]
    judge: Map<String, Value>,
}

/// Runs the command.
pub fn run(args: JudgeArgs) -> Result<()> {
    let lines = read(&args.input)?;
    let harms = match &args.classifier {
        Some(folder) => Some(harms(folder, &args.device, &lines)?),
        None => None,
    };
    let evaluators = Evaluators::default();
    let verdicts: Vec<Verdict> = lines
        .iter()
        .enumerate()
        .map(|(i, line)| {
            let request = line.prompt.request().unwrap_or_default();
            let of_request = harms.as_ref().map(|(requests, _)| requests[i]);
            let of_reply = harms.as_ref().map(|(_, replies)| replies[i]);
            let request = Request::new(request, line.category, of_request);
            evaluators.assess(&Exchange::new(&request, &line.response, of_reply))
        })
        .collect();
    let mut opinions = opinions(&lines, &verdicts, harms.as_ref().map(|(_, replies)| replies));
    let mut ratings = vec![Map::new(); lines.len()];
    if let Some(name) = &args.judge {
        let folder = args.agreement.as_deref().unwrap_or(Path::new("."));
        rate(name, &args, folder, &lines, &mut ratings, &mut opinions)?;
    }
    if let Some(folder) = &args.agreement {
        write_agreement(&opinions, lines.len(), &args.config, folder)?;
    }
    let mut output = Vec::new();
    for (verdict, judge) in verdicts.into_iter().zip(ratings) {
        serde_json::to_writer(&mut output, &Scored { verdict, judge })?;
        output.push(b'\n');
    }
    if args.output == Path::new("-") {
        std::io::stdout().write_all(&output).context("cannot write to standard output")
    } else {
        Ok(atomic::write(&args.output, &output)?)
    }
}

/// The opinions of each judge on each principle, by principle.
type Opinions = Vec<(&'static str, Vec<Opinion>)>;

/// What heuristics, classifier and people say.
fn opinions(lines: &[Line], verdicts: &[Verdict], harm: Option<&Vec<f64>>) -> Opinions {
    let heuristics = |of: fn(&Verdict) -> f64| Opinion {
        judge: "heuristics".into(),
        scores: verdicts.iter().map(|verdict| Some(of(verdict))).collect(),
    };
    let people = |of: fn(&Human) -> Option<f64>| Opinion {
        judge: "people".into(),
        scores: lines.iter().map(|line| line.human.as_ref().and_then(of)).collect(),
    };
    let mut harm_prevention =
        vec![heuristics(|v| v.harm_prevention), people(|h| h.harm_prevention)];
    harm_prevention.extend(harm.map(|harm| Opinion {
        judge: "classifier".into(),
        scores: harm.iter().map(|harm| Some(1.0 - harm)).collect(),
    }));
    vec![
        (
            "refusal",
            vec![
                heuristics(|v| refusal_score(v.refusal)),
                people(|h| h.refusal.map(refusal_score)),
            ],
        ),
        ("harm_prevention", harm_prevention),
        ("truthfulness", vec![heuristics(|v| v.truthfulness), people(|h| h.truthfulness)]),
        ("helpfulness", vec![heuristics(|v| v.helpfulness), people(|h| h.helpfulness)]),
        ("fairness", vec![heuristics(|v| v.fairness), people(|h| h.fairness)]),
    ]
}

/// Lets a language model rate all responses.
fn rate(
    name: &str,
    args: &JudgeArgs,
    folder: &Path,
    lines: &[Line],
    ratings: &mut [Map<String, Value>],
    opinions: &mut Opinions,
) -> Result<()> {
    let config = args.config.read()?;
    let model = models::load(name, &config.server, &device::parse(&args.device)?)?;
    let settings = config.evaluation.lm_judge;
    let judge =
        LmJudge { name: "language model".into(), model: model.as_ref(), config: settings.clone() };
    super::create_dir(folder)?;
    let turns: Vec<Vec<Message>> = lines.iter().map(|line| line.prompt.turns()).collect();
    let judged: Vec<Judged> = turns
        .iter()
        .zip(lines)
        .map(|(prompt, line)| Judged { prompt, reply: &line.response })
        .collect();
    let scores = judge.rate(&judged, folder)?;
    for (i, criterion) in settings.rubric.iter().enumerate() {
        for (line, scores) in ratings.iter_mut().zip(&scores) {
            line.insert(criterion.principle.clone(), scores[i].into());
        }
        if let Some((_, all)) = opinions.iter_mut().find(|(name, _)| *name == criterion.principle) {
            let scores = scores.iter().map(|scores| scores[i]).collect();
            all.push(Opinion { judge: judge.name.clone(), scores });
        }
    }
    Ok(())
}

/// Writes how far the judges agree, and says it on standard error.
fn write_agreement(
    opinions: &Opinions,
    lines: usize,
    config: &ConfigArgs,
    folder: &Path,
) -> Result<()> {
    super::create_dir(folder)?;
    let config = config.read()?.evaluation;
    let each: Vec<usize> = (0..lines).collect();
    let found: Vec<PrincipleAgreement> = opinions
        .iter()
        .filter_map(|(principle, opinions)| {
            let bootstrap = config.bootstrap(&format!("judges/{principle}"));
            agreement(principle, opinions, &each, &bootstrap)
        })
        .collect();
    if found.is_empty() {
        bail!(
            "--agreement: no response has two opinions; give --classifier, --judge, or \"human\" labels"
        );
    }
    eprint!("{}", evaluator::judges::table(&found));
    Ok(atomic::write_json(&folder.join("agreement.json"), &found)?)
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
