//! Numbers for Prometheus.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};

use crate::app::App;

/// What is counted.
pub struct Metrics {
    registry: Registry,
    /// Requests that were refused because the queue was full.
    pub refused: Counter,
    /// Tokens that were generated.
    pub tokens: Counter,
    /// Seconds from a request to its first token, the wait in the queue included.
    pub first_token: Histogram,
    /// Texts that were classified.
    pub classified: Counter,
    requests: Family<Labels, Counter>,
    seconds: Family<Route, Histogram>,
    running: Gauge,
    waiting: Gauge,
    connections: Gauge,
    memory: Gauge<f64, AtomicU64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    route: String,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    route: String,
}

/// Bounds of the histograms, in seconds.
const SECONDS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0];

fn seconds() -> Histogram {
    Histogram::new(SECONDS)
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("cai");
        let mut metrics = Self {
            registry: Registry::default(),
            refused: Counter::default(),
            tokens: Counter::default(),
            first_token: seconds(),
            classified: Counter::default(),
            requests: Family::default(),
            seconds: Family::new_with_constructor(seconds),
            running: Gauge::default(),
            waiting: Gauge::default(),
            connections: Gauge::default(),
            memory: Gauge::default(),
        };
        let m = &metrics;
        registry.register("requests", "Requests by route and status", m.requests.clone());
        registry.register_with_unit(
            "request_duration",
            "From a request to the head of its response",
            Unit::Seconds,
            m.seconds.clone(),
        );
        registry.register("requests_refused", "Refused: the queue was full", m.refused.clone());
        registry.register("queue_length", "Requests that wait for a place", m.waiting.clone());
        registry.register("running", "Answers that are generated", m.running.clone());
        registry.register("generated_tokens", "Tokens generated", m.tokens.clone());
        registry.register_with_unit(
            "time_to_first_token",
            "From a request to its first token",
            Unit::Seconds,
            m.first_token.clone(),
        );
        registry.register("classified_texts", "Texts classified", m.classified.clone());
        registry.register("connections", "Open connections", m.connections.clone());
        registry.register_with_unit(
            "resident_memory",
            "Memory of the process",
            Unit::Bytes,
            m.memory.clone(),
        );
        metrics.registry = registry;
        metrics
    }

    /// Counts one more connection until the result is dropped.
    pub(crate) fn connection(self: &Arc<Self>) -> Connected {
        self.connections.inc();
        Connected(self.clone())
    }
}

/// An open connection.
pub(crate) struct Connected(Arc<Metrics>);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.connections.dec();
    }
}

/// Counts requests. The route is the pattern that matched, so that no client can make up labels.
pub(crate) async fn count(State(app): State<App>, request: Request, next: Next) -> Response {
    let start = Instant::now();
    let matched = request.extensions().get::<MatchedPath>();
    let route = matched.map_or("none", MatchedPath::as_str).to_owned();
    let response = next.run(request).await;
    let labels = Labels { route: route.clone(), status: response.status().as_u16() };
    app.metrics.requests.get_or_create(&labels).inc();
    app.metrics.seconds.get_or_create(&Route { route }).observe(start.elapsed().as_secs_f64());
    response
}

/// `GET /metrics`.
pub(crate) async fn show(State(app): State<App>) -> Response {
    let (metrics, status) = (&app.metrics, app.models.status());
    metrics.running.set(status.running.load(Ordering::Relaxed) as i64);
    metrics.waiting.set(status.waiting.load(Ordering::Relaxed) as i64);
    metrics.memory.set(resident_bytes() as f64);
    let mut text = String::new();
    match encode(&mut text, &metrics.registry) {
        Ok(()) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => crate::api::ApiError::internal(error).into_response(),
    }
}

fn resident_bytes() -> u64 {
    let pid = Pid::from_u32(std::process::id());
    let Ok(mut system) = System::new() else { return 0 };
    let refresh = ProcessRefreshKind::nothing().with_memory();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), false, refresh);
    system.process(pid).map_or(0, |process| process.memory())
}
