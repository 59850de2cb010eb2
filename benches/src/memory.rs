//! Memory and processor time of this process, as Linux tells them.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result};

/// Bytes of `VmHWM`, `RssAnon` and so on in /proc/self/status.
///
/// # Errors
///
/// Where there is no such file (another system than Linux) or no such entry.
pub fn status(key: &str) -> Result<u64> {
    let text = fs::read_to_string("/proc/self/status").context("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    Ok(number.with_context(|| format!("/proc/self/status has no {key}"))? << 10)
}

/// Makes `VmHWM` begin anew at the memory of now.
///
/// # Errors
///
/// Where there is no /proc/self/clear_refs.
pub fn forget_peak() -> Result<()> {
    const PEAK: &str = "5";
    fs::write("/proc/self/clear_refs", PEAK).context("/proc/self/clear_refs")
}

/// Processor time of all threads so far, in seconds.
///
/// # Errors
///
/// Where there is no /proc/self/stat.
pub fn cpu_seconds() -> Result<f64> {
    let text = fs::read_to_string("/proc/self/stat").context("/proc/self/stat")?;
    // After the name in parentheses, which may hold blanks: state is field 3, utime 14, stime 15.
    let (_, fields) = text.rsplit_once(')').context("/proc/self/stat")?;
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.filter_map(|field| field.parse::<u64>().ok()).sum();
    // The kernel counts in hundredths of a second for every program, whatever its own clock.
    Ok(ticks as f64 / 100.0)
}

/// Watches the anonymous memory of the process (what it allocated; pages that mirror a file are not
/// counted), every two milliseconds.
pub struct AnonymousPeak {
    highest: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl AnonymousPeak {
    /// Starts at the memory of now.
    ///
    /// # Errors
    ///
    /// Those of [`status`].
    pub fn start() -> Result<Self> {
        let highest = Arc::new(AtomicU64::new(status("RssAnon")?));
        let stop = Arc::new(AtomicBool::new(false));
        let (seen, done) = (highest.clone(), stop.clone());
        let watch = move || {
            while !done.load(Ordering::Relaxed) {
                if let Ok(now) = status("RssAnon") {
                    seen.fetch_max(now, Ordering::Relaxed);
                }
                thread::sleep(Duration::from_millis(2));
            }
        };
        Ok(Self { highest, stop, thread: Some(thread::spawn(watch)) })
    }

    /// The most there was, in bytes.
    pub fn finish(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A watcher that panicked has nothing more to tell.
            let _ = thread.join();
        }
        self.highest.load(Ordering::Relaxed)
    }
}
