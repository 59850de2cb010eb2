//! Replies on disk, so that a killed run goes on where it was.
//!
//! `responses/NAME.jsonl` grows by whole blocks of replies to consecutive prompts. Each line names
//! what gave it (`source`, a hash of model, prompts and settings): lines of another source, and a
//! block that was not finished, are made again.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use cai_data::record::EvalPrompt;
use serde::{Deserialize, Serialize};

use crate::data::{Finish, Reply};
use crate::error::Result;

/// The replies of one model that are on disk.
pub struct Cache {
    path: PathBuf,
    source: String,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    source: String,
    id: String,
    text: String,
    finish: Finish,
}

impl Cache {
    /// The cache of a model in the folder of an evaluation; `source` names what gives the replies.
    pub fn new(folder: &Path, model: &str, source: &str) -> Self {
        let path = folder.join("responses").join(format!("{model}.jsonl"));
        Cache { path, source: source.to_owned() }
    }

    /// The replies of finished blocks; anything after them is cut off the file.
    ///
    /// # Errors
    /// [`crate::Error::Data`] when the file cannot be read or written.
    pub fn finished(&self, prompts: &[EvalPrompt], block: usize) -> Result<Vec<Reply>> {
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(cai_data::Error::read(&self.path)(error).into()),
        };
        let mut replies = Vec::new();
        let (mut read, mut kept) = (0, 0);
        for (line, prompt) in bytes.split_inclusive(|byte| *byte == b'\n').zip(prompts) {
            // A torn last line is no JSON, or lacks its end.
            let Ok(entry) = serde_json::from_slice::<Entry>(line) else {
                break;
            };
            if !line.ends_with(b"\n") || entry.source != self.source || entry.id != prompt.id {
                break;
            }
            read += line.len();
            replies.push(Reply { text: entry.text, finish: entry.finish });
            if replies.len() % block == 0 || replies.len() == prompts.len() {
                kept = read;
            }
        }
        if replies.len() < prompts.len() {
            replies.truncate(replies.len() / block * block);
        }
        if kept < bytes.len() {
            let cut = || OpenOptions::new().write(true).open(&self.path)?.set_len(kept as u64);
            cut().map_err(cai_data::Error::write(&self.path))?;
        }
        Ok(replies)
    }

    /// Adds the replies to a block of prompts.
    ///
    /// # Errors
    /// [`crate::Error::Data`] when the file cannot be written; the next run makes the block again.
    pub fn append(&self, prompts: &[EvalPrompt], replies: &[Reply]) -> Result<()> {
        let mut lines = Vec::new();
        for (prompt, reply) in prompts.iter().zip(replies) {
            let entry = Entry {
                source: self.source.clone(),
                id: prompt.id.clone(),
                text: reply.text.clone(),
                finish: reply.finish,
            };
            serde_json::to_writer(&mut lines, &entry)
                .map_err(|source| cai_data::Error::NotJson { path: self.path.clone(), source })?;
            lines.push(b'\n');
        }
        let add = || {
            fs::create_dir_all(self.path.parent().unwrap_or(Path::new(".")))?;
            let mut file = OpenOptions::new().create(true).append(true).open(&self.path)?;
            file.write_all(&lines)?;
            file.sync_data()
        };
        Ok(add().map_err(cai_data::Error::write(&self.path))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cai_data::record::{Message, PromptCategory};

    fn prompts() -> Vec<EvalPrompt> {
        (0..5)
            .map(|i| {
                let turns = vec![Message::user("Hi")];
                EvalPrompt::new(i.to_string(), turns, PromptCategory::Harmless)
            })
            .collect()
    }

    fn replies() -> Vec<Reply> {
        (0..5).map(|i| Reply::complete(format!("reply\n{i}"))).collect()
    }

    #[test]
    fn finished_blocks_are_kept_and_the_rest_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let (prompts, replies) = (prompts(), replies());
        let cache = Cache::new(folder.path(), "dpo", "abc");
        assert_eq!(cache.finished(&prompts, 2).unwrap(), []);
        cache.append(&prompts[..2], &replies[..2]).unwrap();
        cache.append(&prompts[2..3], &replies[2..3]).unwrap(); // killed within the block
        let path = folder.path().join("responses/dpo.jsonl");
        let mut bytes = fs::read(&path).unwrap();
        bytes.extend(br#"{"source":"abc","id":"3","te"#);
        fs::write(&path, bytes).unwrap();

        assert_eq!(cache.finished(&prompts, 2).unwrap(), replies[..2]);
        cache.append(&prompts[2..4], &replies[2..4]).unwrap();
        cache.append(&prompts[4..], &replies[4..]).unwrap();
        assert_eq!(cache.finished(&prompts, 2).unwrap(), replies);

        // The same bytes as without the kill.
        let again = Cache::new(folder.path(), "again", "abc");
        for block in [0..2, 2..4, 4..5] {
            again.append(&prompts[block.clone()], &replies[block]).unwrap();
        }
        let other = folder.path().join("responses/again.jsonl");
        assert_eq!(fs::read(path).unwrap(), fs::read(other).unwrap());
    }

    #[test]
    fn another_source_starts_again() {
        let folder = tempfile::tempdir().unwrap();
        let (prompts, replies) = (prompts(), replies());
        Cache::new(folder.path(), "dpo", "abc").append(&prompts, &replies).unwrap();
        assert_eq!(Cache::new(folder.path(), "dpo", "abd").finished(&prompts, 2).unwrap(), []);
        assert_eq!(fs::read(folder.path().join("responses/dpo.jsonl")).unwrap(), b"");
    }
}
