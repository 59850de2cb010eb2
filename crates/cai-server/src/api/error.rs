//! Errors as OpenAI's clients know them.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// Why a request is not served: `{"error": {"message", "type", "param", "code"}}`.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiError {
    status: StatusCode,
    kind: &'static str,
    code: Option<&'static str>,
    param: Option<String>,
    message: String,
}

/// Seconds after which a client that found the queue full may ask again.
const RETRY_AFTER: &str = "1";

impl ApiError {
    fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, kind, code: None, param: None, message: message.into() }
    }

    fn code(self, code: &'static str) -> Self {
        Self { code: Some(code), ..self }
    }

    /// 400: the request is wrong, at `param` if that is known.
    pub fn invalid(param: impl Into<Option<&'static str>>, message: impl Into<String>) -> Self {
        let param = param.into().map(str::to_owned);
        Self { param, ..Self::with_status(StatusCode::BAD_REQUEST, message) }
    }

    /// 400: prompt and answer have no room.
    pub fn context(param: &'static str, message: impl Into<String>) -> Self {
        Self::invalid(param, message).code("context_length_exceeded")
    }

    /// The request is wrong, with a status of its own.
    pub fn with_status(status: StatusCode, message: impl Into<String>) -> Self {
        Self::new(status, "invalid_request_error", message)
    }

    /// 400: a field that this server does not know, or a feature that it does not have.
    pub fn unsupported(field: String) -> Self {
        let message = format!("{field} is not supported here; leave it out");
        let error =
            Self::with_status(StatusCode::BAD_REQUEST, message).code("unsupported_parameter");
        Self { param: Some(field), ..error }
    }

    /// 401: no key, or a wrong one.
    pub fn key(message: &str) -> Self {
        Self::with_status(StatusCode::UNAUTHORIZED, message).code("invalid_api_key")
    }

    /// 404: there is no model of that name.
    pub fn no_model(message: impl Into<String>) -> Self {
        let error = Self::with_status(StatusCode::NOT_FOUND, message).code("model_not_found");
        Self { param: Some("model".into()), ..error }
    }

    /// 429: the queue is full.
    pub fn busy() -> Self {
        let message = "the server is busy: its queue is full; try again later";
        Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", message).code("queue_full")
    }

    /// 503: the server ends.
    pub fn stopping() -> Self {
        let message = "the server is shutting down; send the request again";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", message).code("shutting_down")
    }

    /// 504: it took too long.
    pub fn timeout() -> Self {
        let message = "the request took longer than the server allows; ask for fewer tokens";
        Self::new(StatusCode::GATEWAY_TIMEOUT, "server_error", message).code("timeout")
    }

    /// 500. The cause goes to the log: it may name files.
    pub fn internal(cause: impl std::fmt::Display) -> Self {
        tracing::error!("request failed: {cause}");
        let message = "the server failed at this request; its log says why";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", message)
    }

    /// The body.
    pub fn body(&self) -> Value {
        let Self { kind, code, param, message, .. } = self;
        json!({"error": {"message": message, "type": kind, "param": param, "code": code}})
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body())).into_response();
        let headers = response.headers_mut();
        match self.status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER));
            }
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            // What is left of the body is not read.
            StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT => {
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
        response
    }
}
