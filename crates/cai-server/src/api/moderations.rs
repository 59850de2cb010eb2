//! `POST /v1/moderations`.

use axum::Json;
use axum::extract::State;
use safety_classifier::Prediction;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::params::Fields;
use super::{ApiError, Body};
use crate::app::App;
use crate::guard::Thresholds;

/// One text or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum Input {
    Text(String),
    Texts(Vec<String>),
    Parts(Vec<Part>),
}

#[derive(Deserialize)]
struct Part {
    text: String,
}

/// What the classifier is called.
const MODEL: &str = "safety-classifier";

/// Handles a request.
pub(super) async fn create(
    State(app): State<App>,
    Body(fields): Body<Map<String, Value>>,
) -> Result<Json<Value>, ApiError> {
    let mut fields = Fields(fields);
    let input = fields.need("input")?;
    // Clients name one of OpenAI's models; there is one classifier here.
    let _: Option<String> = fields.take("model")?;
    fields.finish()?;
    let texts = match input {
        Input::Text(text) => vec![text],
        Input::Texts(texts) => texts,
        Input::Parts(parts) => parts.into_iter().map(|part| part.text).collect(),
    };
    let most = app.config.limits.max_moderation_inputs;
    if texts.len() > most {
        let message = format!("input has {} texts; this server takes {most} at once", texts.len());
        return Err(ApiError::invalid("input", message));
    }
    let classifier = app.classifier()?;
    let predictions = classifier.classify(texts).await?;
    let results: Vec<Value> =
        predictions.iter().map(|p| result(p, classifier.thresholds())).collect();
    Ok(Json(json!({
        "id": format!("modr-{:016x}", getrandom::u64().map_err(ApiError::internal)?),
        "model": MODEL, "fingerprint": classifier.model().fingerprint(), "results": results,
    })))
}

/// `categories` are the classes that reach their thresholds; `category_scores` are the calibrated
/// probabilities of all classes, the safe one included.
fn result(prediction: &Prediction, thresholds: &Thresholds) -> Value {
    let reached = |(class, threshold): (&String, f64)| {
        let score = prediction.probabilities.get(class).copied().unwrap_or_default();
        (class.clone(), json!(score >= threshold))
    };
    let categories: Map<String, Value> = thresholds.of_classes().map(reached).collect();
    json!({
        "flagged": categories.values().any(|reached| *reached == json!(true)),
        "categories": categories, "category_scores": prediction.probabilities,
        "label": prediction.label, "harm": prediction.harm, "truncated": prediction.truncated,
    })
}
