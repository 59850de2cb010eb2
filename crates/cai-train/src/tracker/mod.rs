//! Where log entries go while training runs.

mod jsonl;
mod mlflow;
mod origin;
mod tensorboard;

use serde::{Deserialize, Serialize};

pub use jsonl::Jsonl;
pub use mlflow::Mlflow;
pub use origin::git_revision;
pub use tensorboard::TensorBoard;

use self::origin::Origin;
use crate::{LogEntry, Result, RunDir, TrainArgs};

/// How a session ended, in MLflow's words.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RunStatus {
    /// All steps are done.
    Finished,
    /// An error stopped it.
    Failed,
    /// The user stopped it.
    Killed,
}

/// Something that records log entries.
pub trait Tracker {
    /// Records `entry`; it is on its way to disk when this returns.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) that names the file.
    fn log(&mut self, entry: &LogEntry) -> Result<()>;

    /// The session is over.
    fn finish(&mut self, _status: RunStatus) {}
}

/// The trackers of a run: `run.json`, `metrics.jsonl` and `tensorboard/` in its folder, and what the
/// settings ask for.
pub struct Trackers(Vec<Box<dyn Tracker>>);

impl Trackers {
    /// Trackers that continue after `history`; what an interrupted run logged later is dropped.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) or [`Error::Data`](crate::Error::Data) that names the file.
    pub fn open(run: &RunDir, args: &TrainArgs, history: &[LogEntry]) -> Result<Self> {
        let origin = Origin::of(run, args);
        origin.write(run)?;
        let next_step = history.last().map_or(0, |entry| entry.step + 1);
        let jsonl = Jsonl::open(&run.dir.join("metrics.jsonl"), history)?;
        let tensorboard = TensorBoard::create(&run.dir.join("tensorboard"), next_step)?;
        let mut trackers: Vec<Box<dyn Tracker>> = vec![Box::new(jsonl), Box::new(tensorboard)];
        if let Some(uri) = &args.tracking.mlflow {
            trackers.push(Box::new(Mlflow::open(uri, run, origin, args, history)?));
        }
        Ok(Self(trackers))
    }

    /// Gives `entry` to all.
    ///
    /// # Errors
    ///
    /// The first tracker's that fails.
    pub fn log(&mut self, entry: &LogEntry) -> Result<()> {
        self.0.iter_mut().try_for_each(|tracker| tracker.log(entry))
    }

    /// Tells all that the session is over.
    pub fn finish(&mut self, status: RunStatus) {
        self.0.iter_mut().for_each(|tracker| tracker.finish(status));
    }
}
