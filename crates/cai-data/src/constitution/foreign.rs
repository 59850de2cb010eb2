//! Constitutions in the JSON of others: the files published with the paper (arXiv 2212.08073), and
//! those of llm-swarm.

use super::{Category, Constitution, Principle, file, lines};
use crate::record::Message;
use crate::{Error, Result};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::path::Path;

/// An entry of the paper's critique file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Instruction {
    /// Exactly one critique request.
    prompt: [String; 1],
    edit_request: String,
}

/// llm-swarm's file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Swarm {
    constitutions: Vec<SwarmPrinciple>,
    #[serde(default)]
    system_chat: Vec<Turns>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SwarmPrinciple {
    critic: String,
    revision: String,
}

/// Turns are written in one list, or in a list for each conversation.
#[derive(Deserialize)]
#[serde(untagged)]
enum Turns {
    One(Message),
    Several(Vec<Message>),
}

/// The constitution, if the text is in one of these forms.
pub(super) fn parse(text: &str, path: &Path, place: &str) -> Result<Option<Constitution>> {
    if !text.trim_start().starts_with(['{', '[']) {
        return Ok(None);
    }
    let value: Value = serde_json::from_str(text).map_err(|error| invalid(place, error))?;
    let principles = match &value {
        Value::Array(_) => questions(text, place)?,
        Value::Object(object) if object.contains_key("constitutions") => {
            return swarm(text, path, place).map(Some);
        }
        Value::Object(object) if is_instructions(object) => instructions(object, text, place)?,
        // This project's own form may be written as JSON, too.
        _ => return Ok(None),
    };
    Ok(Some(named(path, principles, Vec::new())))
}

fn named(path: &Path, principles: Vec<Principle>, few_shot: Vec<Vec<Message>>) -> Constitution {
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Constitution { name, language: "en".into(), principles, few_shot }
}

fn invalid(place: &str, error: serde_json::Error) -> Error {
    let line = (error.line() > 0).then(|| error.line());
    let reason = format!("{error}; mend the constitution there");
    Error::Invalid { place: lines::at(place, line), reason }
}

fn principle(id: String, critique: &str, revision: &str, question: &str) -> Principle {
    Principle {
        id,
        category: Category::HarmPrevention,
        weight: 1.0,
        risks: Vec::new(),
        critique_request: critique.to_owned(),
        revision_request: revision.to_owned(),
        preference_question: question.to_owned(),
    }
}

fn is_instructions(object: &Map<String, Value>) -> bool {
    !object.is_empty() && object.values().all(|entry| entry.get("edit_request").is_some())
}

/// `{"harmful0": {"prompt": ["\n\nCritiqueRequest: …\n\nCritique:"], "edit_request": …}, …}`. The
/// marks of the paper's plain-text dialogues are taken off: the chat template does their work.
fn instructions(object: &Map<String, Value>, text: &str, place: &str) -> Result<Vec<Principle>> {
    let mut principles = Vec::new();
    for (id, entry) in object {
        let at = || lines::at(place, lines::containing(text, &format!("\"{id}\"")));
        let entry: Instruction = serde_json::from_value(entry.clone()).map_err(|error| {
            Error::Invalid { place: at(), reason: format!("{id}: {error}; mend it") }
        })?;
        let critique = between(&entry.prompt[0], "CritiqueRequest:", "Critique:");
        let revision = between(&entry.edit_request, "RevisionRequest:", "Revision:");
        if critique.is_empty() || revision.is_empty() {
            let reason = format!("{id}: a request is empty; write it, or remove the entry");
            return Err(Error::Invalid { place: at(), reason });
        }
        principles.push(principle(id.clone(), critique, revision, ""));
    }
    Ok(principles)
}

/// `["\nPlease choose the response that is … Options:", …]`.
fn questions(text: &str, place: &str) -> Result<Vec<Principle>> {
    let questions: Vec<String> =
        serde_json::from_str(text).map_err(|error| invalid(place, error))?;
    let mut principles = Vec::new();
    for (i, question) in questions.iter().enumerate() {
        let question = between(question, "", "Options:");
        if question.is_empty() {
            let reason = format!("question {} is empty; write it, or remove it", i + 1);
            return Err(Error::Invalid { place: place.to_owned(), reason });
        }
        principles.push(principle(format!("question{i}"), "", "", question));
    }
    if principles.is_empty() {
        let reason = "the list has no question; write at least one".to_owned();
        return Err(Error::Invalid { place: place.to_owned(), reason });
    }
    Ok(principles)
}

fn swarm(text: &str, path: &Path, place: &str) -> Result<Constitution> {
    let swarm: Swarm = serde_json::from_str(text).map_err(|error| invalid(place, error))?;
    let mut principles = Vec::new();
    for (i, SwarmPrinciple { critic, revision }) in swarm.constitutions.iter().enumerate() {
        let (critic, revision) = (critic.trim(), revision.trim());
        if critic.is_empty() || revision.is_empty() {
            let reason = format!("constitutions[{i}]: critic or revision is empty; write it");
            return Err(Error::Invalid { place: place.to_owned(), reason });
        }
        principles.push(principle(format!("swarm{i}"), critic, revision, ""));
    }
    if principles.is_empty() {
        let reason = "constitutions are none; write at least one".to_owned();
        return Err(Error::Invalid { place: place.to_owned(), reason });
    }
    let mut few_shot: Vec<Vec<Message>> = Vec::new();
    for turns in swarm.system_chat {
        match turns {
            Turns::Several(turns) => few_shot.push(turns),
            // One list for all: as many conversations as its reader sees, which is one.
            Turns::One(turn) => match few_shot.first_mut() {
                Some(dialogue) => dialogue.push(turn),
                None => few_shot.push(vec![turn]),
            },
        }
    }
    if let Some(i) = few_shot.iter().position(|dialogue| !file::alternates(dialogue)) {
        let line = lines::containing(text, "system_chat");
        let reason = format!(
            "system_chat[{i}] must alternate from a user turn to an assistant turn, none of them \
             empty; mend it"
        );
        return Err(Error::Invalid { place: lines::at(place, line), reason });
    }
    Ok(named(path, principles, few_shot))
}

/// The text without `before` at its beginning, `after` at its end, and white space around it.
fn between<'a>(text: &'a str, before: &str, after: &str) -> &'a str {
    let text = text.trim();
    let text = text.strip_prefix(before).unwrap_or(text);
    text.strip_suffix(after).unwrap_or(text).trim()
}
