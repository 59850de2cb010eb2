//! A Hugging Face model folder, in and out.

use std::{collections::HashMap, path::Path};

use burn::{
    module::{Module, ModuleVisitor, Param},
    tensor::{DType, Device, Tensor, TensorData},
};

use super::{Spelling, WeightFiles, write_safetensors};
use crate::{
    Error, Result,
    gemma::{Gemma, GemmaConfig, TensorSource},
};

/// Files of a folder that belong to the tokenizer and generation, copied when a model is saved.
const COMPANIONS: [&str; 6] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "generation_config.json",
    "special_tokens_map.json",
    "README.md",
];

/// Loads the weights of a folder as `dtype` onto `device`: every tensor of the model is filled
/// exactly once. Tensors of the file that the model has no place for are an error, except an
/// `lm_head.weight` beside a tied head, which repeats the embedding, and the part of a Gemma 3 that
/// sees images, which is logged.
///
/// # Errors
///
/// See [`WeightFiles`].
pub fn load_gemma(
    dir: &Path,
    config: &GemmaConfig,
    dtype: DType,
    device: &Device,
) -> Result<Gemma> {
    let files = WeightFiles::open(dir)?;
    let spelling = Spelling::new(files.unused());
    let head = spelling.of("lm_head.weight");
    let mut source = Folder { files, spelling, dtype, device: device.clone() };
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
    device: Device,
}

impl TensorSource for Folder {
    fn tensor<const D: usize>(&mut self, name: &str, shape: [usize; D]) -> Result<Tensor<D>> {
        self.files.tensor(&self.spelling.of(name), shape, self.dtype, &self.device)
    }
}

/// Writes `gemma` as a folder that transformers reads: config.json as it was read, weights as
/// `dtype`, and the tokenizer's files copied from `origin`.
///
/// # Errors
///
/// I/O errors, with the path.
pub fn save_folder(gemma: &Gemma, origin: Option<&Path>, dtype: DType, dir: &Path) -> Result<()> {
    let mut collect = Collect { path: Vec::new(), dtype, tensors: Vec::new() };
    gemma.visit(&mut collect);
    let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
    write_safetensors(&dir.join("model.safetensors"), collect.tensors, metadata)?;
    cai_data::atomic::write_json(&dir.join("config.json"), &gemma.config().raw)?;
    for name in COMPANIONS {
        if let Some(from) = origin.map(|o| o.join(name)).filter(|from| from.exists()) {
            let bytes = std::fs::read(&from).map_err(|source| Error::Io { path: from, source })?;
            cai_data::atomic::write(&dir.join(name), &bytes)?;
        }
    }
    Ok(())
}

/// Collects every tensor of a module under its path.
struct Collect {
    path: Vec<String>,
    dtype: DType,
    tensors: Vec<(String, TensorData)>,
}

impl ModuleVisitor for Collect {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let values = param.val().inner().cast(self.dtype).into_data();
        self.tensors.push((self.path.join("."), values));
    }

    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.into());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }
}
