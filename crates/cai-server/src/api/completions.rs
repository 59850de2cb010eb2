//! `POST /v1/completions`.

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::answers::Answers;
use super::params::{Fields, Wanted, max_tokens, top_logprobs};
use super::respond::{Kind, Responder};
use super::{ApiError, Body};
use crate::app::App;
use crate::models::Model;

/// Tokens of an answer where the request names no number: OpenAI's.
const DEFAULT_TOKENS: usize = 16;

/// One prompt or several, as text or as tokens.
#[derive(Deserialize)]
#[serde(untagged)]
enum Prompts {
    Text(String),
    Texts(Vec<String>),
    Ids(Vec<u32>),
    ManyIds(Vec<Vec<u32>>),
}

/// Handles a request.
pub(super) async fn create(
    State(app): State<App>,
    Body(fields): Body<Map<String, Value>>,
) -> Result<Response, ApiError> {
    let limits = &app.config.limits;
    let mut fields = Fields(fields);
    let name: String = fields.need("model")?;
    let prompts = fields.need("prompt")?;
    let logprobs: Option<u64> = fields.take("logprobs")?;
    let logprobs = logprobs.map(|count| top_logprobs("logprobs", count)).transpose()?;
    let max_tokens = max_tokens(&mut fields, limits)?.unwrap_or(DEFAULT_TOKENS);
    let wanted = Wanted::take(&mut fields, logprobs, Some(max_tokens), limits)?;
    fields.finish()?;
    let model = app.models.get(&name)?;

    let prompts = ids(prompts, model)?;
    let count = prompts.len() * wanted.seeds.len();
    if prompts.is_empty() || count > limits.max_choices {
        let most = limits.max_choices;
        let message = format!("prompts times n must be from 1 to {most}, not {count}");
        return Err(ApiError::invalid("prompt", message));
    }
    let respond = Responder::new(Kind::Text, name, &wanted)?;
    let decode = |ids: &Vec<u32>| model.tokenizer().decode(ids);
    let texts = prompts.iter().map(decode).collect::<Result<_, _>>().map_err(ApiError::internal)?;
    let scorer = logprobs.map(|_| model.tokenizer().clone());
    let answers = match app.judge("prompt", texts).await? {
        Some(withheld) => {
            Answers::withheld(app.clone(), withheld, prompts.iter().map(Vec::len).sum(), count)
        }
        None => {
            let answers = prompts
                .into_iter()
                .map(|prompt| {
                    let sampling = wanted.sampling_for("prompt", model, prompt.len())?;
                    app.models.continue_ids(model, prompt, sampling, wanted.seeds.clone())
                })
                .collect::<Result<_, _>>()?;
            Answers::new(app.clone(), scorer, !wanted.stream, answers)
        }
    };
    respond.to(answers, model.tokenizer().clone()).await
}

/// The tokens of each prompt. A text begins with what the tokenizer puts before it, and control tokens in it are only text; who
/// wants them gives tokens.
fn ids(prompts: Prompts, model: &Model) -> Result<Vec<Vec<u32>>, ApiError> {
    let encode = |text: String| {
        let tokenizer = model.tokenizer();
        let ids = tokenizer.encode(&text).map_err(ApiError::internal)?;
        Ok(tokenizer.bos().into_iter().chain(ids).collect())
    };
    let prompts = match prompts {
        Prompts::Text(text) => vec![encode(text)?],
        Prompts::Texts(texts) => texts.into_iter().map(encode).collect::<Result<_, _>>()?,
        Prompts::Ids(ids) => vec![ids],
        Prompts::ManyIds(prompts) => prompts,
    };
    let tokens = model.tokenizer().vocab_size() as u32;
    match prompts.iter().flatten().find(|&&id| id >= tokens) {
        Some(id) => {
            let message = format!("there is no token {id}; the model has {tokens}");
            Err(ApiError::invalid("prompt", message))
        }
        None if prompts.iter().any(Vec::is_empty) => {
            Err(ApiError::invalid("prompt", "a prompt has no tokens"))
        }
        None => Ok(prompts),
    }
}
