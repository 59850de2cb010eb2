//! A Hugging Face model folder.

use std::{borrow::Cow, path::Path};

use burn::{
    module::{Module, ModuleVisitor, Param},
    tensor::{DType, Tensor},
};

use super::{LazyTensor, file_dtype, write_model};
use crate::{
    Error, Result,
    decoder::{Decoder, Weight},
    source::gguf::Gguf,
};

/// Largest size of a weights file; a larger model is saved in shards.
pub const SHARD_BYTES: usize = 5_000_000_000;

/// Files of a folder that belong to the tokenizer and generation.
const COMPANIONS: [&str; 5] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "generation_config.json",
    "special_tokens_map.json",
];

/// Writes `decoder` as a folder that transformers reads: config.json as it was read, weights as
/// `dtype` (in shards of [`SHARD_BYTES`] if they are larger), and the tokenizer's files copied from
/// `origin`.
///
/// # Errors
///
/// [`Error::Input`] for a quantised model, whose weights are not those of its folder; I/O errors,
/// with the path.
pub fn save_folder(
    decoder: &Decoder,
    origin: Option<&Path>,
    dtype: DType,
    dir: &Path,
) -> Result<()> {
    if decoder.weights().iter().any(|weight| matches!(weight, Weight::Quantized(..))) {
        let reason = "a quantised model cannot be saved; load it without quantize";
        return Err(Error::Input(reason.into()));
    }
    let mut collect = Collect { path: Vec::new(), dtype, tensors: Ok(Vec::new()) };
    decoder.visit(&mut collect);
    write_model(dir, collect.tensors?, SHARD_BYTES)?;
    cai_data::atomic::write_json(&dir.join("config.json"), &decoder.spec().raw)?;
    match origin {
        Some(origin) => {
            copy_companions(origin, dir)?;
            copy(origin, dir, "README.md")
        }
        None => Ok(()),
    }
}

/// Copies the files of the model folder `origin` that belong to tokenizer and generation, or writes
/// those that a GGUF file describes.
///
/// # Errors
///
/// I/O errors, with the path.
pub fn copy_companions(origin: &Path, dir: &Path) -> Result<()> {
    if origin.is_file() {
        return Gguf::open(origin)?.tokenizer()?.write(dir);
    }
    COMPANIONS.iter().try_for_each(|name| copy(origin, dir, name))
}

/// Copies a file that may be absent.
fn copy(origin: &Path, dir: &Path, name: &str) -> Result<()> {
    let from = origin.join(name);
    if from.exists() {
        let bytes = std::fs::read(&from).map_err(|source| Error::Io { path: from, source })?;
        cai_data::atomic::write(&dir.join(name), &bytes)?;
    }
    Ok(())
}

/// Fields that only group what stands flat in a checkpoint.
const GROUPS: [&str; 2] = ["per_layer", "mixture"];

/// Collects every tensor of a module under its path.
struct Collect {
    path: Vec<String>,
    dtype: DType,
    tensors: Result<Vec<LazyTensor<'static>>>,
}

impl ModuleVisitor for Collect {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Ok(tensors) = &mut self.tensors else { return };
        let path: Vec<&str> =
            self.path.iter().map(String::as_str).filter(|part| !GROUPS.contains(part)).collect();
        let (name, dtype, value) = (path.join("."), self.dtype, param.val().inner());
        match file_dtype(&name, dtype) {
            Ok(file_dtype) => tensors.push(LazyTensor {
                name,
                dtype: file_dtype,
                shape: value.dims().to_vec(),
                bytes: Box::new(move || {
                    Cow::Owned(value.clone().cast(dtype).into_data().as_bytes().to_vec())
                }),
            }),
            Err(error) => self.tensors = Err(error),
        }
    }

    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.into());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }
}
