//! The data stage: one file of records for each use, whatever they come from.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use anyhow::Result;
use cai_data::{atomic, jsonl, record::Conversation, world::World};
use critique_revision::CritiquePrompt;
use serde::Serialize;

use super::{counted, files};
use crate::{
    config::{Config, DataConfig, WorldData},
    input,
};

/// What was read and what was left out.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    /// Records of each file that was written.
    written: BTreeMap<String, usize>,
    /// What became of the records of each file that was read.
    pub sources: Vec<SourceReport>,
}

/// Records read, used and left out by reason.
#[derive(Debug, Serialize)]
pub(super) struct SourceReport {
    /// The key below `data.files`.
    pub r#for: String,
    pub path: String,
    pub total: usize,
    pub used: usize,
    pub left_out: BTreeMap<String, usize>,
}

impl fmt::Display for SourceReport {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { r#for: name, used, total, left_out, .. } = self;
        write!(f, "{used} of {total} {name} records used (left out: {})", counted(left_out))
    }
}

/// The files that the stage reads.
pub fn inputs(config: &Config) -> Result<Vec<PathBuf>> {
    config.data_files().into_iter().map(|path| Ok(input::file(path)?.path)).collect()
}

/// Writes the records of all stages into `dir`.
pub fn run(config: &Config, dir: &Path) -> Result<String> {
    let mut report = Report::default();
    match &config.data {
        DataConfig::World(counts) => world(config, counts, dir, &mut report)?,
        DataConfig::Files(files) => files::run(config, files, dir, &mut report)?,
    }
    atomic::write_json(&dir.join("report.json"), &report)?;
    let sources: Vec<String> = report.sources.iter().map(SourceReport::to_string).collect();
    if !sources.is_empty() {
        return Ok(sources.join("; "));
    }
    let written = report.written.iter().map(|(name, n)| format!("{n} {name}"));
    Ok(written.collect::<Vec<_>>().join(", "))
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

/// Writes records into a file of their own.
pub(super) fn save<T: Serialize>(
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
