//! A Hugging Face model folder, in and out.

use std::{borrow::Cow, path::Path};

use burn::{
    module::{Module, ModuleVisitor, Param},
    tensor::{DType, Device, Tensor},
};

use super::{LazyTensor, Spelling, WeightFiles, file_dtype, write_model};
use crate::{
    Error, Result,
    gemma::{Gemma, GemmaConfig, TensorSource, Weight},
    quantize::Bits,
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

/// Loads the weights of a folder as `dtype` onto `device`, or its matrices in `bits`: every tensor
/// of the model is filled exactly once. Tensors of the file that the model has no place for are an
/// error, except an `lm_head.weight` beside a tied head, which repeats the embedding, and the part
/// of a Gemma 3 that sees images, which is logged.
///
/// # Errors
///
/// See [`WeightFiles`].
pub fn load_gemma(
    dir: &Path,
    config: &GemmaConfig,
    dtype: DType,
    bits: Option<Bits>,
    device: &Device,
) -> Result<Gemma> {
    let files = WeightFiles::open(dir)?;
    let spelling = Spelling::new(files.unused());
    let head = spelling.of("lm_head.weight");
    let mut source = Folder { files, spelling, dtype, bits, device: device.clone() };
    let gemma = Gemma::load(config, &mut source)?;
    let left = source.files.unused().into_iter().filter(|name| *name != head);
    let (vision, left): (Vec<_>, Vec<_>) = left.partition(|name| Spelling::is_vision(name));
    if !vision.is_empty() {
        let (count, path) = (vision.len(), dir.display());
        tracing::info!("{path}: {count} tensors for images are left out, the text part is whole");
        tracing::debug!("left out: {}", vision.join(", "));
    }
    match left.first() {
        Some(name) => Err(Error::Weights {
            path: dir.into(),
            reason: format!(
                "{} tensors have no place in this model, the first is '{name}'; \
                 config.json and the weights do not belong together",
                left.len()
            ),
        }),
        None => Ok(gemma),
    }
}

struct Folder {
    files: WeightFiles,
    spelling: Spelling,
    dtype: DType,
    bits: Option<Bits>,
    device: Device,
}

impl TensorSource for Folder {
    fn tensor<const D: usize>(&mut self, name: &str, shape: [usize; D]) -> Result<Tensor<D>> {
        self.files.tensor(&self.spelling.of(name), shape, self.dtype, &self.device)
    }

    /// Embedding and head stay at 8 bits where the layers have 4: they are the ends through which
    /// every token goes, and one matrix of many.
    fn weight(&mut self, name: &str, size: [usize; 2]) -> Result<Weight> {
        let table = ["model.embed_tokens.weight", "lm_head.weight"].contains(&name);
        match self.bits.map(|bits| if table { Bits::Eight } else { bits }) {
            Some(bits) => {
                let weight = self.files.quantized(&self.spelling.of(name), size, bits)?;
                Ok(Weight::Quantized(weight, self.device.clone()))
            }
            None => Ok(Weight::dense(name, self.tensor(name, size)?)),
        }
    }
}

/// Writes `gemma` as a folder that transformers reads: config.json as it was read, weights as
/// `dtype` (in shards of [`SHARD_BYTES`] if they are larger), and the tokenizer's files copied from
/// `origin`.
///
/// # Errors
///
/// [`Error::Input`] for a quantised model, whose weights are not those of its folder; I/O errors,
/// with the path.
pub fn save_folder(gemma: &Gemma, origin: Option<&Path>, dtype: DType, dir: &Path) -> Result<()> {
    if gemma.weights().iter().any(|weight| matches!(weight, Weight::Quantized(..))) {
        let reason = "a quantised model cannot be saved; load it without quantize";
        return Err(Error::Input(reason.into()));
    }
    let mut collect = Collect { path: Vec::new(), dtype, tensors: Ok(Vec::new()) };
    gemma.visit(&mut collect);
    write_model(dir, collect.tensors?, SHARD_BYTES)?;
    cai_data::atomic::write_json(&dir.join("config.json"), &gemma.config().raw)?;
    match origin {
        Some(origin) => {
            copy_companions(origin, dir)?;
            copy(origin, dir, "README.md")
        }
        None => Ok(()),
    }
}

/// Copies the files of the model folder `origin` that belong to tokenizer and generation.
///
/// # Errors
///
/// I/O errors, with the path.
pub fn copy_companions(origin: &Path, dir: &Path) -> Result<()> {
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

/// Collects every tensor of a module under its path.
struct Collect {
    path: Vec<String>,
    dtype: DType,
    tensors: Result<Vec<LazyTensor<'static>>>,
}

impl ModuleVisitor for Collect {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Ok(tensors) = &mut self.tensors else { return };
        let (name, dtype, value) = (self.path.join("."), self.dtype, param.val().inner());
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
