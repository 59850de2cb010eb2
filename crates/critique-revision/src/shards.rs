//! Work cut in shards, for several processes or machines, and put together again.
//!
//! Shard `i` of `n` does the blocks `i`, `i + n`, `i + 2n`, … of the whole, so that merged shards are
//! byte-equal to one run. Each shard writes the run's plan beside its file: what the merge needs to
//! see that nothing is missing.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use cai_data::constitution::Constitution;
use cai_data::{atomic, jsonl};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::blocks::{Line, part};
use crate::prompts::{CritiquePrompt, Usable};
use crate::{Error, Result};

/// One of several shards of a run: `0/4` is the first of four.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Which, from 0.
    pub index: usize,
    /// Of how many.
    pub of: usize,
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let numbers = text.split_once('/').and_then(|(index, of)| {
            let shard = Self { index: index.parse().ok()?, of: of.parse().ok()? };
            (shard.index < shard.of).then_some(shard)
        });
        numbers.ok_or_else(|| format!("{text:?} is no shard; write I/N with I from 0 to N - 1"))
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

/// The folder of shards within a run's folder.
const FOLDER: &str = "shards";

impl Shard {
    /// The shard's own file for the records of `file` (such as `critiques.jsonl`) in `dir`.
    pub(crate) fn path(self, dir: &Path, file: &str) -> PathBuf {
        let stem = file.strip_suffix(".jsonl").unwrap_or(file);
        dir.join(FOLDER).join(format!("{stem}-{}-of-{}.jsonl", self.index, self.of))
    }

    /// Its prompts: every `of`-th block.
    pub(crate) fn of_prompts(
        self,
        prompts: &[CritiquePrompt],
        block: usize,
    ) -> Vec<CritiquePrompt> {
        prompts.chunks(block).skip(self.index).step_by(self.of).flatten().cloned().collect()
    }
}

/// What a run does: enough to merge its shards and to report on its records.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Plan<C> {
    /// Names everything that decides the records.
    pub run: String,
    /// Prompts given, those left out included.
    pub given: usize,
    /// Prompts left out, by reason.
    pub left_out: std::collections::BTreeMap<String, usize>,
    /// The settings.
    pub config: C,
    /// The principles.
    pub constitution: Constitution,
    /// The ids of the prompts, in order.
    pub ids: Vec<String>,
}

