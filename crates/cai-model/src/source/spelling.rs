//! The text part of a Gemma 3 that also sees images, under the names its tensors have there.

use std::collections::BTreeMap;

/// What stands before the names of tensors that the text part has no use for.
const VISION: [&str; 4] = [
    "vision_tower.",
    "multi_modal_projector.",
    "model.vision_tower.",
    "model.multi_modal_projector.",
];

/// What PEFT puts before the names of an adapter's tensors.
const ADAPTER: &str = "base_model.model.";

/// From the names of a text model to the names in a file.
///
/// Gemma 3 4b and up hold the text model as `language_model.model.…` (hub checkpoints) or as
/// `model.language_model.…` (transformers 5); adapters of PEFT put their own prefix before that.
pub struct Spelling(BTreeMap<String, String>);

impl Spelling {
    /// Of a file with these tensors.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        Self(names.into_iter().map(|name| (plain(name), name.to_string())).collect())
    }

    /// The file's name of the tensor that a text model calls `name`; `name` where there is none.
    pub fn of(&self, name: &str) -> String {
        self.0.get(name).cloned().unwrap_or_else(|| name.to_string())
    }

    /// Whether the tensor, of a model or of an adapter, belongs to the part that sees images.
    pub fn is_vision(name: &str) -> bool {
        let name = name.strip_prefix(ADAPTER).unwrap_or(name);
        VISION.iter().any(|prefix| name.starts_with(prefix))
    }
}

/// The name in a text model.
fn plain(name: &str) -> String {
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
        assert!(Spelling::is_vision("model.vision_tower.embeddings.weight"));
        assert!(Spelling::is_vision("base_model.model.model.vision_tower.q_proj.lora_A.weight"));
        assert!(!Spelling::is_vision(name));
    }
}
