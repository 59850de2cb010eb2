//! Critique and revision of one prompt, each step an event.

use axum::extract::State;
use axum::response::Response;
use cai_data::constitution::Constitution;
use cai_data::record::Message;
use cai_model::generate::SamplingConfig;
use critique_revision::{CritiqueConfig, CritiquePrompt, Error, run_live};
use serde::Deserialize;
use serde_json::Map;
use tokio::runtime::Handle;

use super::speaker::Speaker;
use crate::api::sse::{self, Sender, Stop};
use crate::api::{ApiError, Body};
use crate::app::App;
use crate::classify::Classifier;

/// What the page asks for. The rest is the server's `playground.critique`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// Answers, criticises and revises.
    model: String,
    prompt: Vec<Message>,
    /// At most those of the server's settings.
    rounds: usize,
    seed: u64,
    stop_when_safe: bool,
}

/// Handles `POST /playground/critique`: the steps of [`run_live`] as JSON, and between them
/// `{"step": "text", "text": …}` for each piece that the model writes.
pub(super) async fn run(
    State(app): State<App>,
    Body(wanted): Body<Wanted>,
) -> Result<Response, ApiError> {
    let Some(constitution) = app.constitution.clone() else {
        let message = "this server has no constitution; set playground.constitution";
        return Err(ApiError::invalid(None, message));
    };
    let model = app.models.get(&wanted.model)?;
    let most = app.config.playground.critique.rounds;
    if !(1..=most).contains(&wanted.rounds) {
        let message = format!("rounds must be from 1 to {most}, not {}", wanted.rounds);
        return Err(ApiError::invalid("rounds", message));
    }
    let config = config(&app.config.playground.critique, &wanted, model.room());
    Ok(sse::events(|sender| async move {
        let work = move || tell(&app, &constitution, wanted, &config, sender);
        let ended = tokio::task::spawn_blocking(work).await;
        ended.map_err(ApiError::internal)?
    }))
}

/// The server's settings with the page's wishes. The dialogue of a revision holds the prompt, the
/// answer, the critique and the revision: each gets a quarter of the model's `room` at most.
fn config(base: &CritiqueConfig, wanted: &Wanted, room: usize) -> CritiqueConfig {
    let within = |sampling: &SamplingConfig| SamplingConfig {
        max_new_tokens: sampling.max_new_tokens.min(room / 4).max(1),
        ..sampling.clone()
    };
    CritiqueConfig {
        rounds: wanted.rounds,
        seed: wanted.seed,
        stop_when_safe: wanted.stop_when_safe,
        batch_size: 1,
        initial: within(&base.initial),
        critique: within(&base.critique),
        revision: within(&base.revision),
        ..base.clone()
    }
}

/// Runs in a thread of its own: the crate that does the work waits for the model's answers.
fn tell(
    app: &App,
    constitution: &Constitution,
    wanted: Wanted,
    config: &CritiqueConfig,
    sender: Sender,
) -> Result<(), Stop> {
    let runtime = Handle::current();
    let model = app.models.get(&wanted.model)?;
    let speaker = Speaker::new(&app.models, model, &runtime, &sender);
    let prompt =
        CritiquePrompt { id: "playground".into(), prompt: wanted.prompt, extra: Map::new() };
    let classifier = app.classifier.as_ref().map(Classifier::model);
    // A client that has gone is noticed when the model is asked next.
    let tell = &mut |step: critique_revision::Step| {
        if let Ok(step) = serde_json::to_value(&step) {
            let _ = runtime.block_on(sender.send(&step));
        }
    };
    let done = run_live(&speaker, constitution, classifier, &prompt, config, tell);
    match (done, speaker.stopped()) {
        (_, Some(stop)) => Err(stop),
        (Ok(_), None) => Ok(()),
        (Err(error), None) => Err(refusal(error).into()),
    }
}

/// The error of a request that cannot be worked on, or of a server that failed.
fn refusal(error: Error) -> ApiError {
    match error {
        Error::NothingLeft { .. }
        | Error::NoPrinciple { .. }
        | Error::Setting { .. }
        | Error::Prompt { .. } => ApiError::invalid("prompt", error.to_string()),
        error => ApiError::internal(error),
    }
}
