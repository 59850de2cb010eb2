//! Server-sent events.

use std::convert::Infallible;
use std::time::Duration;

use axum::http::HeaderName;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::Value;
use tokio::sync::mpsc;

use super::ApiError;

/// Events that wait for a client that is slow to read.
const BUFFER: usize = 64;

/// Where events go. When the client has gone, sending fails.
#[derive(Clone)]
pub struct Sender(mpsc::Sender<Event>);

/// The client has gone: there is nobody to tell.
pub struct Gone;

impl Sender {
    /// Sends one event of JSON.
    ///
    /// # Errors
    ///
    /// When the client has gone.
    pub async fn send(&self, value: &Value) -> Result<(), Gone> {
        self.event(Event::default().data(value.to_string())).await
    }

    async fn event(&self, event: Event) -> Result<(), Gone> {
        self.0.send(event).await.map_err(|_| Gone)
    }
}

/// Why a stream of events ends early.
pub enum Stop {
    /// The client has gone.
    Gone,
    /// It is told this.
    Error(ApiError),
}

impl From<Gone> for Stop {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

impl From<ApiError> for Stop {
    fn from(error: ApiError) -> Self {
        Self::Error(error)
    }
}

/// A response of the events that `work` sends, then `[DONE]`, or an event with the error at which it
/// stopped. `work` is dropped when the client goes.
pub fn events<F, W>(work: F) -> Response
where
    F: FnOnce(Sender) -> W,
    W: Future<Output = Result<(), Stop>> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(BUFFER);
    let sender = Sender(sender);
    let work = work(sender.clone());
    tokio::spawn(async move {
        let closed = sender.clone();
        let end = tokio::select! {
            () = closed.0.closed() => return,
            end = work => end,
        };
        let last = match end {
            Ok(()) => Event::default().data("[DONE]"),
            Err(Stop::Error(error)) => Event::default().data(error.body().to_string()),
            Err(Stop::Gone) => return,
        };
        let _ = sender.event(last).await;
    });
    let stream = stream::unfold(receiver, |mut receiver| async {
        let event = receiver.recv().await?;
        Some((Ok::<_, Infallible>(event), receiver))
    });
    // Some proxies hold answers back until they are whole; this asks them not to.
    let unbuffered = [(HeaderName::from_static("x-accel-buffering"), "no")];
    let keep_alive = KeepAlive::new().interval(Duration::from_secs(10));
    (unbuffered, Sse::new(stream).keep_alive(keep_alive)).into_response()
}
