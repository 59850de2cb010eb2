//! Work on prompts in fixed blocks, each on disk once it is finished.
//!
//! While the work goes on, `FILE.part` grows line by line, one per prompt, as blocks are finished; at
//! the end it is renamed to `FILE`. Each line names the run that made it (a hash of everything that decides
//! the lines). Lines of another run, and a block that was not finished, are made again.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use cai_data::hash;
use cai_train::{Progress, Verbosity, interrupt};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::prompts::CritiquePrompt;
use crate::{Error, Result};

/// A line of the file.
pub trait Line: Serialize + DeserializeOwned {
    /// Its named fields, which a prompt's other fields must not take.
    const FIELDS: &[&str];

    /// The run that made it.
    fn run(&self) -> &str;

    /// The prompt it is about.
    fn id(&self) -> &str;
}

/// What is worked on, and where the lines go.
pub struct Work<'a> {
    /// The file of the finished lines.
    pub path: PathBuf,
    /// What the progress is called.
    pub label: &'a str,
    /// Names everything that decides the lines.
    pub run: String,
    /// Prompts of one block.
    pub block: usize,
    /// Units of progress per prompt.
    pub units: u64,
}

/// Names a run by everything that decides its lines.
pub fn run_name(inputs: &Value) -> String {
    let mut name = hash::bytes(inputs.to_string().as_bytes());
    name.truncate(16);
    name
}

/// The lines for all `prompts`, in order: those on disk, and those that `make` makes of each block
/// that is not. `make` reports progress itself.
///
/// # Errors
///
/// [`Error::Interrupted`] after a request to stop, [`Error::Prompt`] for an id used twice or a field
/// that the lines need for themselves, those of the files and of `make`.
pub fn work_through<T: Line>(
    work: &Work,
    prompts: &[CritiquePrompt],
    mut make: impl FnMut(&[CritiquePrompt], &mut Progress) -> Result<Vec<T>>,
) -> Result<Vec<T>> {
    check::<T>(prompts)?;
    let part = part(&work.path);
    let finished = read_lines::<T>(&work.path, work, prompts)?;
    if finished.lines.len() == prompts.len() && !finished.more {
        remove(&part)?;
        return Ok(finished.lines);
    }
    let mut lines = resume::<T>(&part, work, prompts)?;
    let mut progress =
        Progress::new(work.label, prompts.len() as u64 * work.units, Verbosity::Auto);
    progress.resume_at(lines.len() as u64 * work.units);
    while lines.len() < prompts.len() {
        if interrupt::requested() {
            let (done, total) = (lines.len(), prompts.len());
            return Err(Error::Interrupted { done, total, path: part });
        }
        let end = prompts.len().min(lines.len() + work.block);
        let made = make(&prompts[lines.len()..end], &mut progress)?;
        append(&part, &made)?;
        lines.extend(made);
    }
    publish(&part, &work.path)?;
    progress.finish("");
    Ok(lines)
}

/// The unfinished file of `path`.
pub(crate) fn part(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

fn check<T: Line>(prompts: &[CritiquePrompt]) -> Result<()> {
    let mut ids = HashSet::new();
    for CritiquePrompt { id, extra, .. } in prompts {
        let fail = |reason: String| Err(Error::Prompt { id: id.clone(), reason });
        if !ids.insert(id) {
            return fail("this id is used twice; give each prompt its own".into());
        }
        if let Some(field) = T::FIELDS.iter().find(|field| extra.contains_key(**field)) {
            return fail(format!("the field {field:?} is one of the record's own; rename it"));
        }
    }
    Ok(())
}

/// The lines at the beginning of a file that belong to this run.
struct Beginning<T> {
    lines: Vec<T>,
    /// Where each line ends, in bytes.
    ends: Vec<usize>,
    /// Whether other bytes follow.
    more: bool,
}

fn read_lines<T: Line>(
    path: &Path,
    work: &Work,
    prompts: &[CritiquePrompt],
) -> Result<Beginning<T>> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        read => read.map_err(cai_data::Error::read(path))?,
    };
    let mut beginning = Beginning { lines: Vec::new(), ends: Vec::new(), more: false };
    let mut end = 0;
    for (line, prompt) in bytes.split_inclusive(|byte| *byte == b'\n').zip(prompts) {
        // A torn line is no JSON, or lacks its end.
        let Ok(value) = serde_json::from_slice::<T>(line) else { break };
        if !line.ends_with(b"\n") || value.run() != work.run || value.id() != prompt.id {
            break;
        }
        end += line.len();
        beginning.lines.push(value);
        beginning.ends.push(end);
    }
    beginning.more = end < bytes.len();
    Ok(beginning)
}

/// The lines of finished blocks; whatever follows them is cut off the file.
fn resume<T: Line>(part: &Path, work: &Work, prompts: &[CritiquePrompt]) -> Result<Vec<T>> {
    let Beginning { mut lines, ends, more } = read_lines::<T>(part, work, prompts)?;
    let whole = if lines.len() == prompts.len() {
        lines.len()
    } else {
        lines.len() / work.block * work.block
    };
    if more || whole < lines.len() {
        if lines.is_empty() {
            tracing::warn!(
                "{}: no block of this run (other inputs or settings, or cut off in the first); \
                 starting from the first prompt",
                part.display()
            );
        }
        let kept = if whole == 0 { 0 } else { ends[whole - 1] };
        let cut = || OpenOptions::new().write(true).open(part)?.set_len(kept as u64);
        cut().map_err(cai_data::Error::write(part))?;
        lines.truncate(whole);
    }
    if !lines.is_empty() {
        tracing::info!("{}: {} of {} prompts done", part.display(), lines.len(), prompts.len());
    }
    Ok(lines)
}

/// Appends lines one by one; they are on disk when this returns.
fn append<T: Line>(part: &Path, lines: &[T]) -> Result<()> {
    let open = || {
        fs::create_dir_all(part.parent().unwrap_or(Path::new(".")))?;
        OpenOptions::new().create(true).append(true).open(part)
    };
    let mut file = open().map_err(cai_data::Error::write(part))?;
    let mut bytes = Vec::new();
    for line in lines {
        bytes.clear();
        serde_json::to_writer(&mut bytes, line)
            .map_err(|source| cai_data::Error::NotJson { path: part.to_owned(), source })?;
        bytes.push(b'\n');
        file.write_all(&bytes).map_err(cai_data::Error::write(part))?;
    }
    Ok(file.sync_data().map_err(cai_data::Error::write(part))?)
}

/// Renames the finished file; its content is on disk since the last block.
fn publish(part: &Path, path: &Path) -> Result<()> {
    fs::rename(part, path).map_err(cai_data::Error::write(path))?;
    // Some systems cannot sync a folder; the file itself is whole either way.
    if let Some(Ok(folder)) = path.parent().map(File::open) {
        let _ = folder.sync_all();
    }
    Ok(())
}

fn remove(part: &Path) -> Result<()> {
    match fs::remove_file(part) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(cai_data::Error::write(part)(error).into())
        }
        _ => Ok(()),
    }
}
