//! Safetensors files, one or sharded, mapped into memory.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::File,
    path::{Path, PathBuf},
};

use burn::tensor::{DType, Device, Tensor, TensorData};
use half::{bf16, f16};
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::Value;

use crate::{Error, Result};

/// The tensors of one or several safetensors files, read one at a time.
pub struct WeightFiles {
    files: Vec<(PathBuf, Mmap)>,
    /// Tensor name to the file that holds it.
    index: BTreeMap<String, usize>,
    used: BTreeSet<String>,
    metadata: HashMap<String, String>,
}

impl WeightFiles {
    /// Opens `model.safetensors`, or the shards that `model.safetensors.index.json` names.
    ///
    /// # Errors
    ///
    /// When neither is there, when a file is damaged, or when an index names a file outside `dir`.
    pub fn open(dir: &Path) -> Result<Self> {
        let index = dir.join("model.safetensors.index.json");
        let single = dir.join("model.safetensors");
        if single.exists() {
            return Self::open_file(&single);
        }
        if !index.exists() {
            let reason = "no model.safetensors and no model.safetensors.index.json here; \
                          a model folder needs one of them";
            return Err(Error::Weights { path: dir.into(), reason: reason.into() });
        }
        let mut all = Self::empty();
        for shard in shards(&index)? {
            all.add(&dir.join(shard))?;
        }
        Ok(all)
    }

    /// Opens one file.
    ///
    /// # Errors
    ///
    /// When it is missing, truncated or not safetensors.
    pub fn open_file(path: &Path) -> Result<Self> {
        let mut one = Self::empty();
        one.add(path)?;
        Ok(one)
    }

    fn empty() -> Self {
        Self {
            files: Vec::new(),
            index: BTreeMap::new(),
            used: BTreeSet::new(),
            metadata: HashMap::new(),
        }
    }

    fn add(&mut self, path: &Path) -> Result<()> {
        let io = |source| Error::Io { path: path.into(), source };
        let file = File::open(path).map_err(io)?;
        // SAFETY: the map is read-only; a file that another process truncates while it is mapped
        // would fault, as for every program that maps weights.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        let damaged = |e: safetensors::SafeTensorError| Error::Weights {
            path: path.into(),
            reason: format!("not a whole safetensors file ({e}); copy or download it again"),
        };
        let (_, header) = SafeTensors::read_metadata(&map).map_err(damaged)?;
        // Checks offsets and the file's length against the header.
        let tensors = SafeTensors::deserialize(&map).map_err(damaged)?;
        for name in tensors.names() {
            if self.index.insert(name.to_string(), self.files.len()).is_some() {
                let reason = format!("tensor '{name}' is in two shards");
                return Err(Error::Weights { path: path.into(), reason });
            }
        }
        self.metadata.extend(header.metadata().clone().unwrap_or_default());
        self.files.push((path.into(), map));
        Ok(())
    }

    /// An entry of the files' `__metadata__`.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).map(String::as_str)
    }

    /// Names of tensors that were not asked for.
    pub fn unused(&self) -> Vec<&str> {
        self.index.keys().filter(|name| !self.used.contains(*name)).map(String::as_str).collect()
    }

    /// Reads the tensor `name` of exactly `shape` as `dtype` (f32 or bf16) onto `device`.
    ///
    /// # Errors
    ///
    /// When it is missing, of another shape, of a type other than f32, bf16 or f16, or not finite.
    pub fn tensor<const D: usize>(
        &mut self,
        name: &str,
        shape: [usize; D],
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor<D>> {
        let Some(&file) = self.index.get(name) else {
            let path = self.files.first().map(|(path, _)| path.clone()).unwrap_or_default();
            return Err(Error::Weights { path, reason: format!("tensor '{name}' is missing") });
        };
        let (path, map) = &self.files[file];
        let fail = |reason| Error::Weights { path: path.clone(), reason };
        // The header was checked when the file was opened.
        let view = SafeTensors::deserialize(map)
            .and_then(|tensors| tensors.tensor(name))
            .map_err(|e| fail(e.to_string()))?;
        if view.shape() != shape {
            let found = view.shape();
            return Err(fail(format!(
                "tensor '{name}' is {found:?} where the config asks for {shape:?}; \
                 config.json and the weights do not belong together"
            )));
        }
        let values = floats(&view).map_err(|reason| fail(format!("tensor '{name}': {reason}")))?;
        self.used.insert(name.into());
        Ok(Tensor::<D>::from_data(TensorData::new(values, shape), device).cast(dtype))
    }
}