impl<C: Serialize + DeserializeOwned + Clone> Plan<C> {
    pub(crate) fn new(run: &str, usable: &Usable, config: &C, constitution: &Constitution) -> Self {
        Self {
            run: run.to_owned(),
            given: usable.given,
            left_out: usable.left_out.clone(),
            config: config.clone(),
            constitution: constitution.clone(),
            ids: usable.prompts.iter().map(|prompt| prompt.id.clone()).collect(),
        }
    }

    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        Ok(atomic::write_json(path, self)?)
    }

    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).map_err(cai_data::Error::read(path))?;
        serde_json::from_str(&text).map_err(|error| Error::Shards {
            path: path.to_owned(),
            reason: format!("{error}; the plan is damaged: run the command again"),
        })
    }

    /// The records of a finished run, whole and in the plan's order.
    pub(crate) fn records<T: Line>(&self, path: &Path) -> Result<Vec<T>> {
        let records: Vec<T> = jsonl::read(path)?;
        self.check(&records, self.ids.iter(), path)?;
        Ok(records)
    }

    /// The records of all shards of `file`, found in `dir` and the folders of `others`, put into the
    /// order of one run.
    pub(crate) fn merged<T: Line>(
        &self,
        file: &str,
        block: usize,
        dir: &Path,
        others: &[PathBuf],
    ) -> Result<Vec<T>> {
        let folders: Vec<&Path> =
            std::iter::once(dir).chain(others.iter().map(PathBuf::as_path)).collect();
        let of = count_of(file, &folders, dir)?;
        let mut shards = Vec::with_capacity(of);
        let mut missing = Vec::new();
        for index in 0..of {
            let shard = Shard { index, of };
            let paths: Vec<PathBuf> = folders.iter().map(|dir| shard.path(dir, file)).collect();
            match paths.iter().find(|path| path.exists()) {
                Some(path) => shards.push(self.shard::<T>(shard, path, block)?.into_iter()),
                None if paths.iter().any(|path| part(path).exists()) => {
                    missing.push(format!("{shard} (begun, not finished)"));
                }
                None => missing.push(shard.to_string()),
            }
        }
        if !missing.is_empty() {
            let reason = format!(
                "shards are missing: {}; run the same command with --shard for each of them, then \
                 merge again",
                missing.join(", ")
            );
            return Err(Error::Shards { path: dir.join(FOLDER), reason });
        }
        let blocks = self.ids.len().div_ceil(block);
        Ok((0..blocks)
            .flat_map(|i| shards[i % of].by_ref().take(block).collect::<Vec<_>>())
            .collect())
    }

    fn shard<T: Line>(&self, shard: Shard, path: &Path, block: usize) -> Result<Vec<T>> {
        let records: Vec<T> = jsonl::read(path)?;
        let ids = self.ids.chunks(block).skip(shard.index).step_by(shard.of).flatten();
        self.check(&records, ids, path)?;
        Ok(records)
    }

    /// Every id has its record, once, in order, of this run.
    fn check<'a, T: Line>(
        &self,
        records: &[T],
        ids: impl Iterator<Item = &'a String>,
        path: &Path,
    ) -> Result<()> {
        let ids: Vec<&String> = ids.collect();
        let fail = |reason: String| Err(Error::Shards { path: path.to_owned(), reason });
        if let Some(other) = records.iter().find(|record| record.run() != self.run) {
            return fail(format!(
                "made by run {} and the plan is of run {}; make it again with the same model, \
                 prompts and settings",
                other.run(),
                self.run
            ));
        }
        let matches = records.iter().zip(&ids).take_while(|(record, id)| record.id() == **id);
        let matching = matches.count();
        if matching < ids.len() || records.len() > ids.len() {
            return fail(format!(
                "holds {} records of which {matching} are the planned ones, {} are planned; make it \
                 again",
                records.len(),
                ids.len()
            ));
        }
        Ok(())
    }
}

/// Of how many shards the files in `folders` are.
fn count_of(file: &str, folders: &[&Path], dir: &Path) -> Result<usize> {
    let stem = file.strip_suffix(".jsonl").unwrap_or(file);
    let mut counts = Vec::new();
    for folder in folders.iter().map(|dir| dir.join(FOLDER)).filter(|folder| folder.is_dir()) {
        for entry in fs::read_dir(&folder).map_err(cai_data::Error::read(&folder))? {
            let name = entry.map_err(cai_data::Error::read(&folder))?.file_name();
            let of = name.to_str().and_then(|name| {
                let (_, of) = name.strip_prefix(stem)?.split_once("-of-")?;
                of.split('.').next()?.parse::<usize>().ok()
            });
            counts.extend(of.filter(|of| *of > 0));
        }
    }
    counts.sort_unstable();
    counts.dedup();
    match counts[..] {
        [of] => Ok(of),
        [] => Err(Error::Shards {
            path: dir.join(FOLDER),
            reason: "there are no shards; run the command with --shard 0/N, 1/N, … first".into(),
        }),
        _ => Err(Error::Shards {
            path: dir.join(FOLDER),
            reason: format!("shards of different counts ({counts:?}); remove those of one count"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_written_as_fractions_and_take_whole_blocks() {
        assert_eq!("1/4".parse(), Ok(Shard { index: 1, of: 4 }));
        for text in ["4/4", "1", "a/b", "-1/2", "0/0"] {
            assert!(text.parse::<Shard>().unwrap_err().contains("I/N"), "{text}");
        }
        let prompt = |i: usize| CritiquePrompt {
            id: i.to_string(),
            prompt: Vec::new(),
            extra: Default::default(),
        };
        let prompts: Vec<_> = (0..11).map(prompt).collect();
        let ids = |index| -> Vec<String> {
            let shard = Shard { index, of: 2 };
            shard.of_prompts(&prompts, 3).into_iter().map(|prompt| prompt.id).collect()
        };
        assert_eq!(ids(0), ["0", "1", "2", "6", "7", "8"]);
        assert_eq!(ids(1), ["3", "4", "5", "9", "10"]);
    }
}
