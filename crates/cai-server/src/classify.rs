//! The thread that classifies.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use safety_classifier::{Prediction, SafetyClassifier};
use tokio::sync::oneshot;

use crate::api::ApiError;
use crate::config::GuardConfig;
use crate::guard::Thresholds;
use crate::metrics::Metrics;
use crate::{Error, Result};

/// Texts that are classified at once: those of many requests, if they are short.
const BATCH: usize = 2048;

/// The way to the thread.
pub struct Classifier {
    orders: mpsc::Sender<Order>,
    waiting: Arc<AtomicUsize>,
    max_waiting: usize,
    model: SafetyClassifier,
    thresholds: Thresholds,
}

struct Order {
    texts: Vec<String>,
    answer: oneshot::Sender<Answer>,
}

type Answer = std::result::Result<Vec<Prediction>, ApiError>;

impl Classifier {
    pub(crate) fn start(
        classifier: SafetyClassifier,
        guard: &GuardConfig,
        max_waiting: usize,
        metrics: Arc<Metrics>,
    ) -> Result<Self> {
        let thresholds = Thresholds::new(classifier.labels(), classifier.safe_label(), guard)?;
        let (orders, inbox) = mpsc::channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let (counter, model) = (waiting.clone(), classifier.clone());
        thread::Builder::new()
            .name("classify".into())
            .spawn(move || run(&classifier, &inbox, &counter, &metrics))
            .map_err(|source| Error::System { what: "no thread to classify in", source })?;
        Ok(Self { orders, waiting, max_waiting, model, thresholds })
    }

    /// Classifies texts; one prediction for each, in order.
    ///
    /// # Errors
    ///
    /// 429 when too many texts wait, 500 when the classifier fails.
    pub async fn classify(&self, texts: Vec<String>) -> Answer {
        let count = texts.len();
        let before = self.waiting.fetch_add(count, Ordering::Relaxed);
        if before > 0 && before + count > self.max_waiting {
            self.waiting.fetch_sub(count, Ordering::Relaxed);
            return Err(ApiError::busy());
        }
        let (answer, predictions) = oneshot::channel();
        let ended = |_| ApiError::internal("the thread that classifies has ended");
        self.orders.send(Order { texts, answer }).map_err(|_| ended(()))?;
        predictions.await.map_err(|_| ended(()))?
    }

    /// From which probabilities a text counts as harmful.
    pub fn thresholds(&self) -> &Thresholds {
        &self.thresholds
    }

    /// The classifier itself, for work in another thread; a copy shares the weights.
    pub fn model(&self) -> &SafetyClassifier {
        &self.model
    }
}

/// Classifies what waits, as far as it fits a batch, until the server lets go of the classifier.
fn run(
    classifier: &SafetyClassifier,
    inbox: &Receiver<Order>,
    waiting: &AtomicUsize,
    metrics: &Metrics,
) {
    while let Ok(first) = inbox.recv() {
        let mut count = first.texts.len();
        let mut orders = vec![first];
        while count < BATCH {
            let Ok(next) = inbox.try_recv() else { break };
            count += next.texts.len();
            orders.push(next);
        }
        waiting.fetch_sub(count, Ordering::Relaxed);
        // Those who asked may have gone meanwhile.
        orders.retain(|order| !order.answer.is_closed());
        let texts: Vec<&str> = orders.iter().flat_map(|o| &o.texts).map(String::as_str).collect();
        metrics.classified.inc_by(texts.len() as u64);
        match classifier.predict(&texts) {
            Ok(predictions) => {
                let mut predictions = predictions.into_iter();
                for Order { texts, answer } in orders {
                    let _ = answer.send(Ok(predictions.by_ref().take(texts.len()).collect()));
                }
            }
            Err(error) => {
                let error = ApiError::internal(error);
                for order in orders {
                    let _ = order.answer.send(Err(error.clone()));
                }
            }
        }
    }
}
