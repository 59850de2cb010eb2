//! The files of people's choices: preference pairs, a line for each.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Mutex;

use axum::http::StatusCode;
use cai_data::jsonl::Reader;
use cai_data::record::PreferencePair;
use serde::{Deserialize, Serialize};

use crate::api::ApiError;

/// Pairs of which one answer is better: to train on.
const DECIDED: &str = "pairs.jsonl";
/// Pairs of which neither is, with `chosen_probability` 0.5. They have a file of their own, since
/// tools that do not know the field would take the first answer for the better one.
const UNDECIDED: &str = "undecided.jsonl";

/// What a person says of two answers.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Choice {
    /// The first is better.
    A,
    /// The second is better.
    B,
    /// They are equally good.
    #[default]
    Tie,
    /// They are equally bad.
    BothBad,
}

impl Choice {
    /// Whether one of the two is better.
    pub(super) fn is_decided(self) -> bool {
        matches!(self, Choice::A | Choice::B)
    }
}

/// Where a pair comes from: its fields beside prompt, chosen and rejected. Where neither answer is
/// better, `chosen` is A.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Provenance {
    /// `person`.
    pub source: String,
    /// Seconds since 1970.
    pub time: u64,
    pub choice: Choice,
    /// What the evaluator chooses.
    pub evaluator: Choice,
    pub chosen_model: String,
    pub rejected_model: String,
    /// Names the weights.
    pub chosen_fingerprint: String,
    pub rejected_fingerprint: String,
    pub chosen_seed: u64,
    pub rejected_seed: u64,
    /// The evaluator's overall scores.
    pub chosen_score: f64,
    pub rejected_score: f64,
    pub temperature: f64,
    pub max_tokens: usize,
}

/// The choices of a folder, without lines that are none: those of a write that the disk had no room
/// for. The rest of them is good.
pub(super) fn read(folder: &Path) -> Result<Vec<Provenance>, ApiError> {
    let mut choices = Vec::new();
    for path in [DECIDED, UNDECIDED].map(|name| folder.join(name)) {
        if !path.exists() {
            continue;
        }
        for line in Reader::<Provenance>::open(&path).map_err(ApiError::internal)? {
            match line {
                Ok(line) => choices.push(line.value),
                Err(error @ cai_data::Error::Malformed { .. }) => tracing::warn!("{error}"),
                Err(error) => return Err(ApiError::internal(error)),
            }
        }
    }
    Ok(choices)
}

/// Keeps a choice: it is on disk when this returns. The folder is made at the first one.
pub(super) fn add(folder: &Path, pair: &PreferencePair) -> Result<(), ApiError> {
    let name = if pair.chosen_probability.is_none() { DECIDED } else { UNDECIDED };
    let path = folder.join(name);
    let line = serde_json::to_string(pair).map_err(ApiError::internal)?;
    append(&path, &line).map_err(|error| {
        tracing::error!("{}: {error}", path.display());
        let message = format!(
            "the choice could not be kept in {}: {error}; set playground.preferences to a folder \
             that can be written",
            path.display()
        );
        ApiError::with_status(StatusCode::INSUFFICIENT_STORAGE, message)
    })
}

fn append(path: &Path, line: &str) -> io::Result<()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock();
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
    // Half a line, from a write that failed, must not swallow this one.
    let text = if ends_whole(&mut file)? { format!("{line}\n") } else { format!("\n{line}\n") };
    file.write_all(text.as_bytes())?;
    file.sync_data()
}

/// Whether the file is empty or ends with a line break.
fn ends_whole(file: &mut File) -> io::Result<bool> {
    let mut last = [b'\n'];
    match file.seek(SeekFrom::End(-1)) {
        Ok(_) => file.read_exact(&mut last)?,
        Err(error) if error.kind() == ErrorKind::InvalidInput => {}
        Err(error) => return Err(error),
    }
    Ok(last == [b'\n'])
}

#[cfg(test)]
mod tests {
    use super::*;
    use cai_data::dataset::{Policy, read_pairs};
    use cai_data::record::Message;

    fn pair(choice: Choice, chosen: &str) -> PreferencePair {
        let provenance = Provenance { choice, ..Provenance::default() };
        let extra = serde_json::to_value(provenance).unwrap().as_object().unwrap().clone();
        let turn = |text: &str| vec![Message::assistant(text)];
        PreferencePair {
            chosen_probability: (!choice.is_decided()).then_some(0.5),
            extra,
            ..PreferencePair::new(vec![Message::user("Hi")], turn(chosen), turn("No."))
        }
    }

    #[test]
    fn choices_are_pairs_that_the_reader_of_pairs_reads() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("made/at/the/first");
        assert_eq!(read(&folder).unwrap(), []);
        for choice in [Choice::A, Choice::Tie, Choice::B, Choice::BothBad] {
            add(&folder, &pair(choice, "Hello.\nYou.")).unwrap();
        }
        let decided = read_pairs(&folder.join(DECIDED), &Policy::default()).unwrap();
        assert_eq!(
            decided.pairs,
            [pair(Choice::A, "Hello.\nYou."), pair(Choice::B, "Hello.\nYou.")]
        );
        let undecided = read_pairs(&folder.join(UNDECIDED), &Policy::default()).unwrap();
        assert!(undecided.pairs.iter().all(|pair| pair.chosen_probability == Some(0.5)));
        let choices: Vec<Choice> = read(&folder).unwrap().iter().map(|made| made.choice).collect();
        assert_eq!(choices, [Choice::A, Choice::B, Choice::Tie, Choice::BothBad]);
    }

    #[test]
    fn half_a_line_costs_no_other() {
        let dir = tempfile::tempdir().unwrap();
        add(dir.path(), &pair(Choice::A, "Hello.")).unwrap();
        let path = dir.path().join(DECIDED);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, [&whole[..], &whole[..20]].concat()).unwrap();
        add(dir.path(), &pair(Choice::B, "Hello.")).unwrap();
        assert_eq!(read(dir.path()).unwrap().len(), 2);
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = add(&file.path().join("below"), &pair(Choice::A, "Hello.")).unwrap_err();
        assert!(error.body().to_string().contains("playground.preferences"));
    }
}