/// File names of an index, each a plain name inside the folder.
fn shards(index: &Path) -> Result<BTreeSet<String>> {
    let fail = |reason: String| Error::Config { path: index.into(), reason };
    let text = std::fs::read_to_string(index)
        .map_err(|source| Error::Io { path: index.into(), source })?;
    let value: Value = serde_json::from_str(&text).map_err(|e| fail(format!("not JSON: {e}")))?;
    let map = value["weight_map"].as_object().ok_or_else(|| fail("no weight_map".into()))?;
    map.values()
        .map(|file| match file.as_str() {
            Some(f) if !f.contains(['/', '\\']) && f.ends_with(".safetensors") => Ok(f.to_string()),
            _ => Err(fail(format!("weight_map names {file}, not a file of this folder"))),
        })
        .collect()
}

/// A tensor's values as f32, all of them finite.
fn floats(view: &TensorView) -> std::result::Result<Vec<f32>, String> {
    let bytes = view.data();
    let two = |f: fn([u8; 2]) -> f32| bytes.chunks_exact(2).map(move |b| f([b[0], b[1]])).collect();
    let values: Vec<f32> = match view.dtype() {
        Dtype::F32 => {
            bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
        }
        Dtype::BF16 => two(|b| bf16::from_le_bytes(b).to_f32()),
        Dtype::F16 => two(|b| f16::from_le_bytes(b).to_f32()),
        other => return Err(format!("type {other:?} is not supported; use f32, bf16 or f16")),
    };
    match values.iter().position(|v| !v.is_finite()) {
        Some(at) => Err(format!("value {at} is {}; the file is damaged", values[at])),
        None => Ok(values),
    }
}

/// Writes tensors (f32 or bf16) as one safetensors file, atomically.
///
/// # Errors
///
/// [`Error::Input`] for another type; I/O errors.
pub fn write_safetensors(
    path: &Path,
    tensors: Vec<(String, TensorData)>,
    metadata: HashMap<String, String>,
) -> Result<()> {
    let view =
        |(name, data): &(String, TensorData)| -> Result<(String, Dtype, Vec<usize>, Vec<u8>)> {
            let dtype = match data.dtype() {
                DType::F32 => Dtype::F32,
                DType::BF16 => Dtype::BF16,
                other => return Err(Error::Input(format!("cannot write '{name}' as {other:?}"))),
            };
            Ok((name.clone(), dtype, data.shape().to_vec(), data.as_bytes().to_vec()))
        };
    let parts: Vec<_> = tensors.iter().map(view).collect::<Result<_>>()?;
    let views: std::result::Result<Vec<_>, _> = parts
        .iter()
        .map(|(name, dtype, shape, bytes)| {
            TensorView::new(*dtype, shape.clone(), bytes).map(|view| (name.as_str(), view))
        })
        .collect();
    let fail = |e: safetensors::SafeTensorError| Error::Weights {
        path: path.into(),
        reason: e.to_string(),
    };
    let mut bytes = safetensors::serialize(views.map_err(fail)?, Some(metadata)).map_err(fail)?;
    sort_metadata(&mut bytes)
        .map_err(|reason| Error::Weights { path: path.into(), reason: reason.into() })?;
    Ok(cai_data::atomic::write(path, &bytes)?)
}

/// Puts the metadata's keys in order: the safetensors crate writes them in the random order of a
/// hash map, and the same tensors are to give the same bytes.
fn sort_metadata(file: &mut [u8]) -> std::result::Result<(), &'static str> {
    let unknown = "the safetensors crate wrote a header of an unknown form";
    let (length, rest) = file.split_first_chunk_mut::<8>().ok_or(unknown)?;
    let length = u64::from_le_bytes(*length) as usize;
    let header = rest.get_mut(..length).ok_or(unknown)?;
    let mut value: Value = serde_json::from_slice(header).map_err(|_| unknown)?;
    value["__metadata__"].as_object_mut().ok_or(unknown)?.sort_keys();
    let text = serde_json::to_vec(&value).map_err(|_| unknown)?;
    // Only the order changed: the text is as long as before, and blanks still fill up the rest.
    header.get_mut(..text.len()).ok_or(unknown)?.copy_from_slice(&text);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_tensors_give_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let write = || {
            let tensors = vec![("w".to_string(), TensorData::new(vec![1.0f32, 2.0], [1, 2]))];
            let keys = ["format", "base", "c", "d", "e"].map(|key| (key.into(), "pt".into()));
            write_safetensors(&path, tensors, HashMap::from(keys)).unwrap();
            std::fs::read(&path).unwrap()
        };
        let first = write();
        assert!((0..10).all(|_| write() == first));
        let file = WeightFiles::open_file(&path).unwrap();
        assert_eq!(file.metadata("format"), Some("pt"));
    }
}
