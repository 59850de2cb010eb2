//! The page on which a person tries the models.
//!
//! The page itself (`crates/cai-server/playground`) is in the binary. It talks to the OpenAI API for
//! answers and risk scores, and to the addresses here for the rest: what the server has, critique and
//! revision live, choices between answers, the evaluation's report.

mod assets;
mod choices;
mod critique;
mod info;
mod preferences;
mod report;
mod speaker;
mod tally;

use axum::Router;
use axum::routing::{get, post};

use crate::app::App;

/// What is open to everybody: the page and its assets, and the report, which checks the key itself.
pub(crate) fn open_routes() -> Router<App> {
    Router::new()
        .route("/", get(assets::page))
        .route("/playground/{*path}", get(assets::asset))
        .route("/playground/report", post(report::show))
}

/// What needs a key, if there are keys.
pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/playground/info", get(info::show))
        .route("/playground/critique", post(critique::run))
        .route("/playground/preferences", get(preferences::show).post(preferences::add))
}
