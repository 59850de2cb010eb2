//! Whole files or none: written under a temporary name beside the target, synced, then renamed.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use crate::{Error, Result};

/// Writes `bytes` to `path`, whole or not at all. Missing folders are made.
///
/// # Errors
/// [`Error::Write`]; an earlier file at `path` is then unchanged.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = AtomicFile::create(path)?;
    file.write_all(bytes).map_err(Error::write(path))?;
    file.commit()
}

/// Writes `value` to `path` as indented JSON with a final newline, whole or not at all.
///
/// # Errors
/// [`Error::Write`], or [`Error::NotJson`] for a map whose keys are not strings; an earlier file at
/// `path` is then unchanged.
pub fn write_json<T: Serialize + ?Sized>(path: &Path, value: &T) -> Result<()> {
    let mut json = serde_json::to_vec_pretty(value)
        .map_err(|source| Error::NotJson { path: path.to_owned(), source })?;
    json.push(b'\n');
    write(path, &json)
}

/// A file that appears under its name only at [`commit`](AtomicFile::commit).
///
/// Dropped before that, it leaves nothing behind. What a killed process leaves is removed when the
/// same file is next written.
#[derive(Debug)]
pub struct AtomicFile {
    path: PathBuf,
    temporary: PathBuf,
    writer: BufWriter<File>,
    committed: bool,
}

impl AtomicFile {
    /// Starts writing what will be at `path`. Missing folders are made.
    ///
    /// # Errors
    /// [`Error::Write`] when the folder cannot be written to.
    pub fn create(path: &Path) -> Result<Self> {
        let name = path.file_name().ok_or_else(|| {
            let reason = io::Error::new(io::ErrorKind::InvalidInput, "the path names no file");
            Error::write(path)(reason)
        })?;
        let folder = folder_of(path);
        fs::create_dir_all(folder).map_err(Error::write(path))?;

        let prefix = format!(".{}.", name.to_string_lossy());
        remove_stale(folder, &prefix);
        let temporary = folder.join(format!("{prefix}{}.tmp", unique()));
        let file = File::create_new(&temporary).map_err(Error::write(path))?;
        // The lock only tells a living writer's file from a dead one's: without it (a file system
        // that has no locks) nothing is wrong but that leftovers may stay.
        let _ = file.try_lock();
        let writer = BufWriter::with_capacity(1 << 16, file);
        Ok(AtomicFile { path: path.to_owned(), temporary, writer, committed: false })
    }

    /// Where the file will be.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the file appear under its name, with everything written so far on disk.
    ///
    /// # Errors
    /// [`Error::Write`]; an earlier file of that name is then unchanged and nothing is left behind.
    pub fn commit(mut self) -> Result<()> {
        self.publish().map_err(Error::write(&self.path))?;
        self.committed = true;
        Ok(())
    }

    fn publish(&mut self) -> io::Result<()> {
        self.writer.flush()?;
        self.writer.get_ref().sync_all()?;
        fs::rename(&self.temporary, &self.path)?;
        // Some systems cannot sync a folder; the file itself is whole either way.
        if let Ok(folder) = File::open(folder_of(&self.path)) {
            let _ = folder.sync_all();
        }
        Ok(())
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if !self.committed {
            // Nothing can be done about a failure here: the next writer tries again.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Differs between processes and between calls.
fn unique() -> String {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    format!("{}-{}", std::process::id(), CALLS.fetch_add(1, Ordering::Relaxed))
}

/// Removes temporary files of the same target whose writer has died: nobody holds their lock.
fn remove_stale(folder: &Path, prefix: &str) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let Some(middle) = name.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(".tmp"))
        else {
            continue;
        };
        let ours = middle.chars().all(|c| c.is_ascii_digit() || c == '-');
        let abandoned = || File::open(entry.path()).is_ok_and(|file| file.try_lock().is_ok());
        if ours && abandoned() {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_appears_whole_in_a_new_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/deep/out.txt");
        write(&path, b"one").unwrap();
        write(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(names(path.parent().unwrap()), ["out.txt"]);
    }

    #[test]
    fn an_uncommitted_file_leaves_the_earlier_one_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.txt");
        write(&path, b"earlier").unwrap();
        let mut file = AtomicFile::create(&path).unwrap();
        file.write_all(b"half").unwrap();
        drop(file);
        assert_eq!(fs::read(&path).unwrap(), b"earlier");
        assert_eq!(names(folder.path()), ["out.txt"]);
    }

    #[test]
    fn what_a_killed_writer_left_is_removed_and_a_living_writer_is_not_disturbed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.txt");
        fs::write(folder.path().join(".out.txt.1-0.tmp"), b"left").unwrap();
        fs::write(folder.path().join(".out.txt.mine.tmp"), b"a user's file").unwrap();
        let mut living = AtomicFile::create(&path).unwrap();
        living.write_all(b"living").unwrap();
        write(&path, b"other").unwrap();
        living.commit().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"living");
        assert_eq!(names(folder.path()), [".out.txt.mine.tmp", "out.txt"]);
    }

    #[test]
    fn a_failed_rename_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("taken");
        fs::create_dir_all(path.join("by a folder")).unwrap();
        let error = write(&path, b"text").unwrap_err();
        assert!(error.to_string().contains("taken"), "{error}");
        assert_eq!(names(folder.path()), ["taken"]);
    }

    #[test]
    fn a_full_disk_is_named() {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let message = Error::write(Path::new("runs/a.jsonl"))(full).to_string();
        assert!(message.contains("runs/a.jsonl") && message.contains("no space left"), "{message}");
    }

    #[test]
    fn json_is_indented_and_ends_with_a_newline() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        write_json(&path, &serde_json::json!({"b": 1, "a": [2]})).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text, "{\n  \"b\": 1,\n  \"a\": [\n    2\n  ]\n}\n");
    }
}
