//! The text part of a model that also sees or hears, under the names its tensors have there.

use std::collections::BTreeMap;

/// What tensors that the text part has no use for begin with, perhaps after `model.`.
const NOT_TEXT: [&str; 5] =
    ["vision_tower.", "multi_modal_projector.", "audio_tower.", "embed_vision.", "embed_audio."];

/// What PEFT puts before the names of an adapter's tensors.
const ADAPTER: &str = "base_model.model.";

/// From the names of a text model to the names in a file.
///
/// Models that also see hold the text model as `language_model.model.…` (hub checkpoints) or as
/// `model.language_model.…` (transformers 5); adapters of PEFT put their own prefix before that.
pub struct Spelling {
    /// From the text model's names to the file's.
    names: BTreeMap<String, String>,
    /// What the file puts in place of `model.` before the text model's names, if it does.
    prefix: Option<&'static str>,
}

/// What may stand in place of `model.`.
const PREFIXES: [&str; 2] = ["language_model.model.", "model.language_model."];

impl Spelling {
    /// Of a file with these tensors.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let names: BTreeMap<String, String> =
            names.into_iter().map(|name| (Self::plain(name), name.to_string())).collect();
        let begins = |prefix: &&'static str| {
            names
                .values()
                .any(|name| name.strip_prefix(ADAPTER).unwrap_or(name).starts_with(prefix))
        };
        let prefix = PREFIXES.into_iter().find(begins);
        Self { names, prefix }
    }

    /// The file's name of the tensor that a text model calls `name`; `name` where there is none.
    pub fn of(&self, name: &str) -> String {
        self.names.get(name).cloned().unwrap_or_else(|| name.to_string())
    }

    /// What the file would call the module that a text model calls `name`.
    pub fn spelled(&self, name: &str) -> String {
        match (self.prefix, name.strip_prefix("model.")) {
            (Some(prefix), Some(rest)) => format!("{prefix}{rest}"),
            _ => name.to_string(),
        }
    }

    /// Whether the tensor, of a model or of an adapter, belongs to a part that sees or hears.
    pub fn is_not_text(name: &str) -> bool {
        let name = name.strip_prefix(ADAPTER).unwrap_or(name);
        let name = name.strip_prefix("model.").unwrap_or(name);
        NOT_TEXT.iter().any(|prefix| name.starts_with(prefix))
    }

    /// The name in a text model.
    pub fn plain(name: &str) -> String {
        let (prefix, name) = match name.strip_prefix(ADAPTER) {
            Some(rest) => (ADAPTER, rest),
            None => ("", name),
        };
        match (name.strip_prefix("language_model."), name.strip_prefix("model.language_model.")) {
            // `language_model.model.layers.…`, `language_model.lm_head.weight`
            (Some(rest), _) => format!("{prefix}{rest}"),
            (_, Some(rest)) => format!("{prefix}model.{rest}"),
            _ => format!("{prefix}{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_and_their_adapters() {
        let name = "model.layers.0.mlp.up_proj.weight";
        for file in [
            name,
            "language_model.model.layers.0.mlp.up_proj.weight",
            "model.language_model.layers.0.mlp.up_proj.weight",
        ] {
            assert_eq!(Spelling::new([file]).of(name), file);
            let adapter = format!("base_model.model.{file}");
            let plain = format!("base_model.model.{name}");
            assert_eq!(Spelling::new([adapter.as_str()]).of(&plain), adapter);
        }
        let head = "language_model.lm_head.weight";
        assert_eq!(Spelling::new([head]).of("lm_head.weight"), head);
        assert_eq!(Spelling::new([head]).of("absent"), "absent");
        assert!(Spelling::is_not_text("model.vision_tower.embeddings.weight"));
        assert!(Spelling::is_not_text("base_model.model.model.vision_tower.q_proj.lora_A.weight"));
        assert!(!Spelling::is_not_text(name));
    }
}
