//! OpenAI's API.

mod answers;
mod body;
mod chat;
mod completions;
mod error;
mod health;
mod logprobs;
mod moderations;
mod params;
mod respond;
pub mod sse;

use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::routing::{get, post};

use crate::app::App;

pub use body::Body;
pub use error::ApiError;

/// What needs a key, if there are keys.
pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/v1/chat/completions", post(chat::create))
        .route("/v1/completions", post(completions::create))
        .route("/v1/models", get(health::models))
        .route("/v1/models/{*name}", get(health::model))
        .route("/v1/moderations", post(moderations::create))
}

/// What is open to everybody.
pub(crate) fn open_routes() -> Router<App> {
    Router::new()
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(crate::metrics::show))
}

/// Seconds since 1970.
pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
