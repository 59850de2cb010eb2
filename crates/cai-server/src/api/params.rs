//! The fields of a request.

use cai_data::record::Message;
use cai_data::seed::Seed;
use cai_model::generate::SamplingConfig;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::ApiError;
use crate::config::Limits;
use crate::models::Model;

type Result<T> = std::result::Result<T, ApiError>;

/// Stop strings of a request at most, and bytes of each.
const MAX_STOPS: (usize, usize) = (16, 256);
/// The most likely tokens that can be asked for.
const MAX_TOP_LOGPROBS: usize = 20;

/// The fields that have not been used yet. Whatever is left at the end is an error: nothing that was
/// asked for is left out in silence.
pub(super) struct Fields(pub(super) Map<String, Value>);

impl Fields {
    /// A field; `None` if it is absent or null.
    pub(super) fn take<T: DeserializeOwned>(&mut self, name: &'static str) -> Result<Option<T>> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => serde_json::from_value(value)
                .map(Some)
                .map_err(|error| ApiError::invalid(name, format!("{name}: {error}"))),
        }
    }

    /// A field that must be there.
    pub(super) fn need<T: DeserializeOwned>(&mut self, name: &'static str) -> Result<T> {
        let missing = || ApiError::invalid(name, format!("{name} is missing"));
        self.take(name)?.ok_or_else(missing)
    }

    /// A number within a range.
    fn number(&mut self, name: &'static str, from: f64, to: f64) -> Result<Option<f64>> {
        let number: Option<f64> = self.take(name)?;
        match number.filter(|number| !(from..=to).contains(number)) {
            None => Ok(number),
            Some(wrong) => {
                let message = format!("{name} must be from {from} to {to}, not {wrong}");
                Err(ApiError::invalid(name, message))
            }
        }
    }

    /// A count from 1 on, as far as `most`.
    fn count(&mut self, name: &'static str, most: usize) -> Result<Option<usize>> {
        let Some(value) = self.take::<Value>(name)? else { return Ok(None) };
        let count = value.as_u64().map(|count| usize::try_from(count).unwrap_or(usize::MAX));
        match count.filter(|count| (1..=most).contains(count)) {
            Some(count) => Ok(Some(count)),
            None => {
                let shown: String = value.to_string().chars().take(40).collect();
                let message =
                    format!("{name} must be a whole number from 1 to {most}, not {shown}");
                Err(ApiError::invalid(name, message))
            }
        }
    }

    /// Every field has been used, but those that change nothing: names for the caller's own use, and
    /// features that are turned off.
    pub(super) fn finish(mut self) -> Result<()> {
        const WITHOUT_EFFECT: [&str; 7] = [
            "user",
            "metadata",
            "store",
            "service_tier",
            "safety_identifier",
            "prompt_cache_key",
            "parallel_tool_calls",
        ];
        WITHOUT_EFFECT.into_iter().for_each(|name| drop(self.0.remove(name)));
        let off = [
            ("frequency_penalty", json!(0)),
            ("presence_penalty", json!(0)),
            ("logit_bias", json!({})),
            ("response_format", json!({"type": "text"})),
            ("tools", json!([])),
            ("functions", json!([])),
            ("tool_choice", json!("none")),
            ("function_call", json!("none")),
            ("modalities", json!(["text"])),
            ("echo", json!(false)),
            ("suffix", json!("")),
            ("best_of", json!(1)),
        ];
        for (name, value) in off {
            let same = |given: &Value| match (given.as_f64(), value.as_f64()) {
                (Some(given), Some(value)) => given == value,
                _ => *given == value,
            };
            if self.0.get(name).is_some_and(same) {
                self.0.remove(name);
            }
        }
        match self.0.into_iter().find(|(_, value)| !value.is_null()) {
            None => Ok(()),
            Some((name, _)) => {
                let name: String = name.chars().take(100).collect();
                Err(ApiError::unsupported(name))
            }
        }
    }
}

/// How answers are generated and given.
pub(super) struct Wanted {
    pub(super) sampling: SamplingConfig,
    /// One for each answer.
    pub(super) seeds: Vec<Seed>,
    /// `max_tokens` was named; else an answer gets what the context leaves.
    pub(super) tokens_named: bool,
    /// The seed, for the response.
    pub(super) seed: u64,
    pub(super) stream: bool,
    pub(super) include_usage: bool,
}

#[derive(serde::Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct StreamOptions {
    include_usage: bool,
}

