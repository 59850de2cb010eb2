//! The models that are served, each by name.
//!
//! One thread steps all of them in turn ([`scheduler`]): side by side, their matrix products would
//! only fight over the cores.

mod generation;
mod scheduler;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cai_data::record::Message;
use cai_data::seed::Seed;
use cai_model::Error;
use cai_model::generate::{Request, SamplingConfig};
use cai_model::model::LanguageModel;
use cai_model::tokenizer::ChatTokenizer;
use tokio::sync::{Semaphore, watch};

use crate::api::ApiError;
use crate::config::{EngineConfig, Limits};
use crate::metrics::Metrics;

pub use generation::{Generating, Piece, Token};
use scheduler::Scheduler;

/// All models.
pub struct Models {
    models: Vec<Model>,
    gate: Gate,
    status: Arc<Status>,
}

/// One of them.
pub struct Model {
    /// What requests call it.
    pub name: String,
    /// Names its weights by content.
    pub fingerprint: String,
    tokenizer: ChatTokenizer,
    /// Tokens of a prompt and its answer together.
    room: usize,
    index: usize,
}

/// What every request has to pass.
struct Gate {
    scheduler: Scheduler,
    /// A permit for each answer that runs or waits.
    places: Arc<Semaphore>,
    limits: Limits,
    stopped: watch::Receiver<bool>,
    metrics: Arc<Metrics>,
}

/// What the scheduler tells about itself.
#[derive(Default)]
pub struct Status {
    /// Every model has generated a token.
    ready: AtomicBool,
    /// Answers under way.
    pub running: AtomicUsize,
    /// Requests of which an answer has not begun.
    pub waiting: AtomicUsize,
    /// When the step that is being made began, in milliseconds after `START`; 0 for none.
    stepping_since: AtomicUsize,
}

/// A step that takes longer than this is stuck.
const LONGEST_STEP: Duration = Duration::from_secs(120);

impl Models {
    /// Starts the thread that generates. When `stopped` turns true, every request is told.
    pub(crate) fn start(
        models: Vec<(String, LanguageModel)>,
        engine: &EngineConfig,
        limits: &Limits,
        metrics: Arc<Metrics>,
        stopped: watch::Receiver<bool>,
    ) -> crate::Result<Self> {
        let status = Arc::new(Status::default());
        let places = Arc::new(Semaphore::new(engine.max_batch_size + limits.max_queue));
        let mut served = Vec::new();
        let mut engines = Vec::new();
        for (index, (name, model)) in models.into_iter().enumerate() {
            let context = model.spec.max_position_embeddings;
            served.push(Model {
                name: name.clone(),
                fingerprint: model.fingerprint.clone(),
                tokenizer: model.tokenizer.clone(),
                room: engine.max_length.min(context),
                index,
            });
            engines.push((name, model, engine.limits(context)));
        }
        let scheduler = Scheduler::start(engines, status.clone(), metrics.clone())?;
        let limits = limits.clone();
        let gate = Gate { scheduler, places, limits, stopped, metrics };
        Ok(Self { models: served, gate, status })
    }

    /// The model of that name.
    ///
    /// # Errors
    ///
    /// 404 that lists the names there are.
    pub fn get(&self, name: &str) -> Result<&Model, ApiError> {
        self.models.iter().find(|model| model.name == name).ok_or_else(|| {
            let names: Vec<&str> = self.all().map(|model| model.name.as_str()).collect();
            let shown: String = name.chars().take(100).collect();
            ApiError::no_model(format!(
                "there is no model {shown:?}; this server has: {}",
                names.join(", ")
            ))
        })
    }

    /// All of them, the base first.
    pub fn all(&self) -> impl Iterator<Item = &Model> {
        self.models.iter()
    }

    /// Continues tokens: one answer for each seed. The answers end when the result is dropped.
    ///
    /// # Errors
    ///
    /// 400 for a prompt that is too long, 429 when the queue is full, 503 when the server ends.
    pub fn continue_ids(
        &self,
        model: &Model,
        prompt: Vec<u32>,
        sampling: SamplingConfig,
        seeds: Vec<Seed>,
    ) -> Result<Generating, ApiError> {
        let Gate { scheduler, places, limits, stopped, metrics } = &self.gate;
        if *stopped.borrow() {
            return Err(ApiError::stopping());
        }
        let longest = limits.max_prompt_tokens;
        if prompt.len() > longest {
            let message =
                format!("the prompt has {} tokens; this server takes {longest}", prompt.len());
            return Err(ApiError::context("messages", message));
        }
        let wanted = seeds.len() as u32;
        let permits = places.clone().try_acquire_many_owned(wanted).map_err(|_| {
            metrics.refused.inc();
            ApiError::busy()
        })?;
        let deadline = Instant::now() + Duration::from_secs_f64(limits.request_seconds);
        let request = Request { prompt, sampling, seeds };
        let prompt_tokens = request.prompt.len();
        let pieces = scheduler.submit(model.index, request)?;
        Ok(Generating::new(pieces, prompt_tokens, permits, deadline, stopped.clone()))
    }

    /// Whether every model has generated a token.
    pub fn ready(&self) -> bool {
        self.status.ready.load(Ordering::Acquire)
    }

    /// Whether the thread that generates is there and not stuck.
    pub fn alive(&self) -> bool {
        !self.gate.scheduler.ended() && !self.status.stuck()
    }

    /// What runs and waits.
    pub fn status(&self) -> &Status {
        &self.status
    }
}

impl Model {
    /// The tokens of a chat, up to where the answer begins.
    ///
    /// # Errors
    ///
    /// 400 for turns that the chat template refuses.
    pub fn prompt(&self, messages: &[Message]) -> Result<Vec<u32>, ApiError> {
        self.tokenizer.prompt(messages).map_err(|error| match error {
            Error::Template { .. } => ApiError::invalid("messages", error.to_string()),
            error => ApiError::internal(error),
        })
    }

    /// Its tokenizer.
    pub fn tokenizer(&self) -> &ChatTokenizer {
        &self.tokenizer
    }

    /// Tokens of a prompt and its answer together.
    pub fn room(&self) -> usize {
        self.room
    }
}

impl Status {
    fn stuck(&self) -> bool {
        let since = self.stepping_since.load(Ordering::Relaxed);
        since > 0 && now().saturating_sub(since) > LONGEST_STEP.as_millis() as usize
    }
}

/// Milliseconds since the first call, never 0.
fn now() -> usize {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_millis() as usize + 1
}
