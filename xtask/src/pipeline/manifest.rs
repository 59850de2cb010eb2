//! `manifest.json`: what each stage was made from and what it made.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use cai_data::{atomic, hash};
use serde::{Deserialize, Serialize};

use super::Step;

/// The record of a run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Manifest {
    /// The run's name.
    pub run: String,
    /// Version of this program.
    pub version: String,
    /// Git revision of the checkout, if it is one.
    #[serde(default)]
    pub revision: Option<String>,
    /// Inputs that came from the hub, with their commits.
    #[serde(default)]
    pub hub: Vec<String>,
    /// The finished stages.
    pub stages: BTreeMap<Step, StageRecord>,
    /// Those that were begun and not finished, perhaps to replace a finished one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unfinished: BTreeMap<Step, StageRecord>,
}

/// How far a stage is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Begun and not finished: an interrupted stage resumes.
    Running,
    /// Finished.
    Done,
}

/// One stage.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StageRecord {
    /// How far it is.
    pub status: Status,
    /// Hash over its settings and inputs: another key means that it must run again.
    pub key: String,
    /// Hash of each input, by path.
    pub inputs: BTreeMap<String, String>,
    /// Hash of each output, by path below the run.
    pub outputs: BTreeMap<String, String>,
    /// Its seed.
    pub seed: u64,
    /// Seconds it took, all its sittings together.
    pub wall_seconds: f64,
}

impl Manifest {
    /// Reads the manifest of the run in `dir`; an empty one if there is none.
    ///
    /// # Errors
    ///
    /// When the file is damaged.
    pub fn read(dir: &Path) -> Result<Self> {
        let path = Self::path(dir);
        if !path.exists() {
            return Ok(Self::default());
        }
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        serde_json::from_str(&text).with_context(|| {
            format!("{}: damaged; delete it and the run starts anew", path.display())
        })
    }

    /// Writes it.
    ///
    /// # Errors
    ///
    /// I/O errors.
    pub fn write(&self, dir: &Path) -> Result<()> {
        Ok(atomic::write_json(&Self::path(dir), self)?)
    }

    fn path(dir: &Path) -> PathBuf {
        dir.join("manifest.json")
    }

    /// Whether `step` is finished with this key and its outputs are as it left them.
    pub fn is_current(&self, step: Step, key: &str, dir: &Path) -> bool {
        let Some(record) = self.stages.get(&step) else { return false };
        let same = |(path, sha): (&String, &String)| {
            hash::file(&dir.join(path)).is_ok_and(|now| now == *sha)
        };
        record.status == Status::Done && record.key == key && record.outputs.iter().all(same)
    }
}

/// Hash of every file below `dir`, by path below `root`. Logs and event files, which hold times,
/// are left out, and so are half-written files.
///
/// # Errors
///
/// I/O errors.
pub fn hash_outputs(root: &Path, dir: &Path) -> Result<BTreeMap<String, String>> {
    let mut outputs = BTreeMap::new();
    let mut folders = vec![dir.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
        for entry in entries {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with('.') || name == "tensorboard" {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else {
                let below = path.strip_prefix(root).unwrap_or(&path).display().to_string();
                outputs.insert(below, hash::file(&path)?);
            }
        }
    }
    Ok(outputs)
}
