//! Chat templates by name.

use std::convert::Infallible;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Gemma's turns: user and model alternate, contents are trimmed, there is no system turn.
pub const GEMMA_CHAT_TEMPLATE: &str = include_str!("templates/gemma.jinja");

pub(super) const CHATML: &str = include_str!("templates/chatml.jinja");
pub(super) const PLAIN: &str = include_str!("templates/plain.jinja");

/// A chat template in place of the model's own: `gemma`, `chatml`, `plain`, or else the path of a
/// Jinja file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum TemplateChoice {
    /// Turns between `<start_of_turn>` and `<end_of_turn>`, as Gemma 1 to 3 have them.
    Gemma,
    /// Turns between `<|im_start|>` and `<|im_end|>`, as Qwen and SmolLM have them.
    Chatml,
    /// Text alone, for pre-trained models: "\n\nHuman: …\n\nAssistant: …", the form of hh-rlhf, with
    /// the model's end of text after each turn of the assistant. A message that holds "\n\nHuman:"
    /// itself cannot be told from two turns.
    Plain,
    /// A Jinja file.
    File(PathBuf),
}

impl From<String> for TemplateChoice {
    fn from(text: String) -> Self {
        match text.as_str() {
            "gemma" => Self::Gemma,
            "chatml" => Self::Chatml,
            "plain" => Self::Plain,
            _ => Self::File(text.into()),
        }
    }
}

impl FromStr for TemplateChoice {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(text.to_owned().into())
    }
}

impl From<TemplateChoice> for String {
    fn from(choice: TemplateChoice) -> Self {
        choice.to_string()
    }
}

impl fmt::Display for TemplateChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gemma => f.write_str("gemma"),
            Self::Chatml => f.write_str("chatml"),
            Self::Plain => f.write_str("plain"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_paths_are_read_and_written() {
        for (text, choice) in [
            ("gemma", TemplateChoice::Gemma),
            ("chatml", TemplateChoice::Chatml),
            ("plain", TemplateChoice::Plain),
            ("my/template.jinja", TemplateChoice::File("my/template.jinja".into())),
        ] {
            assert_eq!(text.parse::<TemplateChoice>(), Ok(choice.clone()));
            assert_eq!(serde_json::to_value(&choice).unwrap(), text);
            assert_eq!(serde_json::from_value::<TemplateChoice>(text.into()).unwrap(), choice);
        }
    }
}
