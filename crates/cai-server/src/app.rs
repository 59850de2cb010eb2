//! A server, from its parts to its end.

use std::net::SocketAddr;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::Response;
use cai_data::constitution::Constitution;
use cai_model::model::LanguageModel;
use safety_classifier::SafetyClassifier;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

use crate::api::{self, ApiError};
use crate::auth::{self, Keys};
use crate::classify::Classifier;
use crate::config::ServeConfig;
use crate::guard::Withheld;
use crate::metrics::{self, Metrics};
use crate::models::Models;
use crate::{Error, Result, listen, playground};

/// What a server is made of.
pub struct Parts {
    /// The models by name, the base first.
    pub models: Vec<(String, LanguageModel)>,
    /// Scores texts, if there is one.
    pub classifier: Option<SafetyClassifier>,
    /// Withholds prompts and answers that the classifier finds harmful.
    pub guard: bool,
    /// Who may ask.
    pub keys: Keys,
    /// The rest.
    pub config: ServeConfig,
}

type Answer<T> = std::result::Result<T, ApiError>;

/// What every handler sees.
#[derive(Clone)]
pub(crate) struct App(Arc<State>);

pub(crate) struct State {
    pub models: Models,
    pub classifier: Option<Classifier>,
    /// Prompts and answers are judged.
    pub guard: bool,
    pub keys: Keys,
    pub constitution: Option<Constitution>,
    pub config: ServeConfig,
    pub metrics: Arc<Metrics>,
    /// Seconds since 1970.
    pub started: u64,
    stopping: watch::Receiver<bool>,
}

impl Deref for App {
    type Target = State;

    fn deref(&self) -> &State {
        &self.0
    }
}

impl App {
    /// Whether the server takes no new requests.
    pub fn stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Why the guard, if there is one, withholds the first of the texts that it does.
    pub async fn judge(&self, stage: &'static str, texts: Vec<String>) -> Answer<Option<Withheld>> {
        if !self.guard {
            return Ok(None);
        }
        let classifier = self.classifier()?;
        let predictions = classifier.classify(texts).await?;
        let thresholds = classifier.thresholds();
        Ok(predictions.iter().find_map(|prediction| thresholds.judge(stage, prediction)))
    }

    /// The classifier.
    pub fn classifier(&self) -> Answer<&Classifier> {
        self.classifier.as_ref().ok_or_else(|| {
            let message = "this server has no classifier; start it with --classifier DIR";
            ApiError::with_status(StatusCode::NOT_FOUND, message)
        })
    }
}

/// A server that listens.
pub struct Server {
    runtime: Runtime,
    listener: TcpListener,
    address: SocketAddr,
    router: Router,
    metrics: Arc<Metrics>,
    config: ServeConfig,
    stopping: watch::Sender<bool>,
    stopped: watch::Sender<bool>,
}

impl Server {
    /// Puts the parts together and listens on `host` and `port` (0: a free one).
    ///
    /// # Errors
    ///
    /// Settings out of range, a constitution that cannot be read, an address that cannot be listened
    /// on.
    pub fn start(parts: Parts, host: &str, port: u16) -> Result<Self> {
        let Parts { models, classifier, guard, keys, config } = parts;
        config.check()?;
        let constitution = config.playground.constitution.as_deref();
        let constitution = constitution.map(read_constitution).transpose()?;
        if guard && classifier.is_none() {
            let reason = "needs a classifier: give --classifier DIR".to_owned();
            return Err(Error::Config { key: "guard", reason });
        }
        let metrics = Arc::new(Metrics::new());
        let (stopping, is_stopping) = watch::channel(false);
        let (stopped, is_stopped) = watch::channel(false);
        let longest = config.limits.max_moderation_queue;
        let classify =
            |classifier| Classifier::start(classifier, &config.guard, longest, metrics.clone());
        let classifier = classifier.map(classify).transpose()?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("http")
            .enable_all()
            .build()
            .map_err(|source| Error::System { what: "no threads to serve with", source })?;
        let listen = |source| Error::Listen { address: format!("{host}:{port}"), source };
        let listener = runtime.block_on(TcpListener::bind((host, port))).map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let models =
            Models::start(models, &config.engine, &config.limits, metrics.clone(), is_stopped)?;
        let state = State {
            models,
            classifier,
            guard,
            keys,
            constitution,
            config: config.clone(),
            metrics: metrics.clone(),
            started: api::unix_seconds(),
            stopping: is_stopping,
        };
        let router = router(App(Arc::new(state)));
        Ok(Self { runtime, listener, address, router, metrics, config, stopping, stopped })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until SIGTERM or SIGINT, then finishes what runs, within the grace time.
    ///
    /// # Errors
    ///
    /// When the system lets no signal be waited for.
    pub fn run(self) -> Result<()> {
        let Self { runtime, listener, router, metrics, config, stopping, stopped, .. } = self;
        let end = listen::serve(listener, router, metrics, &config.connections, stopping, stopped);
        let end = runtime.block_on(end);
        // What still runs has been told, and is not waited for.
        runtime.shutdown_background();
        end
    }
}

fn read_constitution(path: &Path) -> Result<Constitution> {
    Ok(Constitution::read(path)?)
}

fn router(app: App) -> Router {
    let keyed = api::routes().merge(playground::routes());
    let keyed = keyed.route_layer(from_fn_with_state(app.clone(), auth::demand_key));
    api::open_routes()
        .merge(playground::open_routes())
        .merge(keyed)
        .fallback(|| async {
            ApiError::with_status(StatusCode::NOT_FOUND, "there is nothing at this address")
        })
        .method_not_allowed_fallback(|| async {
            let message = "this address does not take this method";
            ApiError::with_status(StatusCode::METHOD_NOT_ALLOWED, message)
        })
        .layer(from_fn(name_kinds))
        .layer(from_fn_with_state(app.clone(), metrics::count))
        .with_state(app)
}

/// No browser takes an answer for another type than the one it says it is.
async fn name_kinds(request: axum::extract::Request, next: axum::middleware::Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let header = axum::http::header::X_CONTENT_TYPE_OPTIONS;
    headers.insert(header, axum::http::HeaderValue::from_static("nosniff"));
    response
}
