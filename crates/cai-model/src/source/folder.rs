//! The tensors of a Hugging Face folder.

use std::path::Path;

use burn::tensor::Tensor;

use super::{Held, Spelling, WeightFiles};
use crate::{
    Error, Result,
    decoder::{Decoder, DecoderSpec, TensorSource, Weight},
};

/// Loads the weights of a folder, held as `held` says: every tensor of the model is filled exactly
/// once. Tensors of the file that the model has no place for are an error, except a head that
/// repeats the embedding it is tied to, keys and values of layers that take those of others, and
/// the part of a model that sees or hears, which is logged.
///
/// # Errors
///
/// See [`WeightFiles`].
pub fn load_folder(dir: &Path, spec: &DecoderSpec, held: &Held) -> Result<Decoder> {
    let files = WeightFiles::open(dir)?;
    let spelling = Spelling::new(files.unused());
    let mut source = Folder { files, spelling, held };
    let decoder = Decoder::load(spec, &mut source)?;
    let Folder { files, spelling, .. } = source;
    if spec.tie_word_embeddings {
        check_head(dir, &files, &spelling)?;
    }
    let head = spelling.of("lm_head.weight");
    let unread = |name: &&str| *name != head && !spec.ignores(&Spelling::plain(name));
    let left = files.unused().into_iter().filter(unread);
    let (other, left): (Vec<_>, Vec<_>) = left.partition(|name| Spelling::is_not_text(name));
    if !other.is_empty() {
        let (count, path) = (other.len(), dir.display());
        tracing::info!(
            "{path}: {count} tensors for images or sound are left out, the text part is whole"
        );
        tracing::debug!("left out: {}", other.join(", "));
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
        None => Ok(decoder),
    }
}

/// A head beside the embedding that it is tied to must repeat it: else one of the two would be
/// dropped in silence.
fn check_head(dir: &Path, files: &WeightFiles, spelling: &Spelling) -> Result<()> {
    let [head, table] = ["lm_head.weight", "model.embed_tokens.weight"].map(|n| spelling.of(n));
    match (files.bytes(&head), files.bytes(&table)) {
        (Some(head), Some(table)) if head != table => Err(Error::Weights {
            path: dir.into(),
            reason: "config.json says tie_word_embeddings: true, but lm_head.weight differs from \
                     the embedding; set tie_word_embeddings: false if the head is one of its own"
                .into(),
        }),
        _ => Ok(()),
    }
}

struct Folder<'a> {
    files: WeightFiles,
    spelling: Spelling,
    held: &'a Held,
}

impl TensorSource for Folder<'_> {
    fn tensor<const D: usize>(&mut self, name: &str, shape: [usize; D]) -> Result<Tensor<D>> {
        let Held { dtype, device, .. } = self.held;
        self.files.tensor(&self.spelling.of(name), shape, *dtype, device)
    }

    fn weight(&mut self, name: &str, size: [usize; 2]) -> Result<Weight> {
        match self.held.bits_of(name) {
            Some(bits) => {
                let weight = self.files.quantized(&self.spelling.of(name), size, bits)?;
                Ok(Weight::Quantized(weight, self.held.device.clone()))
            }
            None => Ok(Weight::dense(name, self.tensor(name, size)?)),
        }
    }
}
