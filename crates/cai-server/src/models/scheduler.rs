//! The thread that generates.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use cai_data::seed::Seed;
use cai_model::generate::{Engine, Event, Limits, Request, RequestId, SamplingConfig};
use cai_model::model::LanguageModel;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::generation::{Batch, piece};
use super::{Status, now};
use crate::api::ApiError;
use crate::metrics::Metrics;
use crate::{Error, Result};

/// The way to the thread.
pub(super) struct Scheduler {
    orders: mpsc::Sender<Order>,
    thread: JoinHandle<()>,
}

/// A request to a model.
struct Order {
    model: usize,
    request: Request,
    answer: UnboundedSender<Batch>,
    since: Instant,
}

/// A model and what it is asked.
struct Served {
    name: String,
    model: LanguageModel,
    limits: Limits,
    engine: Engine,
    asked: BTreeMap<RequestId, Asked>,
}

struct Asked {
    answer: UnboundedSender<Batch>,
    /// Answers that have not ended.
    left: usize,
    /// When the request came, until its first token.
    since: Option<Instant>,
}

impl Scheduler {
    pub(super) fn start(
        models: Vec<(String, LanguageModel, Limits)>,
        status: Arc<Status>,
        metrics: Arc<Metrics>,
    ) -> Result<Self> {
        let mut served = Vec::new();
        for (name, model, limits) in models {
            let engine = Engine::new(model.clone(), limits)
                .map_err(|source| Error::Model { name: name.clone(), source })?;
            served.push(Served { name, model, limits, engine, asked: BTreeMap::new() });
        }
        let (orders, inbox) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("generate".into())
            .spawn(move || run(served, &inbox, &status, &metrics))
            .map_err(|source| Error::System { what: "no thread to generate in", source })?;
        Ok(Self { orders, thread })
    }

    pub(super) fn submit(
        &self,
        model: usize,
        request: Request,
    ) -> std::result::Result<UnboundedReceiver<Batch>, ApiError> {
        let (answer, pieces) = unbounded_channel();
        let order = Order { model, request, answer, since: Instant::now() };
        let sent = self.orders.send(order);
        sent.map_err(|_| ApiError::internal("the thread that generates has ended"))?;
        Ok(pieces)
    }

    pub(super) fn ended(&self) -> bool {
        self.thread.is_finished()
    }
}

/// Steps every model that has something to do, in turn, until the server lets go of the scheduler.
fn run(mut models: Vec<Served>, inbox: &Receiver<Order>, status: &Status, metrics: &Metrics) {
    for served in &mut models {
        if let Err(error) = served.warm_up() {
            tracing::error!("model {} generates no token: {error}", served.name);
            return;
        }
    }
    status.ready.store(true, Ordering::Release);
    loop {
        if models.iter().all(|served| served.engine.is_idle()) {
            // Nothing to do until somebody asks.
            let Ok(order) = inbox.recv() else { return };
            take(&mut models, order);
        }
        inbox.try_iter().for_each(|order| take(&mut models, order));
        for served in &mut models {
            served.forget_the_gone();
            if !served.engine.is_idle() {
                status.stepping_since.store(now(), Ordering::Relaxed);
                served.step(metrics);
                status.stepping_since.store(0, Ordering::Relaxed);
            }
        }
        let sum = |count: fn(&Engine) -> usize| models.iter().map(|m| count(&m.engine)).sum();
        status.running.store(sum(Engine::running), Ordering::Relaxed);
        status.waiting.store(sum(Engine::waiting), Ordering::Relaxed);
    }
}

fn take(models: &mut [Served], Order { model, request, answer, since }: Order) {
    let served = &mut models[model];
    let left = request.seeds.len();
    match served.engine.submit(request) {
        Ok(id) => {
            served.asked.insert(id, Asked { answer, left, since: Some(since) });
        }
        Err(error) => {
            // Nobody listens: they have gone.
            let _ = answer.send(Err(ApiError::invalid(None, error.to_string())));
        }
    }
}

impl Served {
    /// One token, so that the first request finds everything in place.
    fn warm_up(&mut self) -> cai_model::Result<()> {
        let prompt = vec![self.model.tokenizer.eos()];
        let sampling = SamplingConfig::greedy(1);
        self.engine.submit(Request { prompt, sampling, seeds: vec![Seed(0)] })?;
        while !self.engine.is_idle() {
            self.engine.step()?;
        }
        Ok(())
    }

    /// Takes back the requests whose clients have gone.
    fn forget_the_gone(&mut self) {
        let engine = &mut self.engine;
        self.asked.retain(|&id, asked| {
            let gone = asked.answer.is_closed();
            if gone {
                engine.cancel(id);
            }
            !gone
        });
    }

    /// One token for each answer; a failure is told to every request of the model.
    fn step(&mut self, metrics: &Metrics) {
        let step = catch_unwind(AssertUnwindSafe(|| self.engine.step()));
        let failure = match step {
            Ok(Ok(events)) => return self.tell(events, metrics),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the engine panicked".to_owned(),
        };
        let error = ApiError::internal(format!("model {}: {failure}", self.name));
        for asked in std::mem::take(&mut self.asked).into_values() {
            let _ = asked.answer.send(Err(error.clone()));
        }
        // The limits were those of an engine before.
        if let Ok(engine) = Engine::new(self.model.clone(), self.limits) {
            self.engine = engine;
        }
    }

    /// Hands every request what the step brought it, in one message.
    fn tell(&mut self, events: Vec<Event>, metrics: &Metrics) {
        let mut news: BTreeMap<RequestId, Vec<Event>> = BTreeMap::new();
        for event in events {
            news.entry(event.request()).or_default().push(event);
        }
        for (id, events) in news {
            let Some(asked) = self.asked.get_mut(&id) else { continue };
            if let Some(since) = asked.since.take() {
                metrics.first_token.observe(since.elapsed().as_secs_f64());
            }
            let pieces: Vec<_> = events.into_iter().map(piece).collect();
            metrics
                .tokens
                .inc_by(pieces.iter().filter(|piece| piece.token.is_some()).count() as u64);
            asked.left -= pieces.iter().filter(|piece| piece.finished.is_some()).count();
            let done = asked.left == 0;
            let _ = asked.answer.send(Ok(pieces));
            if done {
                self.asked.remove(&id);
            }
        }
    }
}
