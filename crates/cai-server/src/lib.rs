//! Models and classifier over HTTP.
//!
//! [`Server::start`] loads what it is given and listens; [`Server::run`] serves until it is told to
//! stop. The API is OpenAI's: chat and text completions (plain and streamed), models, moderations;
//! beside it `/healthz`, `/readyz`, `/metrics`, and a playground at `/`.
//!
//! Requests join and leave a running batch between tokens (`models/`). What a request gets depends
//! on its prompt, settings and seed alone, never on what runs beside it.

mod api;
mod app;
mod auth;
mod classify;
mod config;
mod error;
mod guard;
mod listen;
mod metrics;
mod models;
mod playground;

pub use app::{Parts, Server};
pub use auth::Keys;
pub use config::{Connections, EngineConfig, GuardConfig, Limits, PlaygroundConfig, ServeConfig};
pub use error::{Error, Result};
