//! GGUF files, llama.cpp's: metadata and tensors of one file, or of all shards, mapped into memory.
//!
//! The format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>. Tensors are as stored, in
//! blocks of [`GgmlType`].

mod load;
mod reader;
mod tokenizer;
mod value;

use std::{
    collections::HashMap,
    fs::File,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use memmap2::{Mmap, UncheckedAdvice};

use crate::{
    Error, Result,
    quantize::{GgmlType, SharedBytes},
};

pub use load::load;
pub use value::{Array, FromValue, Value};

use reader::{Entry, Header};

/// A GGUF file, or all shards of one.
#[derive(Debug)]
pub struct Gguf {
    path: PathBuf,
    shards: Vec<Arc<Mmap>>,
    metadata: HashMap<String, Value>,
    /// In the files' order, each with its shard.
    tensors: Vec<(usize, Entry)>,
    /// Name to place in `tensors`.
    index: HashMap<String, usize>,
}

/// A tensor of a GGUF file.
#[derive(Debug)]
pub struct TensorInfo<'a> {
    /// How its rows are stored.
    pub kind: GgmlType,
    /// Outermost first, as everywhere but in GGUF: a matrix is `[rows, width]`.
    pub shape: Vec<usize>,
    /// The rows, one after the other.
    pub bytes: &'a [u8],
    file: &'a Arc<Mmap>,
}

impl TensorInfo<'_> {
    /// The rows where they lie in the file, and their place there.
    pub(super) fn shared(&self) -> (SharedBytes, Range<usize>) {
        let start = self.bytes.as_ptr() as usize - self.file.as_ptr() as usize;
        (self.file.clone(), start..start + self.bytes.len())
    }

    /// Lets the system drop the pages of the tensor, once its values were taken: memory that only
    /// mirrors the file would be counted as this process's. They can be read again.
    pub fn release(self) {
        let start = self.bytes.as_ptr() as usize - self.file.as_ptr() as usize;
        // SAFETY: the map is read-only and of a file, so that dropped pages are read again when
        // needed. A failure costs nothing but the pages.
        let _ = unsafe {
            self.file.unchecked_advise_range(UncheckedAdvice::DontNeed, start, self.bytes.len())
        };
    }
}

impl Gguf {
    /// Opens the file, or all shards of which `path` is one (`NAME-00001-of-00003.gguf`).
    ///
    /// # Errors
    ///
    /// [`Error::Io`] for a file that cannot be read; [`Error::Weights`] for one that is no GGUF, is
    /// damaged or cut off, or whose shards are not all there.
    pub fn open(path: &Path) -> Result<Self> {
        let (map, header) = open(path)?;
        let mut gguf = Self {
            path: path.into(),
            shards: Vec::new(),
            metadata: header.metadata.into_iter().collect(),
            tensors: Vec::new(),
            index: HashMap::new(),
        };
        match gguf.get("split.count")?.unwrap_or(1) {
            0 | 1 => gguf.add(path, map, header.tensors)?,
            count => gguf.add_shards(count)?,
        }
        Ok(gguf)
    }

    /// The file that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the metadata says under `key`.
    pub fn metadata(&self, key: &str) -> Option<&Value> {
        self.metadata.get(key)
    }

    /// What the metadata says under `key`, if anything: a `usize`, `f64`, `bool`, `&str`, ….
    ///
    /// # Errors
    ///
    /// When it is of another kind.
    pub fn get<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<Option<T>> {
        let Some(value) = self.metadata.get(key) else { return Ok(None) };
        T::from_value(value)
            .map(Some)
            .ok_or_else(|| self.error(format!("key '{key}' is {}, not {}", value.kind(), T::KIND)))
    }

    /// As [`Self::get`], for what must be there.
    ///
    /// # Errors
    ///
    /// When it is missing or of another kind.
    pub fn require<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<T> {
        self.get(key)?.ok_or_else(|| {
            self.error(format!("key '{key}' is missing; convert the model again or use its folder"))
        })
    }

    /// The size under `key`.
    ///
    /// # Errors
    ///
    /// As [`Self::require`].
    pub fn size(&self, key: &str) -> Result<usize> {
        self.require(key)
    }

    /// The float under `key`.
    ///
    /// # Errors
    ///
    /// As [`Self::require`].
    pub fn float(&self, key: &str) -> Result<f64> {
        self.require(key)
    }

