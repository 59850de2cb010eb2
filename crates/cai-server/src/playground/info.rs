//! What the server has, for the page.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use crate::app::App;

/// Handles `GET /playground/info`.
pub(super) async fn show(State(app): State<App>) -> Json<Value> {
    let names: Vec<&str> = app.models.all().map(|model| model.name.as_str()).collect();
    // An answer may take half of the smallest context: the other half is the conversation's.
    let room = app.models.all().map(|model| model.room() / 2).min().unwrap_or_default();
    let classifier = app.classifier.as_ref().map(|classifier| {
        let model = classifier.model();
        json!({"labels": model.labels(), "safe_label": model.safe_label()})
    });
    let playground = &app.config.playground;
    let critique = &playground.critique;
    Json(json!({
        "models": names,
        "max_tokens": app.config.limits.max_tokens.min(room).max(1),
        "classifier": classifier,
        "constitution": app.constitution,
        "critique": {
            "rounds": critique.rounds,
            "seed": critique.seed,
            "stop_when_safe": critique.stop_when_safe,
            "safe_threshold": critique.safe_threshold,
        },
        "report": playground.report.is_some(),
    }))
}
