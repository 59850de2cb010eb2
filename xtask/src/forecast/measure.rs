//! What a forecast is made from: how many records there are and how long, and how fast the model works
//! on this machine, measured for some seconds.

use std::{collections::BTreeMap, path::Path, time::Instant};

use anyhow::{Context, Result, bail};
use cai_data::{
    constitution::Constitution,
    jsonl,
    record::{Conversation, EvalPrompt, Message, PreferencePair},
    seed::Seed,
};
use cai_model::{
    generate::{SamplingConfig, generate},
    model::LanguageModel,
    tokenizer::ChatTokenizer,
};
use critique_revision::CritiquePrompt;
use helpful_sft::SftConfig;
use serde::de::DeserializeOwned;

use super::{Data, Rates, Records};
use crate::{config::Config, pipeline::Stage};

/// Records of a kind whose tokens are counted; their mean stands for all.
const COUNTED: usize = 64;
/// Tokens that each row writes while it is timed.
const WRITTEN: usize = 12;
/// Rows that are read, and conversations that are trained on, while it is timed.
const ROWS: usize = 8;
const TRAINED: usize = 2;

/// The records of the data stage, whose files are in `dir`.
pub fn data(config: &Config, dir: &Path, tokenizer: &ChatTokenizer) -> Result<Data> {
    let prompt = |messages: &[Message]| Ok(tokenizer.prompt(messages)?.len());
    let dialogue = |messages: &[Message]| {
        let texts: Vec<&str> = messages.iter().map(|message| message.content.as_str()).collect();
        Ok(tokenizer.encode(&texts.join("\n"))?.len())
    };
    let Constitution { principles, few_shot, .. } = Constitution::read(&config.constitution)?;
    let requests = principles.iter().map(|principle| {
        let texts = [principle.critique_request.as_str(), &principle.revision_request];
        Ok(tokenizer.encode(&texts.join("\n"))?.len())
    });
    let requests = requests.collect::<Result<Vec<usize>>>()?;
    let examples: Vec<Message> =
        few_shot.into_iter().take(config.critique.few_shot).flatten().collect();
    Ok(Data {
        helpful: count(dir, "helpful", |c: &Conversation| dialogue(&c.messages))?,
        red_team: count(dir, "red_team", |p: &CritiquePrompt| prompt(&p.prompt))?,
        harmless: count(dir, "harmless", |p: &CritiquePrompt| prompt(&p.prompt))?,
        pairs: count(dir, "pairs", |p: &PreferencePair| {
            dialogue(&[&p.prompt[..], &p.chosen, &p.rejected].concat())
        })?,
        evaluation: count(dir, "evaluation", |p: &EvalPrompt| prompt(&p.prompt))?,
        requests: requests.iter().sum::<usize>() as f64 / requests.len().max(1) as f64,
        examples: dialogue(&examples)? as f64,
    })
}

fn count<T: DeserializeOwned>(
    dir: &Path,
    name: &str,
    tokens: impl Fn(&T) -> Result<usize>,
) -> Result<Records> {
    let records: Vec<T> = jsonl::read(&dir.join(format!("{name}.jsonl")))?;
    let step = records.len().div_ceil(COUNTED).max(1);
    let lengths = records.iter().step_by(step).map(tokens).collect::<Result<Vec<_>>>()?;
    let mean = lengths.iter().sum::<usize>() as f64 / lengths.len().max(1) as f64;
    Ok(Records { count: records.len() as f64, tokens: mean })
}

/// How fast `model` reads and writes and is trained, on the conversations in `dir`.
pub fn rates(config: &Config, dir: &Path, model: LanguageModel) -> Result<Rates> {
    let conversations: Vec<Conversation> = jsonl::read(&dir.join("helpful.jsonl"))?;
    if conversations.is_empty() {
        bail!("data.files.helpful: no conversation to measure with");
    }
    let first = |c: &Conversation| model.tokenizer.prompt(&c.messages[..c.messages.len().min(1)]);
    let prompts = conversations.iter().take(ROWS).map(first).collect::<Result<Vec<_>, _>>()?;
    let write = |rows: usize, tokens: usize| -> Result<(f64, f64)> {
        let rows: Vec<Vec<u32>> = prompts.iter().cycle().take(rows).cloned().collect();
        let seeds = vec![Seed(config.seed); rows.len()];
        let begin = Instant::now();
        let sampling = SamplingConfig::greedy(tokens);
        let made = generate(&model, &rows, &sampling, &seeds, rows.len(), &mut |_| {})?;
        let written: usize = made.iter().map(|generation| generation.ids.len()).sum();
        Ok((begin.elapsed().as_secs_f64(), written as f64))
    };
    // The first pass allocates.
    write(1, 1)?;
    let (seconds, _) = write(ROWS, 1)?;
    let tokens: usize = prompts.iter().cycle().take(ROWS).map(Vec::len).sum();
    let read = tokens as f64 / seconds;
    let mut rates = BTreeMap::new();
    for rows in batches(config) {
        let (reading, _) = write(rows, 1)?;
        let (all, written) = write(rows, WRITTEN)?;
        // What is left of each row after its first token.
        let rest = (written - rows as f64).max(1.0);
        rates.insert(rows, rest / (all - reading).max(1e-6));
    }
    let train = training(config, &conversations, model)?;
    Ok(Rates { read, write: rates, train })
}

/// The batch sizes at which the run's stages write.
fn batches(config: &Config) -> Vec<usize> {
    let all = [
        (Stage::Critique, config.critique.batch_size),
        (Stage::Feedback, config.feedback.batch_size),
        (Stage::Evaluate, config.evaluation.batch_size),
    ];
    let mut sizes: Vec<usize> = all
        .into_iter()
        .filter(|(stage, _)| !config.skip.contains_key(stage))
        .map(|(_, size)| size)
        .collect();
    sizes.sort_unstable();
    sizes.dedup();
    sizes
}

/// Tokens a second in a step of SFT.
fn training(config: &Config, conversations: &[Conversation], model: LanguageModel) -> Result<f64> {
    let few = &conversations[..conversations.len().min(TRAINED)];
    let mut tokens = 0;
    for conversation in few {
        let example =
            model.tokenizer.conversation(&conversation.messages, config.sft.turns.into())?;
        tokens += example.ids.len().min(config.sft.max_length);
    }
    let model = model.add_adapter(&config.sft.lora, Seed(config.seed))?;
    let mut sft = SftConfig { held_out: 0.0, ..config.sft.clone() };
    sft.train.max_steps = 1;
    sft.train.per_device_train_batch_size = few.len();
    sft.train.gradient_accumulation_steps = 1;
    sft.train.tracking = Default::default();
    let dir = tempfile::tempdir().context("a folder for the step that is timed")?;
    let begin = Instant::now();
    helpful_sft::run(model, few, &sft, dir.path(), "forecast")?;
    Ok(tokens as f64 / begin.elapsed().as_secs_f64())
}
