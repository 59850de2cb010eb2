//! Safetensors files, one or sharded, mapped into memory.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::File,
    path::{Path, PathBuf},
};

use burn::tensor::{DType, Device, Element, Tensor, TensorData};
use half::{bf16, f16};
use memmap2::{Mmap, UncheckedAdvice};
use rayon::prelude::*;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::Value;

use cai_data::hash;

use super::Spelling;
use crate::{
    Error, Result,
    quantize::{Bits, QuantMatrix},
};

/// Values that one thread converts at a time.
const CHUNK: usize = 1 << 16;

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
    /// When neither is there, when a file is damaged, when an index names a file outside `dir`, or
    /// when index and shards do not hold the same tensors.
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
        let weight_map = weight_map(&index)?;
        let mut all = Self::empty();
        for shard in weight_map.values().collect::<BTreeSet<_>>() {
            all.add(&dir.join(shard))?;
        }
        for (name, shard) in &weight_map {
            let found = all.index.get(name).is_some_and(|&i| all.files[i].0.ends_with(shard));
            if !found {
                let reason = format!(
                    "it says that '{name}' is in {shard}, which does not hold it; \
                     copy or download the folder again"
                );
                return Err(Error::Weights { path: index, reason });
            }
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

    /// A tensor's bytes as they are in the file.
    pub(super) fn bytes(&self, name: &str) -> Option<&[u8]> {
        let (_, map) = &self.files[*self.index.get(name)?];
        // The header was checked when the file was opened.
        Some(SafeTensors::deserialize(map).ok()?.tensor(name).ok()?.data())
    }

    /// A hash (sha256) of all tensors of the text model: names, types, shapes and bytes, whatever the
    /// files are that hold them.
    pub fn fingerprint(&self) -> String {
        let text = self.index.iter().filter(|(name, _)| !Spelling::is_not_text(name));
        let mut hashes: Vec<(String, String)> = text
            .par_bridge()
            .filter_map(|(name, &file)| {
                let (_, map) = &self.files[file];
                let view = SafeTensors::deserialize(map).ok()?.tensor(name).ok()?;
                let described = format!("{:?} {:?} ", view.dtype(), view.shape());
                let hash = hash::bytes(view.data());
                release(map, view.data());
                Some((Spelling::plain(name), described + &hash))
            })
            .collect();
        hashes.sort();
        let lines = hashes.iter().map(|(name, rest)| format!("{name} {rest}\n"));
        hash::bytes(lines.collect::<String>().as_bytes())
    }

    /// Names of tensors that were not asked for.
    pub fn unused(&self) -> Vec<&str> {
        self.index.keys().filter(|name| !self.used.contains(*name)).map(String::as_str).collect()
    }

    /// Reads the tensor `name` of exactly `shape` as `dtype` (f32 or bf16) onto `device`. On the CPU
    /// the values are copied once, from the file's pages into the tensor.
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
        self.read(name, &shape, |view| {
            let data = match dtype {
                DType::BF16 => TensorData::new(values(view, bf16::from_f32)?, shape),
                _ => TensorData::new(values(view, |v| v)?, shape),
            };
            Ok(Tensor::<D>::from_data(data, (device, dtype)))
        })
    }

    /// Quantises the matrix `name` of exactly `size` row by row, straight from the file's pages.
    ///
    /// # Errors
    ///
    /// As [`WeightFiles::tensor`].
    pub fn quantized(&mut self, name: &str, size: [usize; 2], bits: Bits) -> Result<QuantMatrix> {
        self.read(name, &size, |view| {
            let width = size[1] * bytes_per_value(view.dtype())?;
            let (bytes, dtype) = (view.data(), view.dtype());
            QuantMatrix::quantize(bits, size, |i, row| {
                convert(dtype, &bytes[i * width..(i + 1) * width], i * size[1], row, |v| v)
            })
        })
    }

    /// Hands the tensor `name` to `read`, whose errors get the file's and the tensor's name.
    fn read<T>(
        &mut self,
        name: &str,
        shape: &[usize],
        read: impl FnOnce(&TensorView) -> std::result::Result<T, String>,
    ) -> Result<T> {
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
        let value = read(&view).map_err(|reason| fail(format!("tensor '{name}': {reason}")))?;
        release(map, view.data());
        self.used.insert(name.into());
        Ok(value)
    }
}

