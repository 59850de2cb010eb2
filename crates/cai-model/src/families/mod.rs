//! The families of decoders: from config.json, or a GGUF file's metadata, to a [`DecoderSpec`].
//!
//! A family is a file: a [`Family`] with its `model_type`s and a function from config.json to the
//! spec, and a line in [`FAMILIES`]. Where the weights may come as GGUF, it also says how that
//! file's metadata reads as config.json.

mod gemma;
mod gemma4;
mod keys;
mod llama;
mod presets;
mod qwen;

use std::path::Path;

use serde_json::{Value, json};

use crate::{Error, Result, decoder::DecoderSpec, source::gguf::Gguf};

pub use presets::{PRESETS, preset};

/// One family of decoders.
pub struct Family {
    /// `model_type`s of config.json that it reads; of a model that also sees images, the text part's
    /// comes second.
    pub model_types: &'static [&'static str],
    /// config.json of the text model to its spec; errors name the key.
    pub spec: fn(&Value) -> std::result::Result<DecoderSpec, String>,
    /// The GGUF files that hold such models.
    pub gguf: &'static [Architecture],
}

/// A `general.architecture` of GGUF files.
pub struct Architecture {
    /// Its name there.
    pub name: &'static str,
    /// Their metadata as config.json.
    pub config: fn(&Gguf) -> Result<Value>,
}

/// All of them.
pub const FAMILIES: &[Family] = &[gemma::FAMILY, gemma4::FAMILY, llama::FAMILY, qwen::FAMILY];

impl DecoderSpec {
    /// Reads `config.json` in `dir`.
    ///
    /// # Errors
    ///
    /// When the file is missing or not JSON, when no family has such a model, or when a value is
    /// absent or impossible; the message names the key.
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join("config.json");
        let text = std::fs::read_to_string(&path)
            .map_err(|source| Error::Io { path: path.clone(), source })?;
        let fail = |reason: String| Error::Config { path: path.clone(), reason };
        let raw: Value = serde_json::from_str(&text).map_err(|e| fail(format!("not JSON: {e}")))?;
        Self::from_json(raw).map_err(fail)
    }

    /// Reads a config from its JSON value; the error says what is wrong with which key.
    ///
    /// Of a model that also sees images the text part is read, and `raw` is that of a model of text
    /// alone.
    ///
    /// # Errors
    ///
    /// In words.
    pub fn from_json(raw: Value) -> std::result::Result<Self, String> {
        let model_type = raw["model_type"].as_str();
        let family = FAMILIES
            .iter()
            .find(|family| model_type.is_some_and(|name| family.model_types.contains(&name)));
        let Some(family) = family else {
            let known: Vec<&str> =
                FAMILIES.iter().flat_map(|family| family.model_types).copied().collect();
            let found = model_type.map_or("is missing and".to_string(), |o| format!("'{o}'"));
            return Err(format!(
                "model_type {found} is not supported; supported are {}",
                known.join(", ")
            ));
        };
        let spec = (family.spec)(&raw)?;
        spec.check()?;
        Ok(spec)
    }

    /// Reads the metadata of a GGUF file.
    ///
    /// # Errors
    ///
    /// [`Error::Weights`] for an architecture that no family has, and for missing or impossible
    /// values; the message names the key.
    pub fn from_gguf(file: &Gguf) -> Result<Self> {
        let fail = |reason| Error::Weights { path: file.path().into(), reason };
        let architecture = file.architecture()?;
        let all = || FAMILIES.iter().flat_map(|family| family.gguf);
        let Some(found) = all().find(|known| known.name == architecture) else {
            let known: Vec<&str> = all().map(|known| known.name).collect();
            return Err(fail(format!(
                "architecture '{architecture}' is not supported; supported are {}",
                known.join(", ")
            )));
        };
        Self::from_json((found.config)(file)?)
            .map_err(|e| fail(format!("its metadata as config: {e}")))
    }
}

/// The config of the text part of a model that also sees images, whole in itself: with what its
/// `text_config` leaves out because it is a default of transformers, and with the outer keys that
/// are about text.
fn text_part(
    raw: &Value,
    [model_type, architecture]: [&str; 2],
    defaults: &[(&str, usize)],
) -> std::result::Result<Value, String> {
    let mut text = match &raw["text_config"] {
        Value::Object(text) => text.clone(),
        other => return Err(format!("text_config must be an object, found {other}")),
    };
    text.insert("model_type".into(), json!(model_type));
    text.insert("architectures".into(), json!([architecture]));
    let outer = [
        "bos_token_id",
        "eos_token_id",
        "pad_token_id",
        "tie_word_embeddings",
        "torch_dtype",
        "dtype",
    ];
    let outer = outer.into_iter().filter_map(|key| Some((key, raw.get(key)?.clone())));
    for (key, value) in outer.chain(defaults.iter().map(|(key, value)| (*key, json!(value)))) {
        text.entry(key).or_insert(value);
    }
    Ok(Value::Object(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_family_is_told_which_there_are() {
        let error = DecoderSpec::from_json(json!({"model_type": "mamba"})).unwrap_err();
        assert!(error.contains("'mamba'") && error.contains("qwen2"), "{error}");
        let error = DecoderSpec::from_json(json!({})).unwrap_err();
        assert!(error.contains("missing"), "{error}");
    }
}
