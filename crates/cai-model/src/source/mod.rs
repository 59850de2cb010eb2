//! Where a base model comes from: a Hugging Face folder (perhaps fetched from the hub), or a GGUF
//! file.

mod bpe;
mod folder;
pub mod gguf;
mod held;
pub mod hub;
mod spelling;
mod tokenizer_json;
mod weights;

pub use folder::load_folder;
pub use held::{Held, Quantize};
pub use spelling::Spelling;
pub use tokenizer_json::load_tokenizer;
pub use weights::WeightFiles;

use std::path::{Path, PathBuf};

use crate::{
    Error, Result,
    decoder::{Decoder, DecoderSpec},
    tokenizer::{ChatTokenizer, TokenizerParts},
};
use gguf::Gguf;

/// A base model that is described but not in memory.
pub struct ModelSource {
    /// The folder or file.
    pub path: PathBuf,
    /// The decoder's shape.
    pub spec: DecoderSpec,
    /// Tokenizer and chat template.
    pub tokenizer: ChatTokenizer,
    /// The file, if it is one.
    gguf: Option<Gguf>,
}

impl ModelSource {
    /// Reads config (or metadata), tokenizer and the weights' headers of a folder or of a GGUF file,
    /// but no tensor. `tokenizer` is a folder whose tokenizer takes the place of the model's own.
    ///
    /// # Errors
    ///
    /// Missing or damaged files, an unsupported architecture; each message says what to do.
    pub fn open(path: &Path, tokenizer: Option<&Path>) -> Result<Self> {
        let gguf = match path.is_file() {
            true => Some(Gguf::open(path)?),
            false if path.is_dir() => None,
            false => {
                let reason = "no such model; give the path of a Hugging Face model folder or of a \
                              GGUF file";
                return Err(Error::Config { path: path.into(), reason: reason.into() });
            }
        };
        let (spec, parts) = match (&gguf, tokenizer) {
            (Some(file), None) => (DecoderSpec::from_gguf(file)?, file.tokenizer()?),
            (Some(file), Some(dir)) => (DecoderSpec::from_gguf(file)?, TokenizerParts::read(dir)?),
            (None, dir) => {
                let parts = TokenizerParts::read(dir.unwrap_or(path))?;
                (DecoderSpec::read(path)?, parts)
            }
        };
        if gguf.is_none() {
            WeightFiles::open(path)?;
        }
        let tokenizer = ChatTokenizer::new(parts)?;
        check_sizes(path, &tokenizer, &spec)?;
        Ok(Self { path: path.into(), spec, tokenizer, gguf })
    }

    /// Loads the weights.
    ///
    /// # Errors
    ///
    /// A tensor that is missing, of another shape or type, or not finite; tensors without a place.
    pub fn decoder(&self, held: &Held) -> Result<Decoder> {
        match &self.gguf {
            Some(file) => gguf::load(file, &self.spec, held),
            None if held.quantize == Some(Quantize::Stored) => Err(Error::Input(
                "quantize: stored is for GGUF files; a folder's weights are held in 8 or 4 bits, or \
                 as they are"
                    .into(),
            )),
            None => load_folder(&self.path, &self.spec, held),
        }
    }

    /// Names the weights by content (sha256): the same tensors give the same name however many files
    /// they are in.
    ///
    /// # Errors
    ///
    /// Those of the files.
    pub fn fingerprint(&self) -> Result<String> {
        match &self.gguf {
            Some(file) => file.fingerprint(),
            None => Ok(WeightFiles::open(&self.path)?.fingerprint()),
        }
    }
}

/// Says where tokenizer and embedding are not of one size, which is usual: unused tokens that the
/// model has no row for, or rows that fill it up to a round number. Where many tokens have no row, or
/// one that every text or chat needs, the two are of different models.
fn check_sizes(path: &Path, tokenizer: &ChatTokenizer, spec: &DecoderSpec) -> Result<()> {
    let (tokens, rows) = (tokenizer.vocab_size(), spec.vocab_size);
    let needed = [tokenizer.bos(), Some(tokenizer.eos()), Some(tokenizer.pad())];
    let needed = needed.into_iter().flatten().chain(tokenizer.control_ids().iter().copied());
    if tokens > rows + rows / 8 || needed.into_iter().any(|id| id as usize >= rows) {
        return Err(Error::Tokenizer {
            path: path.join("tokenizer.json"),
            reason: format!(
                "it has {tokens} tokens and the model's embedding only {rows}; tokenizer and \
                 weights do not belong together"
            ),
        });
    }
    let path = path.display();
    if tokens > rows {
        let beyond = tokenizer.ids_beyond(rows);
        let names: Vec<&str> = beyond.iter().take(3).map(|(_, name)| name.as_str()).collect();
        tracing::info!(
            "{path}: {} tokens have no row in the model's embedding ({rows} rows), such as {}; a \
             text that holds one is an error",
            beyond.len(),
            names.join(", ")
        );
    } else if rows > tokens {
        tracing::debug!("{path}: {} rows of the embedding have no token", rows - tokens);
    }
    Ok(())
}
