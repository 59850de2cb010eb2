//! Files of conversations, preference pairs and prompts in the shapes that TRL reads
//! (its "dataset formats and types"), told apart record by record. Files may be JSONL, a JSON array or
//! CSV (see [`table`]); [`Source`](crate::source::Source) reads those whose columns have other names.
//!
//! Where TRL takes a text or a list of messages, so does this module: a prompt's text becomes one
//! user turn, a completion's text one assistant turn. Fields with other names are kept in `extra`.
//! A field that is `null` counts as absent.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::hh;
use crate::pairs::{LeftOut, Rule, collect, conversation_fault, pair, prompt_fault};
pub use crate::pairs::{PairFile, Policy, Usable};
use crate::record::{Conversation, EvalPrompt, Message, PreferencePair, Prompt, PromptCategory};
use crate::table::{self, Record};
use crate::{Error, Result};

/// A value, or what is wrong with the record.
type Parsed<T> = std::result::Result<T, String>;
/// A record, or why it is left out.
type Made<T> = std::result::Result<T, LeftOut>;

/// Reads conversations to train on: `{"messages"}`, or `{"prompt", "completion"}`.
///
/// # Errors
/// [`Error::Io`] when the file cannot be read; [`Error::Malformed`] for the first line that is of
/// neither shape, or whose turns do not alternate from user to a final assistant turn or are
/// empty; [`Error::Empty`] for a file without records.
pub fn read_conversations(path: &Path) -> Result<Vec<Conversation>> {
    read(path, conversation)
}

/// Reads prompts: `{"prompt"}`. A completion beside it is kept in `extra` like any other field.
///
/// # Errors
/// [`Error::Io`] when the file cannot be read; [`Error::Malformed`] for the first line without a
/// prompt, or whose turns do not alternate from user to user or are empty; [`Error::Empty`] for a
/// file without records.
pub fn read_prompts(path: &Path) -> Result<Vec<Prompt>> {
    read(path, prompt)
}

/// Reads preference pairs, by these shapes:
///
/// - `{"prompt", "chosen", "rejected"}`, texts or messages; messages of `chosen` and `rejected` may
///   repeat the prompt before the reply;
/// - `{"chosen", "rejected"}` with messages, which share all turns but the last;
/// - `{"chosen", "rejected"}` with transcripts as in [`hh`], also with the common beginning of both
///   in `prompt`.
///
/// All go through the rules that [`hh`] lists, under the same names. Optional fields
/// `chosen_probability` (0 to 1) and `weight` (0 or more) are read.
///
/// # Errors
/// [`Error::Io`] when the file cannot be read, [`Error::TooManyMalformed`] for the first malformed
/// line past what `policy` allows, [`Error::Empty`] when no pair is left.
pub fn read_pairs(path: &Path, policy: &Policy) -> Result<PairFile> {
    Ok(collect(path, table::open(path)?, policy, |line| preference_pair(line.value))?.into())
}

fn read<T>(path: &Path, parse: impl Fn(Record) -> Made<T>) -> Result<Vec<T>> {
    let mut values = Vec::new();
    for line in table::open(path)? {
        let line = line?;
        values.push(parse(line.value).map_err(|left_out| Error::Malformed {
            path: path.to_owned(),
            line: line.number,
            reason: left_out.reason(),
        })?);
    }
    if values.is_empty() {
        return Err(Error::Empty { path: path.to_owned(), found: "it has no lines".into() });
    }
    Ok(values)
}

pub(crate) fn conversation(mut record: Record) -> Made<Conversation> {
    let messages = conversation_turns(&mut record).map_err(LeftOut::Malformed)?;
    match conversation_fault(&messages) {
        Some(rule) => Err(rule.into()),
        None => Ok(Conversation { messages, extra: record }),
    }
}

fn conversation_turns(record: &mut Record) -> Parsed<Vec<Message>> {
    match take(record, "messages")? {
        Some(Turns::Messages(messages)) => return Ok(messages),
        Some(Turns::Text(_)) => return Err("field `messages` must be a list of messages".into()),
        None => {}
    }
    let (prompt, completion) = (take(record, "prompt")?, take(record, "completion")?);
    let (Some(prompt), Some(completion)) = (prompt, completion) else {
        return Err("neither `messages` nor both `prompt` and `completion` are there".into());
    };
    Ok([prompt.by(Message::user), completion.by(Message::assistant)].concat())
}

pub(crate) fn prompt(mut record: Record) -> Made<Prompt> {
    let prompt = prompt_turns(&mut record)?;
    Ok(Prompt { prompt, extra: record })
}

fn prompt_turns(record: &mut Record) -> Made<Vec<Message>> {
    let prompt = take(record, "prompt").map_err(LeftOut::Malformed)?;
    let missing = || LeftOut::Malformed("field `prompt` is missing".into());
    let prompt = prompt.ok_or_else(missing)?.by(Message::user);
    match prompt_fault(&prompt) {
        Some(rule) => Err(rule.into()),
        None => Ok(prompt),
    }
}

