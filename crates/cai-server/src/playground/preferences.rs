//! A person's choice between two answers, kept as a preference pair, beside the evaluator's.

use axum::Json;
use axum::extract::State;
use cai_data::record::{Message, PreferencePair, Role};
use evaluator::principles::{Evaluators, Exchange, Request, Verdict};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::choices::{self, Choice, Provenance};
use super::tally::Tally;
use crate::api::{ApiError, Body, unix_seconds};
use crate::app::App;

/// Overall scores of the evaluator that differ by less are the same.
const TIE: f64 = 0.02;

/// A choice as the page sends it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Compared {
    prompt: Vec<Message>,
    a: Side,
    b: Side,
    choice: Choice,
    temperature: f64,
    max_tokens: usize,
}

/// One of the two answers.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Side {
    model: String,
    seed: u64,
    text: String,
}

/// What the evaluator says of both answers, and which it takes for the better one.
#[derive(Serialize)]
struct Evaluation {
    choice: Choice,
    a: Verdict,
    b: Verdict,
}

/// Handles `GET /playground/preferences`: the choices so far.
pub(super) async fn show(State(app): State<App>) -> Result<Json<Value>, ApiError> {
    let folder = app.config.playground.preferences.clone();
    let counted = tokio::task::spawn_blocking(move || {
        let tally = Tally::of(&choices::read(&folder)?);
        Ok::<_, ApiError>(json!({"folder": folder, "tally": tally}))
    });
    counted.await.map_err(ApiError::internal)?.map(Json)
}

/// Handles `POST /playground/preferences`: keeps the choice, and says what the evaluator thinks.
pub(super) async fn add(
    State(app): State<App>,
    Body(compared): Body<Compared>,
) -> Result<Json<Value>, ApiError> {
    let evaluation = evaluate(&app, &compared).await?;
    let pair = pair(&app, compared, &evaluation)?;
    let folder = app.config.playground.preferences.clone();
    let kept = tokio::task::spawn_blocking(move || choices::add(&folder, &pair));
    kept.await.map_err(ApiError::internal)??;
    let Json(mut answer) = show(State(app)).await?;
    answer["evaluator"] = json!(evaluation);
    Ok(Json(answer))
}

async fn evaluate(
    app: &App,
    Compared { prompt, a, b, .. }: &Compared,
) -> Result<Evaluation, ApiError> {
    let Some(Message { role: Role::User, content: request }) = prompt.last() else {
        return Err(ApiError::invalid("prompt", "the last message must be the user's"));
    };
    let texts = [request, &a.text, &b.text].map(String::clone);
    let [of_request, of_a, of_b] = match &app.classifier {
        None => [None; 3],
        Some(classifier) => {
            let predictions = classifier.classify(texts.to_vec()).await?;
            std::array::from_fn(|i| Some(predictions[i].harm))
        }
    };
    let request = Request::new(request, None, of_request);
    let assess =
        |reply: &str, harm| Evaluators::default().assess(&Exchange::new(&request, reply, harm));
    let (a, b) = (assess(&a.text, of_a), assess(&b.text, of_b));
    let choice = match a.overall - b.overall {
        difference if difference >= TIE => Choice::A,
        difference if difference <= -TIE => Choice::B,
        _ => Choice::Tie,
    };
    Ok(Evaluation { choice, a, b })
}

fn pair(
    app: &App,
    compared: Compared,
    evaluation: &Evaluation,
) -> Result<PreferencePair, ApiError> {
    let Compared { prompt, a, b, choice, temperature, max_tokens } = compared;
    let mut sides = [(a, evaluation.a.overall), (b, evaluation.b.overall)];
    if choice == Choice::B {
        sides.reverse();
    }
    let [(chosen, chosen_score), (rejected, rejected_score)] = sides;
    let fingerprint = |side: &Side| Ok(app.models.get(&side.model)?.fingerprint.clone());
    let provenance = Provenance {
        source: "person".into(),
        time: unix_seconds(),
        choice,
        evaluator: evaluation.choice,
        chosen_fingerprint: fingerprint(&chosen)?,
        rejected_fingerprint: fingerprint(&rejected)?,
        chosen_model: chosen.model,
        rejected_model: rejected.model,
        chosen_seed: chosen.seed,
        rejected_seed: rejected.seed,
        chosen_score,
        rejected_score,
        temperature,
        max_tokens,
    };
    let extra: Map<String, Value> = serde_json::to_value(provenance)
        .and_then(serde_json::from_value)
        .map_err(ApiError::internal)?;
    let [chosen, rejected] =
        [chosen.text, rejected.text].map(|text| vec![Message::assistant(text)]);
    let chosen_probability = (!choice.is_decided()).then_some(0.5);
    Ok(PreferencePair {
        chosen_probability,
        extra,
        ..PreferencePair::new(prompt, chosen, rejected)
    })
}
