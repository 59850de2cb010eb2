//! Steps in processes of their own, which take turns: each line on a worker's standard input is one
//! step, answered by a line of JSON; at the end of the input it tells its peak memory.

use std::{
    io::{BufRead, BufReader, Lines, Write, stdin, stdout},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result};
use cai_model::device;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::json;

use crate::{
    memory::{forget_peak, status},
    steps::{self, Task},
};

/// One step of a worker.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Measured {
    /// Wall time.
    pub seconds: f64,
    /// Loss, mean log-probability, or number of tokens.
    pub value: f64,
}

/// Memory of a worker: resident, and on its device.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Memory {
    /// The most there was.
    pub peak_bytes: u64,
    /// What there was before the first step: the program, its weights, its batch.
    #[serde(default)]
    pub loaded_bytes: u64,
    /// The most there was in steps, without loading, which maps the file beside the weights.
    #[serde(default)]
    pub steps_bytes: u64,
    /// What the allocator took of a GPU's memory, none of which it gives back.
    #[serde(default)]
    pub device_bytes: Option<u64>,
}

/// Takes steps of `task` on a device (as [`device::parse`] reads it) as long as lines come.
///
/// # Errors
///
/// Those of the steps.
pub fn work(task: Task, dir: &Path, device: &str) -> Result<()> {
    let device = device::parse(device)?;
    let mut step = steps::load(task, dir, &device)?;
    device.sync()?;
    let (loading, loaded_bytes) = (status("VmHWM")?, status("VmRSS")?);
    forget_peak()?;
    let tell = |line: serde_json::Value| -> Result<()> {
        println!("{line}");
        Ok(stdout().flush()?)
    };
    for line in stdin().lines() {
        line?;
        let start = Instant::now();
        let value = step()?;
        // A GPU may still be at the backward pass.
        device.sync()?;
        let seconds = start.elapsed().as_secs_f64();
        tell(json!(Measured { seconds, value }))?;
    }
    let steps_bytes = status("VmHWM")?;
    let peak_bytes = loading.max(steps_bytes);
    let device_bytes = device.memory_pool_usage().map(|usage| usage.bytes_reserved);
    tell(json!(Memory { peak_bytes, loaded_bytes, steps_bytes, device_bytes }))
}

/// A worker that was started.
pub struct Worker {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Worker {
    /// This program as a worker.
    ///
    /// # Errors
    ///
    /// That it cannot be started.
    pub fn ours(task: Task, dir: &Path, device: &str) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["work", "--task", &task.name(), "--device", device, "--dir"]).arg(dir);
        Self::start(command)
    }

    /// Any program that behaves as one.
    ///
    /// # Errors
    ///
    /// That it cannot be started.
    pub fn start(mut command: Command) -> Result<Self> {
        let name = format!("{command:?}");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let input = child.stdin.take().context("a worker without input")?;
        let output = child.stdout.take().context("a worker without output")?;
        Ok(Self { child, input, output: BufReader::new(output).lines() })
    }

    /// One step.
    ///
    /// # Errors
    ///
    /// When the worker has ended.
    pub fn step(&mut self) -> Result<Measured> {
        writeln!(self.input)?;
        self.input.flush()?;
        answer(&mut self.output)
    }

    /// Ends it and tells its memory.
    ///
    /// # Errors
    ///
    /// When it failed.
    pub fn finish(self) -> Result<Memory> {
        let Self { mut child, input, mut output } = self;
        drop(input);
        let memory = answer(&mut output)?;
        child.wait()?;
        Ok(memory)
    }
}

/// The next line of JSON; programs may print other lines between.
fn answer<T: DeserializeOwned>(output: &mut Lines<BufReader<ChildStdout>>) -> Result<T> {
    for line in output {
        if let Ok(answer) = serde_json::from_str(&line?) {
            return Ok(answer);
        }
    }
    anyhow::bail!("the worker ended; what went wrong is above")
}

/// Lets workers take turns: one step each outside the count, then `rounds` steps each. Gives the
/// steps of each worker, the uncounted ones first.
///
/// # Errors
///
/// Those of the workers.
pub fn in_turn(workers: &mut [Worker], rounds: usize) -> Result<Vec<Vec<Measured>>> {
    let mut steps = vec![Vec::with_capacity(rounds + 1); workers.len()];
    for _ in 0..=rounds {
        for (worker, steps) in workers.iter_mut().zip(&mut steps) {
            steps.push(worker.step()?);
        }
    }
    Ok(steps)
}

/// Median seconds of all but the first step.
pub fn median(steps: &[Measured]) -> f64 {
    let mut times: Vec<f64> = steps.iter().skip(1).map(|step| step.seconds).collect();
    times.sort_by(f64::total_cmp);
    match times.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => times[n / 2],
        n => (times[n / 2 - 1] + times[n / 2]) / 2.0,
    }
}
