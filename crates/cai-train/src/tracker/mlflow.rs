//! An MLflow tracking server over its REST API (2.0).
//!
//! The server is never needed: what it has not taken yet waits in `mlflow-spool.jsonl` in the run's
//! folder and is sent when it answers again, in this session or when the same command runs again.
//! `mlflow.json` there says which MLflow run the folder is, so that a resumed run goes on in it.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{RunStatus, Tracker, origin::Origin};
use crate::{Error, LogEntry, Result, RunDir, TrainArgs};

/// The experiment unless the settings name one.
const EXPERIMENT: &str = "constitutional-ai";
/// Longest wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Shortest time between two tries while the server does not answer.
const RETRY: Duration = Duration::from_secs(30);
/// Most metrics in one request (the server's limit is 1,000).
const BATCH: usize = 500;
/// Most parameters in one request.
const PARAMS: usize = 100;
/// Longest value of a parameter that every version of the server takes.
const PARAM_LENGTH: usize = 500;

/// Sends log entries to an MLflow server.
pub struct Mlflow {
    agent: ureq::Agent,
    uri: String,
    experiment: String,
    name: String,
    params: Vec<(String, String)>,
    tags: Vec<(String, String)>,
    state_path: PathBuf,
    spool_path: PathBuf,
    state: State,
    /// Entries that this session is still to skip, because an earlier one has spooled them.
    skip: usize,
    /// When the server last did not answer.
    failed: Option<Instant>,
}

/// What `mlflow.json` holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct State {
    /// The server.
    uri: String,
    /// The run there, once it exists.
    run_id: Option<String>,
    /// Log entries of the whole run that were spooled.
    entries: usize,
    /// How the last session ended, until the server knows.
    status: Option<RunStatus>,
}

/// A metric as the API takes it, and as it waits in the spool.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Metric {
    key: String,
    value: f64,
    /// Milliseconds since 1970.
    timestamp: u64,
    step: usize,
}

impl Mlflow {
    /// The run in the folder of `run` at the server `uri`, after the entries of `history`. Tries to
    /// send what earlier sessions left.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] for files of the folder; never for the server.
    pub(super) fn open(
        uri: &str,
        run: &RunDir,
        origin: Origin,
        args: &TrainArgs,
        history: &[LogEntry],
    ) -> Result<Self> {
        let state_path = run.dir.join("mlflow.json");
        let mut state = read_state(&state_path)?;
        let uri = uri.trim_end_matches('/').to_owned();
        if state.uri != uri {
            // Another server knows nothing of the run: it gets all of it.
            state = State { uri: uri.clone(), ..State::default() };
        }
        let config = ureq::Agent::config_builder();
        let config = config.timeout_global(Some(TIMEOUT)).http_status_as_error(false).build();
        let mut params = Vec::new();
        flatten("", &origin.config, &mut params);
        let folder = run.dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut mlflow = Self {
            agent: config.into(),
            uri,
            experiment: args.tracking.experiment.clone().unwrap_or(EXPERIMENT.into()),
            name: if folder == run.label { folder } else { format!("{folder}-{}", run.label) },
            params,
            tags: tags(run, origin),
            spool_path: run.dir.join("mlflow-spool.jsonl"),
            state_path,
            skip: state.entries.saturating_sub(history.len()),
            state,
            failed: None,
        };
        // Entries that were logged before there was tracking, or to another server.
        let known = mlflow.state.entries;
        for entry in history.iter().skip(known) {
            mlflow.spool(entry)?;
        }
        mlflow.send();
        Ok(mlflow)
    }

    /// Puts the metrics of an entry behind those that wait.
    fn spool(&mut self, entry: &LogEntry) -> Result<()> {
        let timestamp = now();
        let metric = |(key, value): (&String, &f64)| Metric {
            key: key.clone(),
            value: *value,
            timestamp,
            step: entry.step,
        };
        let line = |metric: Metric| serde_json::to_string(&metric).unwrap_or_default() + "\n";
        let lines: String = entry.metrics.iter().map(metric).map(line).collect();
        let path = &self.spool_path;
        let file = OpenOptions::new().create(true).append(true).open(path);
        file.and_then(|mut file| file.write_all(lines.as_bytes())).map_err(Error::io(path))?;
        self.state.entries += 1;
        self.write_state()
    }

    /// Sends all that waits, if the server answers; warns once if it does not.
    fn send(&mut self) {
        if self.failed.is_some_and(|failed| failed.elapsed() < RETRY) {
            return;
        }
        match self.try_send() {
            Ok(()) => self.failed = None,
            Err(reason) => {
                if self.failed.is_none() {
                    let (uri, spool) = (&self.uri, self.spool_path.display());
                    tracing::warn!(
                        "MLflow at {uri} does not take the log ({reason}); it waits in {spool} and \
                         is sent when the server answers, or when the same command runs again"
                    );
                }
                self.failed = Some(Instant::now());
            }
        }
    }