/// An evaluation prompt, named by `name` if it has no id.
pub(crate) fn eval_prompt(mut record: Record, name: impl Fn() -> String) -> Made<EvalPrompt> {
    let prompt = prompt_turns(&mut record)?;
    let category = category(record.shift_remove("category")).map_err(LeftOut::Malformed)?;
    let mut text = |field: &str| text(&mut record, field).map_err(LeftOut::Malformed);
    let mut made = EvalPrompt::new(text("id")?.unwrap_or_else(name), prompt, category);
    made.reference = text("reference")?;
    made.topic = text("topic")?;
    made.phrasing = text("phrasing")?;
    made.group = text("group")?;
    made.extra = record;
    if made.reference.as_ref().is_some_and(|reference| reference.trim().is_empty()) {
        return Err(Rule::EmptyReference.into());
    }
    Ok(made)
}

fn category(value: Option<Value>) -> Parsed<PromptCategory> {
    let value = match value {
        None | Some(Value::Null) => {
            return Err("field `category` is missing; name its column, or say {value: harmful}, \
                        {value: borderline} or {value: harmless} of the whole file"
                .into());
        }
        Some(Value::String(text)) => text,
        Some(other) => other.to_string(),
    };
    PromptCategory::deserialize(Value::from(value.as_str())).map_err(|_| {
        format!(
            "category `{value}` is none of harmful, borderline, harmless; say what it is: \
             category: {{column: NAME, map: {{{value}: harmful}}}}"
        )
    })
}

/// A text, or a number as one.
fn text(record: &mut Record, field: &str) -> Parsed<Option<String>> {
    match record.shift_remove(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(Value::Number(number)) => Ok(Some(number.to_string())),
        Some(_) => Err(format!("field `{field}` must be a text")),
    }
}

pub(crate) fn preference_pair(mut record: Record) -> Made<PreferencePair> {
    let fields = pair_fields(&mut record).map_err(LeftOut::Malformed)?;
    let made = match (fields.prompt, fields.chosen, fields.rejected) {
        (None, Turns::Text(chosen), Turns::Text(rejected)) => {
            hh::transcript_pair(&chosen, &rejected)?
        }
        (Some(Turns::Text(prompt)), Turns::Text(chosen), Turns::Text(rejected))
            if prompt.starts_with(hh::HUMAN) =>
        {
            hh::transcript_pair(&(prompt.clone() + &chosen), &(prompt + &rejected))?
        }
        (prompt, chosen, rejected) => {
            let prompt = prompt.map_or(Vec::new(), |prompt| prompt.by(Message::user));
            pair(after(&prompt, chosen), after(&prompt, rejected))?
        }
    };
    Ok(PreferencePair {
        chosen_probability: fields.chosen_probability,
        weight: fields.weight,
        extra: record,
        ..made
    })
}

/// The conversation of a prompt and a completion, where the completion may repeat the prompt.
fn after(prompt: &[Message], completion: Turns) -> Vec<Message> {
    let completion = completion.by(Message::assistant);
    if completion.starts_with(prompt) {
        return completion;
    }
    [prompt, &completion].concat()
}

struct PairFields {
    prompt: Option<Turns>,
    chosen: Turns,
    rejected: Turns,
    chosen_probability: Option<f64>,
    weight: Option<f64>,
}

fn pair_fields(record: &mut Record) -> Parsed<PairFields> {
    let fields = PairFields {
        prompt: take(record, "prompt")?,
        chosen: take(record, "chosen")?.ok_or("field `chosen` is missing")?,
        rejected: take(record, "rejected")?.ok_or("field `rejected` is missing")?,
        chosen_probability: number(record, "chosen_probability")?,
        weight: number(record, "weight")?,
    };
    if fields.chosen_probability.is_some_and(|p| !(0.0..=1.0).contains(&p)) {
        return Err("field `chosen_probability` must be a number from 0 to 1".into());
    }
    if fields.weight.is_some_and(|weight| weight < 0.0) {
        return Err("field `weight` must be 0 or more".into());
    }
    Ok(fields)
}

/// What TRL takes for turns.
enum Turns {
    Text(String),
    Messages(Vec<Message>),
}

impl Turns {
    /// The messages; a text is one turn, made by `turn`.
    fn by(self, turn: fn(String) -> Message) -> Vec<Message> {
        match self {
            Turns::Text(text) => vec![turn(text)],
            Turns::Messages(messages) => messages,
        }
    }
}

fn take(record: &mut Record, name: &str) -> Parsed<Option<Turns>> {
    match record.shift_remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(Turns::Text(text))),
        Some(list @ Value::Array(_)) => serde_json::from_value(list)
            .map(|messages| Some(Turns::Messages(messages)))
            .map_err(|error| format!("field `{name}`: {error}")),
        Some(_) => Err(format!("field `{name}` must be a text or a list of messages")),
    }
}

