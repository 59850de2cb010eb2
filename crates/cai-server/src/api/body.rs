//! The body of a request.

use std::time::Duration;

use axum::body::to_bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderName, StatusCode, header};
use serde::de::DeserializeOwned;

use super::ApiError;
use crate::app::App;

/// JSON in a limited size and time, with errors that name the field.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned> FromRequest<App> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        let limit = app.config.limits.max_body_bytes;
        let too_large = || {
            let message = format!("the body is larger than this server takes, {limit} bytes");
            ApiError::with_status(StatusCode::PAYLOAD_TOO_LARGE, message)
        };
        // A page of another site cannot send this type without asking first, and is told no.
        let kind = header(&request, header::CONTENT_TYPE).unwrap_or_default();
        if !kind.trim().to_ascii_lowercase().starts_with("application/json") {
            let message = "the body must be JSON: send the header Content-Type: application/json";
            return Err(ApiError::with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
        }
        // One that says so is refused before it is read.
        let length = header(&request, header::CONTENT_LENGTH).and_then(|n| n.parse::<u64>().ok());
        if length.is_some_and(|length| length > limit as u64) {
            return Err(too_large());
        }
        let time = Duration::from_secs_f64(app.config.connections.body_seconds);
        let bytes = match tokio::time::timeout(time, to_bytes(request.into_body(), limit)).await {
            Err(_) => {
                let message = "the body did not arrive in time";
                return Err(ApiError::with_status(StatusCode::REQUEST_TIMEOUT, message));
            }
            // The limit, or a connection that broke: then nobody reads this.
            Ok(Err(_)) => return Err(too_large()),
            Ok(Ok(bytes)) => bytes,
        };
        let mut json = serde_json::Deserializer::from_slice(&bytes);
        let value = serde_path_to_error::deserialize(&mut json)
            .map_err(|error| ApiError::invalid(None, format!("the body is wrong: {error}")))?;
        json.end()
            .map_err(|error| ApiError::invalid(None, format!("the body is wrong: {error}")))?;
        Ok(Self(value))
    }
}

fn header(request: &Request, name: HeaderName) -> Option<&str> {
    request.headers().get(name)?.to_str().ok()
}