    fn try_send(&mut self) -> std::result::Result<(), String> {
        let id = self.run_id()?;
        let waiting = self.waiting()?;
        for metrics in waiting.chunks(BATCH) {
            self.post("runs/log-batch", &json!({"run_id": id, "metrics": metrics}))?;
        }
        if !waiting.is_empty() {
            fs::remove_file(&self.spool_path).map_err(|error| error.to_string())?;
        }
        if let Some(status) = self.state.status {
            let update = json!({"run_id": id, "status": status, "end_time": now()});
            self.post("runs/update", &update)?;
            self.state.status = None;
            self.write_state().map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// The metrics in the spool. A line that a kill has cut off is left out: the entry is logged
    /// again by the resumed run.
    fn waiting(&self) -> std::result::Result<Vec<Metric>, String> {
        match fs::read_to_string(&self.spool_path) {
            Ok(text) => Ok(text.lines().filter_map(|l| serde_json::from_str(l).ok()).collect()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// The run's id; the run is made, with its parameters and tags, if it does not exist yet.
    fn run_id(&mut self) -> std::result::Result<String, String> {
        if let Some(id) = &self.state.run_id {
            return Ok(id.clone());
        }
        let tags = pairs(&self.tags);
        let create = json!({
            "experiment_id": self.experiment_id()?, "run_name": self.name, "start_time": now(),
            "tags": tags,
        });
        let created = self.post("runs/create", &create)?;
        let id = created["run"]["info"]["run_id"].as_str().ok_or("it names no run_id")?.to_owned();
        for params in self.params.chunks(PARAMS) {
            self.post("runs/log-batch", &json!({"run_id": id, "params": pairs(params)}))?;
        }
        self.state.run_id = Some(id.clone());
        self.write_state().map_err(|error| error.to_string())?;
        Ok(id)
    }

    fn experiment_id(&self) -> std::result::Result<String, String> {
        let found = self.post("experiments/search", &json!({
            "max_results": 1, "filter": format!("name = '{}'", self.experiment.replace('\'', "")),
        }))?;
        if let Some(id) = found["experiments"][0]["experiment_id"].as_str() {
            return Ok(id.to_owned());
        }
        let created = self.post("experiments/create", &json!({"name": self.experiment}))?;
        Ok(created["experiment_id"].as_str().ok_or("it names no experiment_id")?.to_owned())
    }

    fn post(&self, method: &str, body: &Value) -> std::result::Result<Value, String> {
        let url = format!("{}/api/2.0/mlflow/{method}", self.uri);
        let request = self.agent.post(&url).header("content-type", "application/json");
        let mut response = request.send(body.to_string()).map_err(|error| error.to_string())?;
        let text = response.body_mut().read_to_string().map_err(|error| error.to_string())?;
        if !response.status().is_success() {
            return Err(format!("{method}: {} {text}", response.status()));
        }
        serde_json::from_str(&text).map_err(|error| format!("{method}: {error}"))
    }

    fn write_state(&self) -> Result<()> {
        Ok(cai_data::atomic::write_json(&self.state_path, &self.state)?)
    }
}

impl Tracker for Mlflow {
    fn log(&mut self, entry: &LogEntry) -> Result<()> {
        if self.skip > 0 {
            self.skip -= 1;
            return Ok(());
        }
        self.spool(entry)?;
        self.send();
        Ok(())
    }

    fn finish(&mut self, status: RunStatus) {
        self.state.status = Some(status);
        // The last try of the session, even if one failed a moment ago.
        if self.failed.take().is_some() {
            tracing::warn!("trying MLflow at {} once more", self.uri);
        }
        if let Err(error) = self.write_state() {
            tracing::warn!("{error}");
        }
        self.send();
    }
}

fn read_state(path: &Path) -> Result<State> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
            let source = std::io::Error::new(std::io::ErrorKind::InvalidData, error);
            Error::Io { path: path.to_owned(), source }
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(State::default()),
        Err(error) => Err(Error::io(path)(error)),
    }
}

/// Settings as `a.b.c` and their values.
fn flatten(prefix: &str, value: &Value, params: &mut Vec<(String, String)>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let key = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                flatten(&key, value, params);
            }
        }
        Value::Null => {}
        value => {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            params.push((prefix.to_owned(), text.chars().take(PARAM_LENGTH).collect()));
        }
    }
}

/// What the run is made with and of.
fn tags(run: &RunDir, origin: Origin) -> Vec<(String, String)> {
    let mut tags = vec![
        ("mlflow.source.name".to_owned(), origin.label),
        ("cai.version".to_owned(), origin.version.to_owned()),
        ("cai.fingerprint".to_owned(), origin.fingerprint),
        ("cai.folder".to_owned(), run.dir.display().to_string()),
    ];
    if let Some(revision) = origin.revision {
        tags.push(("mlflow.source.git.commit".to_owned(), revision));
    }
    tags
}

fn pairs(values: &[(String, String)]) -> Vec<Value> {
    values.iter().map(|(key, value)| json!({"key": key, "value": value})).collect()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}