/// Lets the system drop the pages of a tensor that was read: it is not read again, and memory that
/// only mirrors the file would be counted as this process's.
fn release(map: &Mmap, read: &[u8]) {
    let start = read.as_ptr() as usize - map.as_ptr() as usize;
    // SAFETY: the map is read-only and of a file, so that dropped pages are read again when needed.
    // A failure costs nothing but the pages.
    let _ = unsafe { map.unchecked_advise_range(UncheckedAdvice::DontNeed, start, read.len()) };
}

/// Tensor names and the files that hold them, each a plain name inside the folder.
fn weight_map(index: &Path) -> Result<BTreeMap<String, String>> {
    let fail = |reason: String| Error::Config { path: index.into(), reason };
    let text = std::fs::read_to_string(index)
        .map_err(|source| Error::Io { path: index.into(), source })?;
    let value: Value = serde_json::from_str(&text).map_err(|e| fail(format!("not JSON: {e}")))?;
    let map = value["weight_map"].as_object().ok_or_else(|| fail("no weight_map".into()))?;
    if map.is_empty() {
        return Err(fail("weight_map is empty".into()));
    }
    let plain = |f: &str| !f.contains(['/', '\\', ':', '\0']) && f.ends_with(".safetensors");
    map.iter()
        .map(|(name, file)| match file.as_str() {
            Some(file) if plain(file) => Ok((name.clone(), file.to_string())),
            _ => Err(fail(format!("weight_map names {file}, not a file of this folder"))),
        })
        .collect()
}

fn bytes_per_value(dtype: Dtype) -> std::result::Result<usize, String> {
    match dtype {
        Dtype::F32 => Ok(4),
        Dtype::BF16 | Dtype::F16 => Ok(2),
        other => Err(format!("type {other:?} is not supported; use f32, bf16 or f16")),
    }
}

/// A tensor's values, all of them finite.
fn values<T: Element>(
    view: &TensorView,
    make: impl Fn(f32) -> T + Sync,
) -> std::result::Result<Vec<T>, String> {
    let (dtype, size) = (view.dtype(), bytes_per_value(view.dtype())?);
    let mut out = vec![make(0.0); view.data().len() / size];
    out.par_chunks_mut(CHUNK)
        .zip(view.data().par_chunks(CHUNK * size))
        .enumerate()
        .try_for_each(|(i, (out, bytes))| convert(dtype, bytes, i * CHUNK, out, &make))?;
    Ok(out)
}

/// Converts as many little-endian values as `out` has. The first is number `start` of its tensor.
fn convert<T>(
    dtype: Dtype,
    bytes: &[u8],
    start: usize,
    out: &mut [T],
    make: impl Fn(f32) -> T,
) -> std::result::Result<(), String> {
    // One flag for all, so that the loop has no branch.
    let mut finite = true;
    let mut write = |out: &mut T, value: f32| {
        finite &= value.is_finite();
        *out = make(value);
    };
    match dtype {
        Dtype::F32 => {
            let values = bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b));
            out.iter_mut().zip(values).for_each(|(out, v)| write(out, v));
        }
        Dtype::BF16 => {
            let values = bytes.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32());
            out.iter_mut().zip(values).for_each(|(out, v)| write(out, v));
        }
        _ => {
            let values = bytes.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32());
            out.iter_mut().zip(values).for_each(|(out, v)| write(out, v));
        }
    }
    match finite {
        true => Ok(()),
        false => Err(format!(
            "one of the values {start} to {} is not finite; the file is damaged",
            start + out.len() - 1
        )),
    }
}
