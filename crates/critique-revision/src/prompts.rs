//! Prompts in.

use std::collections::BTreeMap;
use std::path::Path;

use cai_chat::ChatModel;
use cai_data::jsonl::Reader;
use cai_data::record::{Message, Role};
use cai_data::world::PromptRecord;
use cai_model::generate::SamplingConfig;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Error, Result};

/// A prompt to answer: `{"id", "prompt": [messages]}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CritiquePrompt {
    /// A name, unique among the prompts. Together with the seed it decides principles and samples.
    pub id: String,
    /// The turns to answer; the last is the user's.
    pub prompt: Vec<Message>,
    /// Other fields; they go into the records and what is made of them.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl From<PromptRecord> for CritiquePrompt {
    /// With topic, kind, phrasing and class of the mini world as other fields.
    fn from(record: PromptRecord) -> Self {
        let fields = [
            ("topic", record.topic.as_str()),
            ("kind", record.kind.label()),
            ("phrasing", record.phrasing.as_str()),
            ("class", record.class.label()),
        ];
        let extra = fields.map(|(key, value)| (key.to_owned(), value.into())).into_iter().collect();
        Self { id: record.id, prompt: record.prompt, extra }
    }
}

/// Prompts of a file, and an account of the rest.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PromptFile {
    /// The prompts, in the order of the file.
    pub prompts: Vec<CritiquePrompt>,
    /// Lines left out, by the name of the rule.
    pub left_out: BTreeMap<String, usize>,
}

/// Reads prompts from any JSONL: `prompt` as text or messages, `id` if it has one (else the line's
/// number), other fields kept. Lines that are no prompt are left out and counted: `empty_line`,
/// `not_utf8`, `malformed_line`, `no_prompt`, `empty_prompt`.
///
/// # Errors
///
/// When the file cannot be read, or holds no prompt.
pub fn read_prompts(path: &Path) -> Result<PromptFile> {
    let mut file = PromptFile::default();
    let mut last = 0;
    let mut leave_out = |reason: &str| *file.left_out.entry(reason.to_owned()).or_default() += 1;
    for line in Reader::<Map<String, Value>>::open(path)? {
        let number = match &line {
            Ok(line) => line.number,
            Err(cai_data::Error::Malformed { line, .. }) => *line,
            Err(_) => last + 1,
        };
        (last + 1..number).for_each(|_| leave_out("empty_line"));
        last = number;
        match line {
            Ok(line) => match prompt(line.value, path, number) {
                Ok(prompt) => file.prompts.push(prompt),
                Err(reason) => leave_out(reason),
            },
            Err(cai_data::Error::Malformed { reason, .. }) => {
                leave_out(if reason.starts_with("not UTF-8") {
                    "not_utf8"
                } else {
                    "malformed_line"
                })
            }
            Err(error) => return Err(error.into()),
        }
    }
    if file.prompts.is_empty() {
        let reasons: Vec<String> = file.left_out.iter().map(|(r, n)| format!("{n} {r}")).collect();
        let found = if reasons.is_empty() { "no lines".into() } else { reasons.join(", ") };
        return Err(cai_data::Error::Empty { path: path.to_owned(), found }.into());
    }
    Ok(file)
}

/// The prompt of a line, or the rule by which it is none.
fn prompt(
    mut record: Map<String, Value>,
    path: &Path,
    number: usize,
) -> std::result::Result<CritiquePrompt, &'static str> {
    let prompt: Vec<Message> = match record.shift_remove("prompt") {
        None | Some(Value::Null) => return Err("no_prompt"),
        Some(Value::String(text)) => vec![Message::user(text)],
        Some(turns) => serde_json::from_value(turns).map_err(|_| "malformed_line")?,
    };
    if prompt.is_empty() || prompt.iter().any(|turn| turn.content.trim().is_empty()) {
        return Err("empty_prompt");
    }
    let id = match record.shift_remove("id") {
        Some(Value::String(id)) => id,
        None | Some(Value::Null) => {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            format!("{}-{number:06}", stem.trim_end_matches(".jsonl"))
        }
        Some(other) => other.to_string(),
    };
    Ok(CritiquePrompt { id, prompt, extra: record })
}

