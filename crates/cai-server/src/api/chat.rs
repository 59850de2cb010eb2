//! `POST /v1/chat/completions`.

use axum::extract::State;
use axum::response::Response;
use cai_data::record::Role;
use serde_json::{Map, Value};

use super::answers::Answers;
use super::params::{Fields, Wanted, max_tokens, messages, top_logprobs};
use super::respond::{Kind, Responder};
use super::{ApiError, Body};
use crate::app::App;

/// Handles a request.
pub(super) async fn create(
    State(app): State<App>,
    Body(fields): Body<Map<String, Value>>,
) -> Result<Response, ApiError> {
    let limits = &app.config.limits;
    let mut fields = Fields(fields);
    let name: String = fields.need("model")?;
    let messages = messages(fields.need("messages")?)?;
    let logprobs = logprobs_wanted(&mut fields)?;
    let max_tokens = max_tokens(&mut fields, limits)?;
    let wanted = Wanted::take(&mut fields, logprobs, max_tokens, limits)?;
    fields.finish()?;
    let model = app.models.get(&name)?;

    let prompt = model.prompt(&messages)?;
    let sampling = wanted.sampling_for("messages", model, prompt.len())?;
    let users = messages.iter().filter(|message| message.role == Role::User);
    let texts = users.map(|message| message.content.clone()).collect();
    let respond = Responder::new(Kind::Chat, name, &wanted)?;
    let scorer = logprobs.map(|_| model.tokenizer().clone());
    let answers = match app.judge("prompt", texts).await? {
        Some(withheld) => {
            Answers::withheld(app.clone(), withheld, prompt.len(), wanted.seeds.len())
        }
        None => {
            let answers = app.models.continue_ids(model, prompt, sampling, wanted.seeds)?;
            Answers::new(app.clone(), scorer, !wanted.stream, vec![answers])
        }
    };
    respond.to(answers, model.tokenizer().clone()).await
}

fn logprobs_wanted(fields: &mut Fields) -> Result<Option<usize>, ApiError> {
    let (wanted, top) = (fields.take("logprobs")?, fields.take("top_logprobs")?);
    match (wanted.unwrap_or(false), top) {
        (true, top) => Ok(Some(top_logprobs("top_logprobs", top.unwrap_or(0))?)),
        (false, None | Some(0)) => Ok(None),
        (false, Some(_)) => {
            Err(ApiError::invalid("top_logprobs", "top_logprobs needs logprobs: true"))
        }
    }
}
