//! Safetensors files out, one tensor in memory at a time.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    fs,
    io::{self, Write},
    path::Path,
};

use burn::tensor::{DType, TensorData};
use cai_data::atomic::{self, AtomicFile};
use safetensors::Dtype;
use serde_json::{Map, Value, json};

use crate::{Error, Result};

/// A tensor whose bytes are made when it is written.
pub struct LazyTensor<'a> {
    /// Its name in the file.
    pub name: String,
    /// Its type in the file.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Gives its values, little-endian.
    pub bytes: Box<dyn Fn() -> Cow<'a, [u8]> + 'a>,
}

impl LazyTensor<'_> {
    fn len(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.bitsize() / 8
    }
}

/// The type of a file's tensor.
///
/// # Errors
///
/// [`Error::Input`] for another than f32 and bf16.
pub fn file_dtype(name: &str, dtype: DType) -> Result<Dtype> {
    match dtype {
        DType::F32 => Ok(Dtype::F32),
        DType::BF16 => Ok(Dtype::BF16),
        other => Err(Error::Input(format!("cannot write '{name}' as {other:?}"))),
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
    let lazy = |(name, data): &'_ (String, TensorData)| -> Result<_> {
        Ok((name.clone(), file_dtype(name, data.dtype())?, data.shape().to_vec()))
    };
    let described = tensors.iter().map(lazy).collect::<Result<Vec<_>>>()?;
    let lazy = described.into_iter().zip(&tensors).map(|((name, dtype, shape), (_, data))| {
        LazyTensor { name, dtype, shape, bytes: Box::new(|| Cow::Borrowed(data.as_bytes())) }
    });
    write_file(path, lazy.collect(), metadata)
}

/// Writes one safetensors file, atomically. The same tensors give the same bytes: widest type first,
/// then by name, as the safetensors crate has it, and metadata in order of its keys.
fn write_file(
    path: &Path,
    mut tensors: Vec<LazyTensor>,
    metadata: HashMap<String, String>,
) -> Result<()> {
    tensors.sort_by(|a, b| b.dtype.cmp(&a.dtype).then_with(|| a.name.cmp(&b.name)));
    let mut header = Map::new();
    header.insert("__metadata__".into(), json!(metadata.into_iter().collect::<BTreeMap<_, _>>()));
    let mut start = 0;
    for tensor in &tensors {
        let end = start + tensor.len();
        let entry = json!({
            "dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [start, end],
        });
        header.insert(tensor.name.clone(), entry);
        start = end;
    }
    let io = |source: io::Error| Error::Io { path: path.into(), source };
    let mut header = serde_json::to_vec(&Value::Object(header)).map_err(|e| io(e.into()))?;
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut file = AtomicFile::create(path)?;
    file.write_all(&(header.len() as u64).to_le_bytes()).map_err(io)?;
    file.write_all(&header).map_err(io)?;
    for tensor in &tensors {
        file.write_all(&(tensor.bytes)()).map_err(io)?;
    }
    Ok(file.commit()?)
}

/// Writes `model.safetensors`, or shards of at most `shard_bytes` (or one tensor) each with their
/// index, as transformers does, and removes what an earlier save left of the other kind.
///
/// # Errors
///
/// I/O errors.
pub fn write_model(dir: &Path, tensors: Vec<LazyTensor>, shard_bytes: usize) -> Result<()> {
    let metadata = || HashMap::from([("format".to_string(), "pt".to_string())]);
    let (single, index) = (dir.join("model.safetensors"), dir.join("model.safetensors.index.json"));
    let total: usize = tensors.iter().map(LazyTensor::len).sum();
    if total <= shard_bytes {
        write_file(&single, tensors, metadata())?;
        return remove(&index);
    }
    let mut shards: Vec<Vec<LazyTensor>> = Vec::new();
    let mut filled = usize::MAX;
    for tensor in tensors {
        match shards.last_mut() {
            Some(shard) if filled + tensor.len() <= shard_bytes => {
                filled += tensor.len();
                shard.push(tensor);
            }
            _ => {
                filled = tensor.len();
                shards.push(vec![tensor]);
            }
        }
    }
    let count = shards.len();
    let mut weight_map = BTreeMap::new();
    for (i, shard) in shards.into_iter().enumerate() {
        let name = format!("model-{:05}-of-{count:05}.safetensors", i + 1);
        weight_map.extend(shard.iter().map(|tensor| (tensor.name.clone(), name.clone())));
        write_file(&dir.join(&name), shard, metadata())?;
    }
    let value = json!({"metadata": {"total_size": total}, "weight_map": weight_map});
    atomic::write_json(&index, &value)?;
    remove(&single)
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(Error::Io { path: path.into(), source })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::WeightFiles;

    fn tensor(name: &str, values: Vec<f32>) -> (String, TensorData) {
        let count = values.len();
        (name.to_string(), TensorData::new(values, [1, count]))
    }

    #[test]
    fn the_same_tensors_give_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let write = || {
            let keys = ["format", "base", "c", "d", "e"].map(|key| (key.into(), "pt".into()));
            write_safetensors(&path, vec![tensor("w", vec![1.0, 2.0])], HashMap::from(keys))
                .unwrap();
            fs::read(&path).unwrap()
        };
        let first = write();
        assert!((0..10).all(|_| write() == first));
        let file = WeightFiles::open_file(&path).unwrap();
        assert_eq!(file.metadata("format"), Some("pt"));
    }

    #[test]
    fn files_are_those_of_the_safetensors_crate() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let tensors = [tensor("b", vec![1.0, -2.0]), tensor("a.é", vec![3.0])];
        let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
        write_safetensors(&path, tensors.to_vec(), metadata.clone()).unwrap();
        let views = tensors.iter().map(|(name, data)| {
            let shape = data.shape().to_vec();
            let view =
                safetensors::tensor::TensorView::new(Dtype::F32, shape, data.as_bytes()).unwrap();
            (name.as_str(), view)
        });
        let theirs = safetensors::serialize(views, Some(metadata)).unwrap();
        assert!(fs::read(&path).unwrap() == theirs);
    }

    #[test]
    fn shards_hold_every_tensor_once() {
        let folder = tempfile::tempdir().unwrap();
        let lazy = |i: u8| LazyTensor {
            name: format!("t{i}"),
            dtype: Dtype::F32,
            shape: vec![1, 3],
            bytes: Box::new(move || Cow::Owned([i as f32; 3].map(f32::to_le_bytes).concat())),
        };
        let save = |shard_bytes| {
            write_model(folder.path(), (0..5).map(lazy).collect(), shard_bytes).unwrap();
            let mut files = WeightFiles::open(folder.path()).unwrap();
            for i in 0..5 {
                let device = burn::tensor::Device::flex();
                let read = files.tensor(&format!("t{i}"), [1, 3], DType::F32, &device).unwrap();
                let values: Vec<f32> = read.into_data().iter::<f32>().collect();
                assert_eq!(values, [i as f32; 3]);
            }
            assert!(files.unused().is_empty());
        };
        save(25);
        assert!(folder.path().join("model-00003-of-00003.safetensors").exists());
        save(60);
        assert!(!folder.path().join("model.safetensors.index.json").exists());
        save(1);
        assert!(!folder.path().join("model.safetensors").exists());
    }
}