/// Prompts for a run.
#[derive(Clone, Debug)]
pub struct Prompts<'a> {
    pub(crate) prompts: &'a [CritiquePrompt],
    /// What was left out before.
    pub(crate) left_out: BTreeMap<String, usize>,
}

impl<'a> From<&'a [CritiquePrompt]> for Prompts<'a> {
    fn from(prompts: &'a [CritiquePrompt]) -> Self {
        Self { prompts, left_out: BTreeMap::new() }
    }
}

impl<'a> From<&'a Vec<CritiquePrompt>> for Prompts<'a> {
    fn from(prompts: &'a Vec<CritiquePrompt>) -> Self {
        prompts.as_slice().into()
    }
}

impl<'a> From<&'a PromptFile> for Prompts<'a> {
    fn from(file: &'a PromptFile) -> Self {
        Self { prompts: &file.prompts, left_out: file.left_out.clone() }
    }
}

/// The prompts that a model can answer, and what was left out on the way.
pub(crate) struct Usable {
    pub(crate) prompts: Vec<CritiquePrompt>,
    /// All that were given, the lines of a file that are none included.
    pub(crate) given: usize,
    pub(crate) left_out: BTreeMap<String, usize>,
}

/// The prompts that the model can answer, in order, and how many were left out for which reason:
/// `no_request` (the last turn is not the user's), `empty_prompt`, and those of
/// [`ChatModel::obstacle`].
///
/// # Errors
///
/// [`Error::NothingLeft`] when there is none.
pub(crate) fn usable(
    model: &dyn ChatModel,
    prompts: &Prompts,
    sampling: &SamplingConfig,
) -> Result<Usable> {
    let Prompts { prompts, mut left_out } = prompts.clone();
    let given = prompts.len() + left_out.values().sum::<usize>();
    let mut kept = Vec::with_capacity(prompts.len());
    for prompt in prompts {
        let asks = prompt.prompt.last().is_some_and(|message| message.role == Role::User);
        let empty = prompt.prompt.iter().any(|turn| turn.content.trim().is_empty());
        let reason = match () {
            () if !asks => Some("no_request"),
            () if empty => Some("empty_prompt"),
            () => model.obstacle(&prompt.prompt, sampling)?,
        };
        match reason {
            Some(reason) => *left_out.entry(reason.to_owned()).or_default() += 1,
            None => kept.push(prompt.clone()),
        }
    }
    if kept.is_empty() {
        let reasons: Vec<String> =
            left_out.iter().map(|(reason, n)| format!("{n} {reason}")).collect();
        let counts = format!("{given} given, left out: [{}]", reasons.join(", "));
        return Err(Error::NothingLeft { counts });
    }
    Ok(Usable { prompts: kept, given, left_out })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_a_file_is_a_prompt_or_counted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("red.jsonl");
        let bytes = b"{\"prompt\": \"How?\", \"topic\": \"x\"}\n\n{\"id\": 7, \"prompt\": \"Why?\"}\n\
            \xff\xfe\n{\"prompt\": \" \"}\n{\"id\": \"a\", \"prompt\": [{\"role\": \"user\", \"content\": \"Who?\"}]}\n\
            not json\n{\"text\": \"x\"}\n{\"prompt\": [{\"role\": \"system\", \"content\": \"x\"}]}\n";
        std::fs::write(&path, bytes).unwrap();
        let file = read_prompts(&path).unwrap();
        let ids: Vec<&str> = file.prompts.iter().map(|prompt| prompt.id.as_str()).collect();
        assert_eq!(ids, ["red-000001", "7", "a"]);
        assert_eq!(file.prompts[0].extra["topic"], "x");
        let left_out: Vec<(&str, usize)> =
            file.left_out.iter().map(|(reason, n)| (reason.as_str(), *n)).collect();
        assert_eq!(
            left_out,
            [
                ("empty_line", 1),
                ("empty_prompt", 1),
                ("malformed_line", 2),
                ("no_prompt", 1),
                ("not_utf8", 1)
            ]
        );
        std::fs::write(&path, "\n{}\n").unwrap();
        let error = read_prompts(&path).unwrap_err().to_string();
        assert!(error.contains("red.jsonl") && error.contains("1 no_prompt"), "{error}");
    }
}
