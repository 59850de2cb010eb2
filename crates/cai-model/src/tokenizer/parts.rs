//! What a tokenizer is made of, wherever it comes from.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use cai_data::atomic;
use serde_json::{Value as Json, json};
use tokenizers::Tokenizer;

use crate::error::{Error, Result};
use crate::source::load_tokenizer;

/// What a [`ChatTokenizer`](super::ChatTokenizer) is made of: of a folder, a GGUF file, or whatever
/// else holds a model.
pub struct TokenizerParts {
    /// Text to ids and back.
    pub tokenizer: Tokenizer,
    /// The keys of `tokenizer_config.json`: `bos_token`, `add_bos_token` and so on.
    pub config: Json,
    /// The keys of `generation_config.json`, or null.
    pub generation: Json,
    /// The chat template, if it is not in `config`.
    pub template: Option<String>,
    /// Where it comes from, for messages.
    pub path: PathBuf,
}

impl TokenizerParts {
    /// Reads a model's folder: `tokenizer.json`, `tokenizer_config.json`, and where they are there
    /// `chat_template.jinja` and `generation_config.json`; without the latter, the `eos_token_id` of
    /// `config.json`.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] or [`Error::Io`] when a file is missing or malformed.
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join("tokenizer.json");
        let config_path = dir.join("tokenizer_config.json");
        let config = read_json(&config_path)?.ok_or_else(|| missing(&config_path))?;
        let tokenizer = load_tokenizer(&path)?;
        let generation = match read_json(&dir.join("generation_config.json"))? {
            Some(generation) => generation,
            None => match read_json(&dir.join("config.json"))? {
                Some(model) => json!({"eos_token_id": model["eos_token_id"]}),
                None => Json::Null,
            },
        };
        let template = read_text(&dir.join("chat_template.jinja"))?;
        Ok(TokenizerParts { tokenizer, config, generation, template, path })
    }
}

impl TokenizerParts {
    /// Writes them as the files of a model's folder.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] when the tokenizer cannot be written down; I/O errors.
    pub fn write(&self, dir: &Path) -> Result<()> {
        let text = self.tokenizer.to_string(true).map_err(|e| malformed(&self.path, e))?;
        atomic::write(&dir.join("tokenizer.json"), text.as_bytes())?;
        atomic::write_json(&dir.join("tokenizer_config.json"), &self.config)?;
        if !self.generation.is_null() {
            atomic::write_json(&dir.join("generation_config.json"), &self.generation)?;
        }
        match &self.template {
            Some(text) => Ok(atomic::write(&dir.join("chat_template.jinja"), text.as_bytes())?),
            None => Ok(()),
        }
    }
}

fn read_json(path: &Path) -> Result<Option<Json>> {
    let Some(text) = read_text(path)? else { return Ok(None) };
    serde_json::from_str(&text).map(Some).map_err(|error| malformed(path, error))
}

fn read_text(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Io { path: path.to_owned(), source }),
    }
}

fn missing(path: &Path) -> Error {
    Error::Io { path: path.to_owned(), source: ErrorKind::NotFound.into() }
}

fn malformed(path: &Path, error: impl ToString) -> Error {
    Error::Tokenizer { path: path.to_owned(), reason: error.to_string() }
}
