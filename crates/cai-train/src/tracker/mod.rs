//! Where log entries go while training runs.

mod jsonl;
mod tensorboard;

use std::path::Path;

pub use jsonl::Jsonl;
pub use tensorboard::TensorBoard;

use crate::{LogEntry, Result};

/// Something that records log entries.
pub trait Tracker {
    /// Records `entry`; it is on its way to disk when this returns.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) that names the file.
    fn log(&mut self, entry: &LogEntry) -> Result<()>;
}

/// The trackers of a run: `metrics.jsonl` and `tensorboard/` in its folder.
pub struct Trackers(Vec<Box<dyn Tracker>>);

impl Trackers {
    /// Trackers that continue after `history`; what an interrupted run logged later is dropped.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) or [`Error::Data`](crate::Error::Data) that names the file.
    pub fn open(run: &Path, history: &[LogEntry]) -> Result<Self> {
        let next_step = history.last().map_or(0, |entry| entry.step + 1);
        let jsonl = Jsonl::open(&run.join("metrics.jsonl"), history)?;
        let tensorboard = TensorBoard::create(&run.join("tensorboard"), next_step)?;
        Ok(Self(vec![Box::new(jsonl), Box::new(tensorboard)]))
    }

    /// Gives `entry` to all.
    ///
    /// # Errors
    ///
    /// The first tracker's that fails.
    pub fn log(&mut self, entry: &LogEntry) -> Result<()> {
        self.0.iter_mut().try_for_each(|tracker| tracker.log(entry))
    }
}
