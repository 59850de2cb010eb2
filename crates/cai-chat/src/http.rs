//! Requests to a server that may be busy, slow or broken: retried with growing waits, at no more
//! than a set rate.

use std::sync::{Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use cai_data::seed::Seed;
use rand::RngExt;
use serde_json::Value;
use ureq::Agent;
use ureq::http::Response;

use crate::{Error, Result, ServerConfig};

/// An answer that is longer is refused: no reply is.
const MOST_BYTES: u64 = 16 << 20;
/// No wait is longer, whatever the server asks for.
const LONGEST_WAIT: Duration = Duration::from_secs(120);

/// The way to one address of a server.
pub(crate) struct Http {
    agent: Agent,
    url: String,
    key: Option<String>,
    retries: usize,
    backoff: f64,
    /// Time between two requests, at least.
    interval: Duration,
    /// When the next request may go.
    next: Mutex<Instant>,
}

/// What one attempt came to.
enum Attempt {
    Answer(Value),
    /// The server does not take this request; others may be fine.
    Rejected,
    /// Worth another attempt, after the wait that the server asks for.
    Again {
        why: String,
        wait: Option<Duration>,
    },
    /// No request to this address can succeed.
    Hopeless(String),
}

impl Http {
    pub(crate) fn new(url: String, key: Option<String>, config: &ServerConfig) -> Self {
        let own_machine = ["http://127.0.0.1", "http://localhost", "http://[::1]"];
        let mut settings = Agent::config_builder()
            .timeout_global(Some(Duration::from_secs_f64(config.timeout_seconds)))
            .http_status_as_error(false);
        if own_machine.iter().any(|start| url.starts_with(start)) {
            settings = settings.proxy(None);
        }
        let interval = config.requests_per_minute.map_or(0.0, |rate| 60.0 / rate);
        Self {
            agent: settings.build().into(),
            url,
            key,
            retries: config.retries,
            backoff: config.backoff_seconds,
            interval: Duration::from_secs_f64(interval),
            next: Mutex::new(Instant::now()),
        }
    }

    /// The answer to `body`; `None` where the server does not take this request. `seed` spreads the
    /// waits of different requests.
    pub(crate) fn post(&self, body: &Value, seed: Seed) -> Result<Option<Value>> {
        let body = body.to_string();
        let mut attempts = 0;
        loop {
            self.wait_for_turn();
            attempts += 1;
            let (why, wait) = match self.attempt(&body) {
                Attempt::Answer(value) => return Ok(Some(value)),
                Attempt::Rejected => return Ok(None),
                Attempt::Hopeless(why) => return Err(self.error(why, attempts)),
                Attempt::Again { why, wait } => (why, wait),
            };
            if attempts > self.retries {
                return Err(self.error(why, attempts));
            }
            let own = backoff(self.backoff, attempts, seed);
            let wait = wait.map_or(own, |asked| asked.max(own)).min(LONGEST_WAIT);
            tracing::info!("{}: {why}; attempt {} in {wait:.1?}", self.url, attempts + 1);
            sleep(wait);
        }
    }

    fn attempt(&self, body: &str) -> Attempt {
        let mut request = self.agent.post(&self.url).header("Content-Type", "application/json");
        if let Some(key) = &self.key {
            request = request.header("Authorization", format!("Bearer {key}"));
        }
        let mut response = match request.send(body.as_bytes()) {
            Ok(response) => response,
            Err(error) => return Attempt::Again { why: error.to_string(), wait: None },
        };
        let status = response.status().as_u16();
        let wait = asked_wait(&response);
        let text = response.body_mut().with_config().limit(MOST_BYTES).read_to_string();
        let says = || {
            let text = text.as_deref().unwrap_or_default();
            let brief: String = text.chars().take(200).collect();
            format!("status {status} {}", brief.trim())
        };
        match status {
            200..300 => match &text {
                Ok(text) => match serde_json::from_str(text) {
                    Ok(value) => Attempt::Answer(value),
                    Err(error) => Attempt::Again { why: format!("no whole answer: {error}"), wait },
                },
                Err(error) => Attempt::Again { why: format!("no whole answer: {error}"), wait },
            },
            // Too long, a filter, a malformed turn: about this request.
            400 | 413 | 422 => Attempt::Rejected,
            408 | 409 | 425 | 429 | 500.. => Attempt::Again { why: says(), wait },
            _ => Attempt::Hopeless(says()),
        }
    }

    /// Sleeps until this request may go.
    fn wait_for_turn(&self) {
        if self.interval.is_zero() {
            return;
        }
        let turn = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let turn = (*next).max(Instant::now());
            *next = turn + self.interval;
            turn
        };
        sleep(turn.saturating_duration_since(Instant::now()));
    }

    pub(crate) fn error(&self, reason: String, attempts: usize) -> Error {
        Error::Server { url: self.url.clone(), reason, attempts }
    }
}

/// The wait after `attempts` failures: doubled each time, between a half and the whole of it, so
/// that requests which failed together do not come back together.
fn backoff(first: f64, attempts: usize, seed: Seed) -> Duration {
    let whole = first * 2f64.powi(attempts.min(16) as i32 - 1);
    let share = seed.derive("backoff").index(attempts as u64).rng().random_range(0.5..1.0);
    Duration::from_secs_f64(whole.min(LONGEST_WAIT.as_secs_f64()) * share)
}

/// `Retry-After` in seconds.
fn asked_wait<T>(response: &Response<T>) -> Option<Duration> {
    let seconds: f64 = response.headers().get("retry-after")?.to_str().ok()?.trim().parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_and_differ_between_requests() {
        for attempts in 1..6 {
            let whole = 0.5 * 2f64.powi(attempts as i32 - 1);
            let wait = |seed| backoff(0.5, attempts, Seed(seed)).as_secs_f64();
            assert!((0.5 * whole..=whole).contains(&wait(1)));
            assert_ne!(wait(1), wait(2));
        }
        assert!(backoff(1.0, 99, Seed(1)) <= LONGEST_WAIT);
    }
}