impl Wanted {
    /// Takes the fields that both kinds of completions have, `logprobs` aside.
    pub(super) fn take(
        fields: &mut Fields,
        logprobs: Option<usize>,
        max_tokens: Option<usize>,
        limits: &Limits,
    ) -> Result<Self> {
        let stop = match fields.take("stop")? {
            None => Vec::new(),
            Some(OneOrMany::One(stop)) => vec![stop],
            Some(OneOrMany::Many(stops)) => stops,
        };
        let (most, longest) = MAX_STOPS;
        if stop.len() > most || stop.iter().any(|stop| stop.is_empty() || stop.len() > longest) {
            let message = format!("stop takes up to {most} texts of 1 to {longest} bytes");
            return Err(ApiError::invalid("stop", message));
        }
        let n = fields.count("n", limits.max_choices)?.unwrap_or(1);
        let seed = match fields.take::<i64>("seed")? {
            Some(seed) => seed as u64,
            None => getrandom::u64().map_err(ApiError::internal)?,
        };
        let stream = fields.take("stream")?.unwrap_or(false);
        let options: Option<StreamOptions> = fields.take("stream_options")?;
        if options.is_some() && !stream {
            let message = "stream_options is for requests with stream: true";
            return Err(ApiError::invalid("stream_options", message));
        }
        let sampling = SamplingConfig {
            max_new_tokens: max_tokens.unwrap_or(limits.max_tokens),
            temperature: fields.number("temperature", 0.0, 2.0)?.unwrap_or(1.0),
            top_k: fields.count("top_k", usize::MAX)?,
            top_p: fields.number("top_p", 0.0, 1.0)?.map(|p| p.max(f64::MIN_POSITIVE)),
            min_p: fields.number("min_p", 0.0, 1.0)?,
            repetition_penalty: fields.number("repetition_penalty", 0.01, 100.0)?.unwrap_or(1.0),
            stop,
            stop_token_ids: Vec::new(),
            logprobs,
        };
        Ok(Self {
            sampling,
            seeds: (0..n as u64).map(|choice| Seed(seed).index(choice)).collect(),
            tokens_named: max_tokens.is_some(),
            seed,
            stream,
            include_usage: options.unwrap_or_default().include_usage,
        })
    }

    /// The settings for a prompt of `tokens` tokens.
    pub(super) fn sampling_for(
        &self,
        param: &'static str,
        model: &Model,
        tokens: usize,
    ) -> Result<SamplingConfig> {
        let (room, wanted) = (model.room(), self.sampling.max_new_tokens);
        let left = room.saturating_sub(tokens);
        let fits = if self.tokens_named { wanted <= left } else { left > 0 };
        if !fits {
            let asked = if self.tokens_named { wanted } else { 1 };
            let message = format!(
                "the context of {} is {room} tokens; the prompt has {tokens} and the answer asks \
                 for {asked}: shorten the prompt or lower max_tokens",
                model.name
            );
            return Err(ApiError::context(param, message));
        }
        Ok(SamplingConfig { max_new_tokens: wanted.min(left), ..self.sampling.clone() })
    }
}

/// `max_tokens` under one of its names.
pub(super) fn max_tokens(fields: &mut Fields, limits: &Limits) -> Result<Option<usize>> {
    let tokens = fields.count("max_tokens", limits.max_tokens)?;
    let completion_tokens = fields.count("max_completion_tokens", limits.max_tokens)?;
    Ok(completion_tokens.or(tokens))
}

/// How many of the most likely tokens to tell.
pub(super) fn top_logprobs(name: &'static str, count: u64) -> Result<usize> {
    match usize::try_from(count).ok().filter(|&count| count <= MAX_TOP_LOGPROBS) {
        Some(count) => Ok(count),
        None => {
            let message = format!("{name} must be at most {MAX_TOP_LOGPROBS}");
            Err(ApiError::invalid(name, message))
        }
    }
}

#[derive(serde::Deserialize)]
pub(super) struct Turn {
    role: String,
    #[serde(default)]
    content: Option<Content>,
}

#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(serde::Deserialize)]
struct Part {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    text: String,
}

/// The chat of a request. Gemma has no turn of the system: what it says goes before the first turn of
/// the user, with a blank line between, as Gemma 3's own template has it.
pub(super) fn messages(turns: Vec<Turn>) -> Result<Vec<Message>> {
    let invalid = |message: String| Err(ApiError::invalid("messages", message));
    let mut system = String::new();
    let mut messages: Vec<Message> = Vec::new();
    for (i, Turn { role, content }) in turns.into_iter().enumerate() {
        let text = match content {
            Some(Content::Text(text)) => text,
            Some(Content::Parts(parts)) => {
                if let Some(part) = parts.iter().find(|part| part.kind != "text") {
                    let kind: String = part.kind.chars().take(40).collect();
                    return invalid(format!("messages[{i}]: a part {kind:?}; only text is read"));
                }
                parts.into_iter().map(|part| part.text).collect()
            }
            None => return invalid(format!("messages[{i}] has no content")),
        };
        match role.as_str() {
            "system" | "developer" if messages.is_empty() => {
                system.push_str(&text);
                system.push_str("\n\n");
            }
            "user" => {
                let system = std::mem::take(&mut system);
                messages.push(Message::user(system + &text));
            }
            "assistant" => messages.push(Message::assistant(text)),
            other => {
                let role: String = other.chars().take(40).collect();
                return invalid(format!(
                    "messages[{i}]: role {role:?}; a chat has user and assistant in turn, and \
                     system only before them"
                ));
            }
        }
    }
    match messages.last() {
        Some(last) if last.role == cai_data::record::Role::User => Ok(messages),
        _ => invalid("the last message must be the user's".into()),
    }
}
