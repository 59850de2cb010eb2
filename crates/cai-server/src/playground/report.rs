//! The evaluation's report.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::api::ApiError;
use crate::app::App;

/// The report has styles, figures and a script of its own in one file, and answers of models in it:
/// in a sandbox it cannot see what the playground keeps, such as the key.
const POLICY: &str = "sandbox allow-scripts; default-src 'none'; style-src 'unsafe-inline'; \
                      script-src 'unsafe-inline'; img-src data:; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";
/// Bytes of the form at most.
const FORM: usize = 1024;

/// Handles `POST /playground/report`. A link cannot send a header, so that the page sends a form, as
/// plain text: `key=KEY`.
pub(super) async fn show(State(app): State<App>, form: Body) -> Result<Response, ApiError> {
    let time = Duration::from_secs_f64(app.config.connections.body_seconds);
    let form = tokio::time::timeout(time, to_bytes(form, FORM)).await;
    let form = form.map_err(|_| ApiError::timeout())?;
    let form = form.map_err(|error| ApiError::invalid("key", error.to_string()))?;
    if !app.keys.accepts(key(&form)) {
        return Err(ApiError::key("the key is not one of this server's"));
    }
    let Some(path) = &app.config.playground.report else {
        let message = "this server has no report; set playground.report";
        return Err(ApiError::with_status(StatusCode::NOT_FOUND, message));
    };
    let read = tokio::fs::read(path).await;
    let page = read.map_err(|e| ApiError::internal(format!("{}: {e}", path.display())))?;
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
    ];
    Ok((headers, page).into_response())
}

/// The key of a form `key=KEY`, which ends in a line break.
fn key(form: &[u8]) -> &str {
    let text = std::str::from_utf8(form).unwrap_or_default();
    text.strip_prefix("key=").unwrap_or_default().trim_end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_read_as_it_was_typed() {
        assert_eq!(key(b"key=sk-a+b%20=\r\n"), "sk-a+b%20=");
        assert_eq!(key(b"key=\r\n"), "");
        assert_eq!(key(b"other=sk"), "");
        assert_eq!(key(b"\xff"), "");
    }
}
