//! What models said, on disk, so that a killed run goes on where it was.
//!
//! A file grows by whole blocks of values, one line each, for consecutive ids. Each line names
//! what gave it (`source`, a hash of model, prompts and settings): lines of another source, and a
//! block that was not finished, are made again.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::Result;

/// The values of one model that are on disk.
pub struct Cache<T> {
    path: PathBuf,
    source: String,
    values: PhantomData<T>,
}

#[derive(Serialize, Deserialize)]
struct Entry<T> {
    source: String,
    id: String,
    #[serde(flatten)]
    value: T,
}

impl<T: Serialize + DeserializeOwned> Cache<T> {
    /// The cache in a file; `source` names what gives the values.
    pub fn new(path: PathBuf, source: &str) -> Self {
        Cache { path, source: source.to_owned(), values: PhantomData }
    }

    /// The values of finished blocks; anything after them is cut off the file.
    ///
    /// # Errors
    /// [`crate::Error::Data`] when the file cannot be read or written.
    pub fn finished(&self, ids: &[&str], block: usize) -> Result<Vec<T>> {
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(cai_data::Error::read(&self.path)(error).into()),
        };
        let mut values = Vec::new();
        let (mut read, mut kept) = (0, 0);
        for (line, id) in bytes.split_inclusive(|byte| *byte == b'\n').zip(ids) {
            // A torn last line is no JSON, or lacks its end.
            let Ok(entry) = serde_json::from_slice::<Entry<T>>(line) else {
                break;
            };
            if entry.source != self.source || entry.id != *id {
                tracing::warn!(
                    "{} holds what another model, other prompts or other settings gave; it is made \
                     again from line {}",
                    self.path.display(),
                    values.len() + 1
                );
                break;
            }
            if !line.ends_with(b"\n") {
                break;
            }
            read += line.len();
            values.push(entry.value);
            if values.len() % block == 0 || values.len() == ids.len() {
                kept = read;
            }
        }
        if values.len() < ids.len() {
            values.truncate(values.len() / block * block);
        }
        if kept < bytes.len() {
            let cut = || OpenOptions::new().write(true).open(&self.path)?.set_len(kept as u64);
            cut().map_err(cai_data::Error::write(&self.path))?;
        }
        Ok(values)
    }

    /// Adds the values of a block.
    ///
    /// # Errors
    /// [`crate::Error::Data`] when the file cannot be written; the next run makes the block again.
    pub fn append(&self, ids: &[&str], values: &[T]) -> Result<()> {
        #[derive(Serialize)]
        struct Line<'a, T> {
            source: &'a str,
            id: &'a str,
            #[serde(flatten)]
            value: &'a T,
        }
        let mut lines = Vec::new();
        for (id, value) in ids.iter().zip(values) {
            serde_json::to_writer(&mut lines, &Line { source: &self.source, id, value })
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
    use crate::data::Reply;

    const IDS: [&str; 5] = ["0", "1", "2", "3", "4"];

    fn replies() -> Vec<Reply> {
        (0..5).map(|i| Reply::complete(format!("reply\n{i}"))).collect()
    }

    fn cache(folder: &Path, name: &str, source: &str) -> Cache<Reply> {
        Cache::new(folder.join("responses").join(name), source)
    }

    #[test]
    fn finished_blocks_are_kept_and_the_rest_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let replies = replies();
        let dpo = cache(folder.path(), "dpo.jsonl", "abc");
        assert_eq!(dpo.finished(&IDS, 2).unwrap(), []);
        dpo.append(&IDS[..2], &replies[..2]).unwrap();
        dpo.append(&IDS[2..3], &replies[2..3]).unwrap(); // killed within the block
        let path = folder.path().join("responses/dpo.jsonl");
        let mut bytes = fs::read(&path).unwrap();
        bytes.extend(br#"{"source":"abc","id":"3","te"#);
        fs::write(&path, bytes).unwrap();

        assert_eq!(dpo.finished(&IDS, 2).unwrap(), replies[..2]);
        dpo.append(&IDS[2..4], &replies[2..4]).unwrap();
        dpo.append(&IDS[4..], &replies[4..]).unwrap();
        assert_eq!(dpo.finished(&IDS, 2).unwrap(), replies);

        // The same bytes as without the kill.
        let again = cache(folder.path(), "again.jsonl", "abc");
        for block in [0..2, 2..4, 4..5] {
            again.append(&IDS[block.clone()], &replies[block]).unwrap();
        }
        let other = folder.path().join("responses/again.jsonl");
        assert_eq!(fs::read(path).unwrap(), fs::read(other).unwrap());
    }

    #[test]
    fn another_source_starts_again() {
        let folder = tempfile::tempdir().unwrap();
        cache(folder.path(), "dpo.jsonl", "abc").append(&IDS, &replies()).unwrap();
        assert_eq!(cache(folder.path(), "dpo.jsonl", "abd").finished(&IDS, 2).unwrap(), []);
        assert_eq!(fs::read(folder.path().join("responses/dpo.jsonl")).unwrap(), b"");
    }
}
