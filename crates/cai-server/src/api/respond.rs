//! Answers in OpenAI's shapes, whole or as events.

use axum::Json;
use axum::response::{IntoResponse, Response};
use cai_model::tokenizer::ChatTokenizer;
use serde_json::{Value, json};

use super::answers::{Answers, End, Part};
use super::logprobs::{self, Scored};
use super::params::Wanted;
use super::{ApiError, sse, unix_seconds};

/// Which of the two shapes.
#[derive(Copy, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// Turns of a chat.
    Chat,
    /// Text that is continued.
    Text,
}

/// What every response to one request says.
pub(super) struct Responder {
    kind: Kind,
    id: String,
    model: String,
    created: u64,
    seed: u64,
    logprobs: bool,
    stream: bool,
    include_usage: bool,
}

impl Responder {
    pub(super) fn new(kind: Kind, model: String, wanted: &Wanted) -> Result<Self, ApiError> {
        let prefix = match kind {
            Kind::Chat => "chatcmpl-",
            Kind::Text => "cmpl-",
        };
        let number = getrandom::u64().map_err(ApiError::internal)?;
        Ok(Self {
            kind,
            id: format!("{prefix}{number:016x}"),
            model,
            created: unix_seconds(),
            seed: wanted.seed,
            logprobs: wanted.sampling.logprobs.is_some(),
            stream: wanted.stream,
            include_usage: wanted.include_usage,
        })
    }

    /// Gives the answers, whole or as they grow.
    pub(super) async fn to(
        self,
        answers: Answers,
        tokenizer: ChatTokenizer,
    ) -> Result<Response, ApiError> {
        match self.stream {
            true => Ok(self.events(answers, tokenizer)),
            false => self.whole(answers, &tokenizer).await,
        }
    }

    async fn whole(
        self,
        mut answers: Answers,
        tokenizer: &ChatTokenizer,
    ) -> Result<Response, ApiError> {
        let mut wholes: Vec<Part> = (0..answers.count()).map(Part::empty).collect();
        while let Some(part) = answers.next().await? {
            let whole = &mut wholes[part.choice];
            whole.text.push_str(&part.text);
            whole.tokens.extend(part.tokens);
            whole.end = part.end;
        }
        let choice = |part: &Part| {
            let mut choice = self.choice(part.choice, part.end.as_ref());
            match self.kind {
                Kind::Chat => {
                    choice["message"] =
                        json!({"role": "assistant", "content": part.text, "refusal": null});
                }
                Kind::Text => choice["text"] = json!(part.text),
            }
            choice["logprobs"] = self.logprobs(&part.tokens, tokenizer);
            choice
        };
        let object = match self.kind {
            Kind::Chat => "chat.completion",
            Kind::Text => "text_completion",
        };
        let mut value = self.value(object, wholes.iter().map(choice).collect());
        value["usage"] = answers.usage();
        Ok(Json(value).into_response())
    }

    fn events(self, mut answers: Answers, tokenizer: ChatTokenizer) -> Response {
        sse::events(|sender| async move {
            if self.kind == Kind::Chat {
                for choice in 0..answers.count() {
                    let delta = json!({"role": "assistant", "content": ""});
                    let mut choice = self.choice(choice, None);
                    choice["delta"] = delta;
                    sender.send(&self.chunk(choice)).await?;
                }
            }
            while let Some(Part { choice: index, text, tokens, end }) = answers.next().await? {
                if !text.is_empty() || !tokens.is_empty() {
                    let mut choice = self.choice(index, None);
                    match self.kind {
                        Kind::Chat => choice["delta"] = json!({"content": text}),
                        Kind::Text => choice["text"] = json!(text),
                    }
                    choice["logprobs"] = self.logprobs(&tokens, &tokenizer);
                    sender.send(&self.chunk(choice)).await?;
                }
                if end.is_some() {
                    let mut choice = self.choice(index, end.as_ref());
                    match self.kind {
                        Kind::Chat => choice["delta"] = json!({}),
                        Kind::Text => choice["text"] = json!(""),
                    }
                    sender.send(&self.chunk(choice)).await?;
                }
            }
            if self.include_usage {
                let mut value = self.chunk(Value::Null);
                value["choices"] = json!([]);
                value["usage"] = answers.usage();
                sender.send(&value).await?;
            }
            Ok(())
        })
    }

    /// What both shapes say about a choice.
    fn choice(&self, index: usize, end: Option<&End>) -> Value {
        let mut choice = json!({
            "index": index, "logprobs": null, "finish_reason": end.map(End::reason),
        });
        if let Some(End::Withheld(withheld)) = end {
            choice["guard"] = json!(withheld);
        }
        choice
    }

    fn chunk(&self, choice: Value) -> Value {
        let object = match self.kind {
            Kind::Chat => "chat.completion.chunk",
            Kind::Text => "text_completion",
        };
        self.value(object, json!([choice]))
    }

    fn value(&self, object: &str, choices: Value) -> Value {
        json!({
            "id": self.id, "object": object, "created": self.created, "model": self.model,
            "seed": self.seed, "choices": choices,
        })
    }

    fn logprobs(&self, tokens: &[Scored], tokenizer: &ChatTokenizer) -> Value {
        match (self.logprobs, self.kind) {
            (false, _) => Value::Null,
            (true, Kind::Chat) => logprobs::chat(tokens, tokenizer),
            (true, Kind::Text) => logprobs::text(tokens, tokenizer),
        }
    }
}
