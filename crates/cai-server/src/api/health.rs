//! What there is, and whether it works.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::ApiError;
use crate::app::App;
use crate::models::Model;

fn describe(app: &App, model: &Model) -> Value {
    json!({
        "id": model.name, "object": "model", "created": app.started, "owned_by": "cai",
        "fingerprint": model.fingerprint, "context_length": model.room(),
    })
}

/// `GET /v1/models`.
pub(super) async fn models(State(app): State<App>) -> Json<Value> {
    let models: Vec<Value> = app.models.all().map(|model| describe(&app, model)).collect();
    Json(json!({"object": "list", "data": models}))
}

/// `GET /v1/models/NAME`.
pub(super) async fn model(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<Value>, ApiError> {
    Ok(Json(describe(&app, app.models.get(&name)?)))
}

/// `GET /healthz`: whether the process is worth keeping.
pub(super) async fn alive(State(app): State<App>) -> (StatusCode, &'static str) {
    match app.models.alive() {
        true => (StatusCode::OK, "ok\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "the thread that generates is stuck or gone\n"),
    }
}

/// `GET /readyz`: whether requests should be sent here.
pub(super) async fn ready(State(app): State<App>) -> (StatusCode, &'static str) {
    match (app.stopping(), app.models.ready() && app.models.alive()) {
        (true, _) => (StatusCode::SERVICE_UNAVAILABLE, "shutting down\n"),
        (_, true) => (StatusCode::OK, "ready\n"),
        (_, false) => (StatusCode::SERVICE_UNAVAILABLE, "no token was generated yet\n"),
    }
}
