//! `metrics.jsonl`: one JSON object per log entry. Holds no time, so it repeats byte for byte.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::Tracker;
use crate::{Error, LogEntry, Result};

/// Appends entries to a JSONL file.
pub struct Jsonl {
    path: PathBuf,
    file: File,
}

impl Jsonl {
    /// Writes `history` to the file at `path`, in place of what is there, and goes on after it.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] or [`Error::Data`] that names the file.
    pub fn open(path: &Path, history: &[LogEntry]) -> Result<Self> {
        let text: String = history.iter().map(line).collect();
        cai_data::atomic::write(path, text.as_bytes())?;
        let file = OpenOptions::new().append(true).open(path).map_err(Error::io(path))?;
        Ok(Self { path: path.to_owned(), file })
    }
}

impl Tracker for Jsonl {
    fn log(&mut self, entry: &LogEntry) -> Result<()> {
        self.file.write_all(line(entry).as_bytes()).map_err(Error::io(&self.path))
    }
}

fn line(entry: &LogEntry) -> String {
    // Numbers under string keys always have a JSON form.
    serde_json::to_string(entry).unwrap_or_default() + "\n"
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn what_came_after_the_checkpoint_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let entry = |step| {
            let metrics = BTreeMap::from([("loss".to_owned(), 0.5)]);
            LogEntry { step, epoch: 0.25, metrics }
        };
        let mut first = Jsonl::open(&path, &[]).unwrap();
        first.log(&entry(1)).unwrap();
        first.log(&entry(2)).unwrap();
        let mut resumed = Jsonl::open(&path, &[entry(1)]).unwrap();
        resumed.log(&entry(3)).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let expected = "{\"step\":1,\"epoch\":0.25,\"loss\":0.5}\n\
                        {\"step\":3,\"epoch\":0.25,\"loss\":0.5}\n";
        assert_eq!(text, expected);
    }
}
