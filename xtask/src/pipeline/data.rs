//! The data stage: one file of records for each use, whatever they come from.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Result, bail};
use cai_data::{
    atomic, dataset, jsonl,
    record::{Conversation, EvalPrompt, LabelledText, PreferencePair},
    world::World,
};
use critique_revision::CritiquePrompt;
use serde::Serialize;

use crate::{
    config::{Config, DataConfig, FileData, WorldData},
    input,
    pipeline::Stage,
};

/// What was read and what was left out.
#[derive(Default, Serialize)]
struct Report {
    /// Records of each file that was written.
    written: BTreeMap<String, usize>,
    /// Records read, used and left out by reason, of each source file.
    sources: BTreeMap<String, Source>,
}

#[derive(Default, Serialize)]
struct Source {
    total: usize,
    used: usize,
    left_out: BTreeMap<String, usize>,
}

/// The files that the stage reads.
pub fn inputs(config: &DataConfig) -> Result<Vec<PathBuf>> {
    match config {
        DataConfig::World(_) => Ok(Vec::new()),
        DataConfig::Files(files) => {
            files.sources().map(|source| Ok(input::file(source)?.path)).collect()
        }
    }
}

/// Writes the records of all stages into `dir`.
pub fn run(config: &Config, dir: &Path) -> Result<String> {
    let mut report = Report::default();
    match &config.data {
        DataConfig::World(counts) => world(config, counts, dir, &mut report)?,
        DataConfig::Files(files) => from_files(config, files, dir, &mut report)?,
    }
    atomic::write_json(&dir.join("report.json"), &report)?;
    let sources: Vec<String> = report.sources.values().map(describe).collect();
    let written: Vec<String> =
        report.written.iter().map(|(name, n)| format!("{n} {name}")).collect();
    Ok([sources, written].concat().join(", "))
}

fn describe(source: &Source) -> String {
    let reasons: Vec<String> =
        source.left_out.iter().map(|(reason, n)| format!("{n} {reason}")).collect();
    format!("{} of {} records used (left out: {})", source.used, source.total, reasons.join(", "))
}

fn world(config: &Config, counts: &WorldData, dir: &Path, report: &mut Report) -> Result<()> {
    let world = World::new();
    let seed = config.data_seed();
    let helpful = world.helpful(counts.helpful, seed.derive("helpful"));
    // The helpful replies that SL-CAI keeps must not teach it to comply with harm again.
    let is_safe = |c: &&Conversation| {
        let topic = c.extra.get("topic").and_then(|id| world.topic(id.as_str()?));
        topic.is_some_and(|topic| !topic.is_harmful())
    };
    let sl_cai_helpful: Vec<&Conversation> = helpful.iter().filter(is_safe).collect();
    let prompts =
        |records: Vec<_>| records.into_iter().map(CritiquePrompt::from).collect::<Vec<_>>();
    let red_team = prompts(world.red_team(counts.red_team, seed.derive("red_team")));
    let harmless = prompts(world.harmless(counts.harmless, seed.derive("harmless")));
    let labelled = world.labelled(counts.labelled, seed.derive("labelled"));
    let pairs = world.helpful_pairs(counts.helpful_pairs, seed.derive("helpful_pairs"));
    let evaluation = world.evaluation(counts.evaluation_per_topic, seed.derive("evaluation"));
    save(dir, "helpful", &helpful, report)?;
    save(dir, "sl_cai_helpful", &sl_cai_helpful, report)?;
    save(dir, "red_team", &red_team, report)?;
    save(dir, "harmless", &harmless, report)?;
    save(dir, "labelled", &labelled, report)?;
    save(dir, "pairs", &pairs, report)?;
    save(dir, "evaluation", &evaluation, report)
}