fn number(record: &mut Record, name: &str) -> Parsed<Option<f64>> {
    match record.shift_remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_f64() {
            Some(number) => Ok(Some(number)),
            None => Err(format!("field `{name}` must be a number")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_file<T>(text: &str, read: impl Fn(&Path) -> T) -> T {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.jsonl");
        std::fs::write(&path, text).unwrap();
        read(&path)
    }

    fn one_pair(text: &str) -> PreferencePair {
        let file = with_file(text, |path| read_pairs(path, &Policy::default())).unwrap();
        assert_eq!((file.total, file.pairs.len()), (1, 1));
        file.pairs[0].clone()
    }

    #[test]
    fn conversations_have_three_shapes() {
        let expected = vec![Message::user("Hi"), Message::assistant("Hello.")];
        for text in [
            r#"{"messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":"Hello."}]}"#,
            r#"{"prompt":"Hi","completion":"Hello."}"#,
            r#"{"prompt":[{"role":"user","content":"Hi"}],"completion":[{"role":"assistant","content":"Hello."}]}"#,
        ] {
            let read = with_file(text, read_conversations).unwrap();
            assert_eq!(read, [Conversation::new(expected.clone())]);
        }
    }

    #[test]
    fn bad_conversations_are_refused_with_their_line() {
        for (text, part) in [
            (r#"{"prompt":"Hi"}"#, "neither `messages` nor both"),
            (r#"{"messages":"Hi"}"#, "must be a list"),
            (r#"{"messages":[]}"#, "last turn must be"),
            (r#"{"prompt":"Hi","completion":" "}"#, "is empty"),
            (r#"{"prompt":"","completion":"Hello."}"#, "a turn is empty"),
            (r#"{"messages":[{"role":"assistant","content":"Hello."}]}"#, "first turn must be"),
            (r#"{"messages":[{"role":"system","content":"x"}]}"#, "unknown variant `system`"),
            (r#"{"prompt":7,"completion":"x"}"#, "`prompt` must be a text or a list"),
        ] {
            let error = with_file(&format!("\n{text}"), read_conversations).unwrap_err();
            let error = error.to_string();
            assert!(error.contains("data.jsonl:2: ") && error.contains(part), "{error}");
        }
        assert!(matches!(with_file("\n", read_conversations), Err(Error::Empty { .. })));
    }

    #[test]
    fn prompts_keep_their_other_fields() {
        let text = r#"{"prompt":"Hi","topic":"greetings"}"#;
        let prompts = with_file(text, read_prompts).unwrap();
        assert_eq!(prompts[0].prompt, [Message::user("Hi")]);
        assert_eq!(prompts[0].extra["topic"], "greetings");
        assert!(with_file(r#"{"text":"Hi"}"#, read_prompts).is_err());
    }

    #[test]
    fn pairs_of_every_shape_are_the_same_pair() {
        let user = r#"{"role":"user","content":"Hi"}"#;
        let good = r#"{"role":"assistant","content":"Good."}"#;
        let bad = r#"{"role":"assistant","content":"Bad."}"#;
        let expected = PreferencePair::new(
            vec![Message::user("Hi")],
            vec![Message::assistant("Good.")],
            vec![Message::assistant("Bad.")],
        );
        for text in [
            r#"{"prompt":"Hi","chosen":"Good.","rejected":"Bad."}"#.to_owned(),
            format!(r#"{{"prompt":[{user}],"chosen":[{good}],"rejected":[{bad}]}}"#),
            format!(r#"{{"prompt":"Hi","chosen":[{user},{good}],"rejected":[{user},{bad}]}}"#),
            format!(r#"{{"chosen":[{user},{good}],"rejected":[{user},{bad}]}}"#),
            r#"{"chosen":"\n\nHuman: Hi\n\nAssistant: Good.","rejected":"\n\nHuman: Hi\n\nAssistant: Bad."}"#.to_owned(),
            r#"{"prompt":"\n\nHuman: Hi\n\nAssistant:","chosen":" Good.","rejected":" Bad."}"#.to_owned(),
        ] {
            assert_eq!(one_pair(&text), expected, "{text}");
        }
    }

    #[test]
    fn the_files_that_this_workspace_writes_read_back() {
        let mut pair = one_pair(r#"{"prompt":"Hi","chosen":"Good.","rejected":"Bad."}"#);
        pair.chosen_probability = Some(0.75);
        pair.weight = Some(2.0);
        pair.extra.insert("principle".into(), "harmlessness".into());
        assert_eq!(one_pair(&serde_json::to_string(&pair).unwrap()), pair);
    }

    #[test]
    fn fields_that_make_no_pair_are_malformed() {
        for (text, part) in [
            (r#"{"prompt":"Hi","chosen":"Good."}"#, "`rejected` is missing"),
            (r#"{"prompt":"Hi","chosen":"G","rejected":"B","weight":-1}"#, "`weight` must be 0"),
            (
                r#"{"prompt":"Hi","chosen":"G","rejected":"B","chosen_probability":2}"#,
                "from 0 to 1",
            ),
        ] {
            let error = with_file(text, |path| read_pairs(path, &Policy::default())).unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}