    /// The family of the model, such as `gemma3` or `llama`: what its other keys begin with.
    ///
    /// # Errors
    ///
    /// When the file does not say.
    pub fn architecture(&self) -> Result<&str> {
        self.require("general.architecture")
    }

    /// Names of all tensors, in the files' order.
    pub fn names(&self) -> Vec<&str> {
        self.tensors.iter().map(|(_, entry)| entry.name.as_str()).collect()
    }

    /// The tensor `name`, if there is one.
    ///
    /// # Errors
    ///
    /// When it is stored in a type that is not supported.
    pub fn tensor(&self, name: &str) -> Result<Option<TensorInfo<'_>>> {
        let Some(&place) = self.index.get(name) else { return Ok(None) };
        let (shard, entry) = &self.tensors[place];
        let kind = entry.kind.map_err(|id| {
            let supported = GgmlType::ALL.map(GgmlType::name).join(", ");
            self.error(format!(
                "tensor '{name}' is of ggml's type {id}, which is not supported; use a file in \
                 other types ({supported})"
            ))
        })?;
        let file = &self.shards[*shard];
        let bytes = &file[entry.start..][..entry.len];
        Ok(Some(TensorInfo { kind, shape: entry.shape.clone(), bytes, file }))
    }

    /// An error of this file.
    pub(crate) fn error(&self, reason: String) -> Error {
        Error::Weights { path: self.path.clone(), reason }
    }

    /// Opens all `count` shards of the model. The first one has its metadata.
    fn add_shards(&mut self, count: usize) -> Result<()> {
        let shards = shards(&self.path, count).ok_or_else(|| {
            self.error(format!(
                "it is one of {count} shards, but not named NAME-00001-of-{count:05}.gguf, so that \
                 the others cannot be found; give the shards their names back"
            ))
        })?;
        for (number, path) in shards.iter().enumerate() {
            if !path.exists() {
                let reason = format!("shard {} of {count} is missing; copy it here", number + 1);
                return Err(Error::Weights { path: path.clone(), reason });
            }
            let (map, header) = open(path)?;
            let of = |key| match header.metadata.iter().find(|(name, _)| name == key) {
                Some((_, value)) => usize::from_value(value),
                None => None,
            };
            if (of("split.no"), of("split.count")) != (Some(number), Some(count)) {
                let reason =
                    format!("its keys do not say that it is shard {} of {count}", number + 1);
                return Err(Error::Weights { path: path.clone(), reason });
            }
            if number == 0 {
                self.metadata = header.metadata.into_iter().collect();
            }
            self.add(path, map, header.tensors)?;
        }
        let (said, found) = (self.get::<usize>("split.tensors.count")?, self.tensors.len());
        match said.filter(|said| *said != found) {
            None => Ok(()),
            Some(said) => {
                Err(self.error(format!("the shards hold {found} tensors where {said} belong")))
            }
        }
    }

    fn add(&mut self, path: &Path, map: Mmap, tensors: Vec<Entry>) -> Result<()> {
        for entry in tensors {
            if self.index.insert(entry.name.clone(), self.tensors.len()).is_some() {
                let reason = format!("tensor '{}' is in another shard, too", entry.name);
                return Err(Error::Weights { path: path.into(), reason });
            }
            self.tensors.push((self.shards.len(), entry));
        }
        self.shards.push(Arc::new(map));
        Ok(())
    }
}

fn open(path: &Path) -> Result<(Mmap, Header)> {
    let io = |source| Error::Io { path: path.into(), source };
    let file = File::open(path).map_err(io)?;
    // SAFETY: the map is read-only; a file that another process truncates while it is mapped would
    // fault, as for every program that maps weights.
    let map = unsafe { Mmap::map(&file) }.map_err(io)?;
    let header =
        reader::read(&map).map_err(|reason| Error::Weights { path: path.into(), reason })?;
    Ok((map, header))
}

/// The paths of all shards, if `path` is named as one of `count`.
fn shards(path: &Path, count: usize) -> Option<Vec<PathBuf>> {
    let name = path.file_name()?.to_str()?.strip_suffix(&format!("-of-{count:05}.gguf"))?;
    let (name, number) = name.rsplit_once('-')?;
    let number: usize = number.parse().ok().filter(|_| number.len() == 5)?;
    let named = |i: usize| path.with_file_name(format!("{name}-{i:05}-of-{count:05}.gguf"));
    let is_one = (1..=count).contains(&number) && count <= 99_999;
    is_one.then(|| (1..=count).map(named).collect())
}
