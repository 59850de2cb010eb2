//! What can go wrong with data files, each with its remedy.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, where, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read.
    #[error("cannot read {}: {source}; {}", path.display(), read_remedy(source))]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file could not be written; an earlier file of that name is unchanged.
    #[error(
        "cannot write {}: {source}; {}; an earlier file of that name is unchanged",
        path.display(),
        write_remedy(source)
    )]
    Write {
        /// The file that was to be written.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A line of a JSONL file is not a record of the wanted kind.
    #[error("{}:{line}: {reason}; mend or remove this line", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// More lines are malformed than the policy allows.
    #[error(
        "{}:{line}: {reason}; this is malformed line {count} of the file and the policy allows \
         {allowed}: mend the file or raise max_malformed",
        path.display()
    )]
    TooManyMalformed {
        /// The file.
        path: PathBuf,
        /// The first line past the allowed number, counted from 1.
        line: usize,
        /// What is wrong with that line.
        reason: String,
        /// Malformed lines so far, this one included.
        count: usize,
        /// How many the policy allows.
        allowed: usize,
    },
    /// A file holds no record, or none that can be used.
    #[error("{} holds no usable record ({found}); give a file with at least one", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
        /// What was found instead, in words.
        found: String,
    },
    /// A value could not be turned into JSON.
    #[error(
        "cannot write {}: a value is not representable as JSON ({source}); \
         map keys must be strings",
        path.display()
    )]
    NotJson {
        /// The file that was to be written.
        path: PathBuf,
        /// What serde said.
        source: serde_json::Error,
    },
    /// A setting or another input that is no data file is wrong.
    #[error("{place}: {reason}")]
    Invalid {
        /// Where: a file, or the key of a setting.
        place: String,
        /// What is wrong and what to do.
        reason: String,
    },
}

impl Error {
    /// For `map_err` on reading: names the file.
    pub fn read(path: &Path) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::Io { path, source }
    }

    /// For `map_err` on writing: names the file.
    pub fn write(path: &Path) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::Write { path, source }
    }
}

fn read_remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::NotFound => "check the path",
        ErrorKind::PermissionDenied => "check the file's permissions",
        ErrorKind::IsADirectory => "give a file, not a folder",
        ErrorKind::UnexpectedEof => "the file is truncated: fetch or make it again",
        ErrorKind::InvalidData | ErrorKind::InvalidInput => {
            "the file is damaged or not what its name says: fetch or make it again"
        }
        _ => "check the file and its disk, then run again",
    }
}

fn write_remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "no space left: free some on this disk, then run again"
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            "choose a folder that may be written to"
        }
        _ => "check the folder and its disk, then run again",
    }
}