fn from_files(config: &Config, files: &FileData, dir: &Path, report: &mut Report) -> Result<()> {
    let limit = files.limit.unwrap_or(usize::MAX);
    let pairs = match &files.pairs {
        Some(source) => {
            let pairs = pairs(source, files, report)?;
            save(dir, "pairs", &pairs, report)?;
            pairs
        }
        None => Vec::new(),
    };
    let helpful: Vec<Conversation> = match &files.helpful {
        Some(source) => conversations(source, files, report)?.into_iter().take(limit).collect(),
        None => pairs.iter().map(|pair| pair.chosen_conversation()).collect(),
    };
    save(dir, "helpful", &helpful, report)?;
    save(dir, "sl_cai_helpful", &helpful, report)?;
    for (name, source) in [("red_team", &files.red_team), ("harmless", &files.harmless)] {
        if let Some(source) = source {
            let prompts: Vec<_> = prompts(source, files, report)?.into_iter().take(limit).collect();
            save(dir, name, &prompts, report)?;
        }
    }
    if let Some(source) = &files.labelled {
        let path = input::file(source)?.path;
        let texts: Vec<LabelledText> = jsonl::read(&path)?;
        save(dir, "labelled", texts.iter().take(limit), report)?;
    }
    if let Some(source) = &files.evaluation {
        let prompts: Vec<EvalPrompt> = jsonl::read(&input::file(source)?.path)?;
        save(dir, "evaluation", &prompts, report)?;
    }
    check_complete(config, dir)
}

/// Conversations as they are, or the chosen replies of preference pairs.
fn conversations(source: &str, files: &FileData, report: &mut Report) -> Result<Vec<Conversation>> {
    let path = input::file(source)?.path;
    if !holds_pairs(&path)? {
        return Ok(dataset::read_conversations(&path)?);
    }
    let pairs = pairs(source, files, report)?;
    Ok(pairs.iter().map(|pair| pair.chosen_conversation()).collect())
}

/// Prompts as they are, or those of preference pairs. A prompt's id is its place in the file.
fn prompts(source: &str, files: &FileData, report: &mut Report) -> Result<Vec<CritiquePrompt>> {
    let path = input::file(source)?.path;
    let prompts: Vec<_> = match holds_pairs(&path)? {
        true => pairs(source, files, report)?.into_iter().map(|pair| pair.prompt).collect(),
        false => dataset::read_prompts(&path)?.into_iter().map(|p| p.prompt).collect(),
    };
    let number = |(i, prompt)| CritiquePrompt {
        id: format!("{}-{i}", path.file_stem().unwrap_or_default().to_string_lossy()),
        prompt,
        extra: Default::default(),
    };
    Ok(prompts.into_iter().enumerate().map(number).collect())
}

/// Preference pairs, with what was left out of them in the report.
fn pairs(source: &str, files: &FileData, report: &mut Report) -> Result<Vec<PreferencePair>> {
    let mut read = dataset::read_pairs(&input::file(source)?.path, &files.policy())?;
    let over = read.pairs.len().saturating_sub(files.limit.unwrap_or(usize::MAX));
    read.pairs.truncate(read.pairs.len() - over);
    if over > 0 {
        read.counts.insert("over_limit".into(), over);
    }
    let counts = Source { total: read.total, used: read.pairs.len(), left_out: read.counts };
    report.sources.insert(source.into(), counts);
    Ok(read.pairs)
}

/// Whether the first record of a file is a preference pair.
fn holds_pairs(path: &Path) -> Result<bool> {
    let first = jsonl::Reader::<serde_json::Value>::open(path)?.next();
    Ok(first.transpose()?.is_some_and(|line| line.value.get("chosen").is_some()))
}

/// Every stage that runs has its records.
fn check_complete(config: &Config, dir: &Path) -> Result<()> {
    let needs = [
        (Stage::Classifier, "labelled", "data.files.labelled"),
        (Stage::Critique, "red_team", "data.files.red_team"),
        (Stage::Feedback, "harmless", "data.files.harmless"),
        (Stage::Evaluate, "evaluation", "data.files.evaluation"),
    ];
    for (stage, name, key) in needs {
        if !config.skip.contains_key(&stage) && !dir.join(format!("{name}.jsonl")).exists() {
            bail!("stage {stage} needs {key}: set it, or name the stage under skip");
        }
    }
    Ok(())
}

fn save<T: Serialize>(
    dir: &Path,
    name: &str,
    records: impl IntoIterator<Item = T>,
    report: &mut Report,
) -> Result<()> {
    let records: Vec<T> = records.into_iter().collect();
    jsonl::write(&dir.join(format!("{name}.jsonl")), &records)?;
    report.written.insert(name.into(), records.len());
    Ok(())
}
