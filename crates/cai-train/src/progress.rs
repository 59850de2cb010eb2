//! Progress on standard error: a bar on a terminal, plain lines elsewhere, nothing when quiet.

use std::fmt::Write as _;
use std::io::{IsTerminal, stderr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

static QUIET: AtomicBool = AtomicBool::new(false);

/// Shortest time between two plain lines.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Silences all progress of this process that is created from now on, or stops doing so.
pub fn set_quiet(quiet: bool) {
    QUIET.store(quiet, Ordering::SeqCst);
}

/// Tokens per second and memory of this process, measured between log entries.
pub struct Gauge {
    since: Instant,
    tokens: u64,
}

impl Gauge {
    /// Measures from now on; `tokens` were seen before.
    pub fn new(tokens: u64) -> Self {
        Self { since: Instant::now(), tokens }
    }

    /// In words, the tokens per second since the last call (`tokens` are those seen in all), and the
    /// memory that the process holds, where the system tells it.
    pub fn measure(&mut self, tokens: u64) -> String {
        let seconds = self.since.elapsed().as_secs_f64().max(1e-9);
        let speed = tokens.saturating_sub(self.tokens) as f64 / seconds;
        *self = Self::new(tokens);
        let memory = resident_memory().map_or(String::new(), |bytes| {
            format!(", {:.1} GiB", bytes as f64 / f64::from(1 << 30))
        });
        format!("{} tok/s{memory}", short(speed))
    }
}

/// `12`, `3.4k`, `120k`, `1.2M`.
fn short(number: f64) -> String {
    match number {
        n if n < 1e3 => format!("{n:.0}"),
        n if n < 1e4 => format!("{:.1}k", n / 1e3),
        n if n < 1e6 => format!("{:.0}k", n / 1e3),
        n => format!("{:.1}M", n / 1e6),
    }
}

/// Bytes of memory that the process holds (Linux alone says so in a file).
fn resident_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// How much one [`Progress`] shows.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Verbosity {
    /// A bar or lines, unless [`set_quiet`] was called.
    #[default]
    Auto,
    /// Nothing.
    Quiet,
}

/// The progress of one piece of work, with its rate and the time left.
pub struct Progress {
    label: String,
    total: u64,
    done: u64,
    message: String,
    output: Output,
}

enum Output {
    Bar(ProgressBar),
    Lines(Lines),
    Silent,
}

struct Lines {
    start: Instant,
    /// Units that were done at `start`.
    skipped: u64,
    last: Instant,
    last_done: u64,
}

impl Progress {
    /// Work called `label` of `total` units, none of them done.
    pub fn new(label: &str, total: u64, verbosity: Verbosity) -> Self {
        let quiet = verbosity == Verbosity::Quiet || QUIET.load(Ordering::SeqCst);
        let output = if quiet {
            Output::Silent
        } else if stderr().is_terminal() {
            Output::Bar(bar(label, total))
        } else {
            let now = Instant::now();
            Output::Lines(Lines { start: now, skipped: 0, last: now, last_done: 0 })
        };
        Self { label: label.into(), total, done: 0, message: String::new(), output }
    }

    /// `done` units were done earlier; they do not count for the rate.
    pub fn resume_at(&mut self, done: u64) {
        self.done = done;
        match &mut self.output {
            Output::Bar(bar) => {
                bar.set_position(done);
                bar.reset_eta();
            }
            Output::Lines(lines) => (lines.skipped, lines.last_done) = (done, done),
            Output::Silent => {}
        }
    }

    /// `units` more are done.
    pub fn advance(&mut self, units: u64) {
        self.done += units;
        match &mut self.output {
            Output::Bar(bar) => bar.set_position(self.done),
            Output::Lines(lines) if lines.due(self.done, self.total) => {
                eprintln!("{}", lines.line(&self.label, self.done, self.total, &self.message));
                (lines.last, lines.last_done) = (Instant::now(), self.done);
            }
            _ => {}
        }
    }

    /// Shows `message` (a loss, a count) beside the progress from now on.
    pub fn message(&mut self, message: impl Into<String>) {
        self.message = message.into();
        if let Output::Bar(bar) = &self.output {
            bar.set_message(self.message.clone());
        }
    }

