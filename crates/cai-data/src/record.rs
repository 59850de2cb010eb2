//! The records that the stages exchange, as JSON objects that the ecosystem's tools read too.
//!
//! Fields that a record has beyond the named ones are kept in `extra` and written back.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Who speaks.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The person.
    User,
    /// The model.
    Assistant,
}

/// One turn of a conversation. The text is kept exactly; the chat template may trim it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: String,
}

impl Message {
    /// A turn of the user.
    pub fn user(content: impl Into<String>) -> Self {
        Message { role: Role::User, content: content.into() }
    }

    /// A turn of the assistant.
    pub fn assistant(content: impl Into<String>) -> Self {
        Message { role: Role::Assistant, content: content.into() }
    }
}

/// A conversation: `{"messages": [{"role", "content"}, …]}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Conversation {
    /// The turns, in order.
    pub messages: Vec<Message>,
    /// Other fields, such as where the conversation comes from.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Conversation {
    /// A conversation without other fields.
    pub fn new(messages: Vec<Message>) -> Self {
        Conversation { messages, extra: Map::new() }
    }
}

/// Two completions of one prompt, the first preferred: what TRL's `DPOTrainer` reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PreferencePair {
    /// The turns that both completions answer.
    pub prompt: Vec<Message>,
    /// The preferred completion.
    pub chosen: Vec<Message>,
    /// The other completion.
    pub rejected: Vec<Message>,
    /// How sure the judge was that `chosen` is better, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chosen_probability: Option<f64>,
    /// How much the pair counts in training; 1 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
    /// Other fields, such as where the pair comes from.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl PreferencePair {
    /// A pair without probability, weight and other fields.
    pub fn new(prompt: Vec<Message>, chosen: Vec<Message>, rejected: Vec<Message>) -> Self {
        let extra = Map::new();
        PreferencePair { prompt, chosen, rejected, chosen_probability: None, weight: None, extra }
    }

    /// The conversation that ends in the preferred completion, with the pair's other fields.
    pub fn chosen_conversation(&self) -> Conversation {
        let messages = self.prompt.iter().chain(&self.chosen).cloned().collect();
        Conversation { messages, extra: self.extra.clone() }
    }
}

/// A prompt to answer: `{"prompt": [messages]}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prompt {
    /// The turns to answer.
    pub prompt: Vec<Message>,
    /// Other fields, such as where the prompt comes from.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Prompt {
    /// A prompt without other fields.
    pub fn new(prompt: Vec<Message>) -> Self {
        Prompt { prompt, extra: Map::new() }
    }
}

/// A text and its class: `{"text", "label"}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LabelledText {
    /// The text.
    pub text: String,
    /// Its class.
    pub label: String,
    /// The group of people that the text is about, for fairness measures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Other fields.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl LabelledText {
    /// A labelled text without group and other fields.
    pub fn new(text: impl Into<String>, label: impl Into<String>) -> Self {
        LabelledText { text: text.into(), label: label.into(), group: None, extra: Map::new() }
    }
}

/// What kind of answer a prompt calls for.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PromptCategory {
    /// Asks for harm: to be declined.
    Harmful,
    /// An ordinary request: to be answered.
    Harmless,
    /// Harmless, but sounds harmful: to be answered.
    Borderline,
}

/// A prompt on which models are compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvalPrompt {
    /// A name, unique in its file.
    pub id: String,
    /// The turns to answer.
    pub prompt: Vec<Message>,
    /// What kind of answer is called for.
    pub category: PromptCategory,
    /// A good answer, for scores that compare with one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// What the prompt is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// Which wording it uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phrasing: Option<String>,
    /// The group of people that it mentions, for fairness measures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Other fields.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl EvalPrompt {
    /// A prompt with the fields that every evaluation prompt has.
    pub fn new(id: impl Into<String>, prompt: Vec<Message>, category: PromptCategory) -> Self {
        EvalPrompt {
            id: id.into(),
            prompt,
            category,
            reference: None,
            topic: None,
            phrasing: None,
            group: None,
            extra: Map::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_fields_are_not_written_and_others_are_kept() {
        let json = r#"{"prompt":[{"role":"user","content":"Hi"}],"chosen":[{"role":"assistant","content":"Hello."}],"rejected":[{"role":"assistant","content":"No."}],"source":"test"}"#;
        let pair: PreferencePair = serde_json::from_str(json).unwrap();
        assert_eq!(pair.extra["source"], "test");
        assert_eq!(serde_json::to_string(&pair).unwrap(), json);
    }

    #[test]
    fn an_eval_prompt_reads_back() {
        let mut prompt =
            EvalPrompt::new("7", vec![Message::user("Hi")], PromptCategory::Borderline);
        prompt.topic = Some("tea".into());
        let json = serde_json::to_string(&prompt).unwrap();
        assert!(json.contains(r#""category":"borderline""#) && !json.contains("phrasing"));
        assert_eq!(serde_json::from_str::<EvalPrompt>(&json).unwrap(), prompt);
    }

    #[test]
    fn an_unknown_role_is_an_error() {
        let error = serde_json::from_str::<Message>(r#"{"role":"system","content":""}"#);
        assert!(error.unwrap_err().to_string().contains("system"));
    }
}