    /// The work is done; `summary` (may be empty) replaces the message.
    pub fn finish(&mut self, summary: &str) {
        if !summary.is_empty() {
            self.message(summary);
        }
        match &self.output {
            Output::Bar(bar) => bar.abandon(),
            Output::Lines(lines) => {
                let time = HumanDuration(lines.start.elapsed());
                let (label, done) = (&self.label, self.done);
                eprintln!("{label}: {done} done in {time}{}", comma(&self.message));
            }
            Output::Silent => {}
        }
        self.output = Output::Silent;
    }
}

impl Lines {
    /// A line after each tenth of the work, though not more often than every second; and every 5
    /// seconds, more seldom in work that takes long.
    fn due(&self, done: u64, total: u64) -> bool {
        let waited = self.last.elapsed();
        let tenths = |units: u64| (units * 10).checked_div(total).unwrap_or(0);
        let tenth = tenths(done) > tenths(self.last_done);
        let patience = LINE_EVERY.max(self.start.elapsed() / 20);
        (tenth && waited >= Duration::from_secs(1)) || waited >= patience
    }

    fn line(&self, label: &str, done: u64, total: u64, message: &str) -> String {
        let seconds = self.start.elapsed().as_secs_f64().max(1e-9);
        let per_second = done.saturating_sub(self.skipped) as f64 / seconds;
        let percent = (done * 100).checked_div(total).unwrap_or(100);
        let mut line = format!("{label}: {done}/{total} ({percent} %), {}", rate(per_second));
        if per_second > 0.0 {
            let left = total.saturating_sub(done) as f64 / per_second;
            let left = HumanDuration(Duration::from_secs_f64(left.min(1e9)));
            let _ = write!(line, ", {left:#} left");
        }
        line + &comma(message)
    }
}

fn comma(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(", {message}") }
}

fn rate(per_second: f64) -> String {
    match per_second {
        r if r <= 0.0 => "–".into(),
        r if r < 1.0 => format!("{:.1} s each", 1.0 / r),
        r => format!("{r:.1}/s"),
    }
}

fn bar(label: &str, total: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
    let template = "{prefix} {wide_bar} {pos}/{len}, {rate}, {eta} left\n  {wide_msg}";
    // The template is fixed; if indicatif ever refuses it, its own style will do.
    let style = ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .with_key("rate", |state: &ProgressState, out: &mut dyn std::fmt::Write| {
            let _ = out.write_str(&rate(state.per_sec()));
        })
        .progress_chars("=> ");
    bar.set_style(style);
    bar.set_prefix(label.to_owned());
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(seconds_ago: u64) -> Lines {
        let then = Instant::now() - Duration::from_secs(seconds_ago);
        Lines { start: then, skipped: 0, last: then, last_done: 0 }
    }

    #[test]
    fn lines_come_after_a_tenth_or_a_while() {
        assert!(!lines(0).due(50, 100));
        assert!(lines(2).due(10, 100));
        assert!(!lines(2).due(9, 100));
        assert!(lines(6).due(1, 100));
        assert!(lines(6).due(1, 0));
    }

    #[test]
    fn a_line_says_how_far_how_fast_and_how_long() {
        let line = lines(10).line("sft", 20, 100, "loss 1.5");
        assert!(line.starts_with("sft: 20/100 (20 %), 2.0/s, 40s left, loss 1.5"), "{line}");
        assert!(lines(10).line("sft", 2, 100, "").contains("5.0 s each"));
    }

    #[test]
    fn numbers_are_short() {
        let numbers = [12.4, 3_400.0, 120_400.0, 1_234_567.0].map(short);
        assert_eq!(numbers, ["12", "3.4k", "120k", "1.2M"]);
        let mut gauge = Gauge::new(5);
        assert!(gauge.measure(10).contains(" tok/s"));
    }

    #[test]
    fn quiet_progress_is_silent() {
        let mut progress = Progress::new("x", 2, Verbosity::Quiet);
        progress.advance(2);
        progress.finish("done");
        assert!(matches!(progress.output, Output::Silent));
    }
}
