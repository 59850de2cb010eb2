use std::{path::PathBuf, process::Command};

use anyhow::{Result, ensure};
use cai_benches::{
    steps::{self, Task},
    worker::{Worker, in_turn, median},
};
use clap::Args;

use crate::Selection;

/// What PyTorch is fastest with: glibc that keeps freed memory, as ours is told to.
const GLIBC: [(&str, &str); 3] = [
    ("MALLOC_MMAP_THRESHOLD_", "1073741824"),
    ("MALLOC_TRIM_THRESHOLD_", "17179869184"),
    ("MALLOC_TOP_PAD_", "67108864"),
];
/// How far losses and log-probabilities may be apart: in f32, and in bf16 of a GPU.
const TOLERANCE: [f64; 2] = [1e-4, 2e-2];

#[derive(Args)]
pub struct PytorchArgs {
    #[command(flatten)]
    selection: Selection,
    /// A Python with torch, transformers and peft.
    #[arg(long, default_value = "python3")]
    python: PathBuf,
    /// The other side.
    #[arg(long, default_value = "benches/python/pytorch_steps.py")]
    script: PathBuf,
    /// Logits that PyTorch computes in training: those of all tokens, as transformers does, or only
    /// those that the loss needs, in chunks, as TRL can.
    #[arg(long, default_value = "full", value_parser = ["full", "chunked"])]
    head: String,
    /// Threads of PyTorch.
    #[arg(long, default_value_t = rayon::current_num_threads())]
    threads: usize,
}

/// Runs the command.
pub fn run(args: PytorchArgs) -> Result<()> {
    let device = args.selection.device.as_str();
    println!("PyTorch with {} threads, {} head, {device}\n", args.threads, args.head);
    println!(
        "| shape | step | PyTorch ms | ours ms | ratio | PyTorch MiB | ours MiB | ratio | difference |"
    );
    println!("|---|---|--:|--:|--:|--:|--:|--:|--:|");
    let tolerance = TOLERANCE[usize::from(device != "cpu")];
    for (name, shape) in args.selection.shapes()? {
        let dir = tempfile::tempdir()?;
        steps::write(shape, 16, dir.path())?;
        for &task in &args.selection.tasks {
            let mut python = Command::new(&args.python);
            python.arg(&args.script).args(["--task", &task.name(), "--head", &args.head]);
            python.args(["--threads", &args.threads.to_string(), "--device", device, "--dir"]);
            python.arg(dir.path());
            python.envs(GLIBC);
            let mut workers = [Worker::start(python)?, Worker::ours(task, dir.path(), device)?];
            let steps = in_turn(&mut workers, args.selection.rounds)?;
            let [theirs, ours] = [&steps[0], &steps[1]].map(|steps| median(steps) * 1e3);
            let values = steps[0].iter().zip(&steps[1]);
            let difference = values.map(|(a, b)| (a.value - b.value).abs()).fold(0.0, f64::max);
            let peak = |worker: Worker| -> Result<f64> {
                let memory = worker.finish()?;
                let bytes = memory.device_bytes.unwrap_or(memory.peak_bytes);
                Ok(bytes as f64 / (1 << 20) as f64)
            };
            let [theirs_peak, ours_peak] = workers.map(peak);
            let (theirs_peak, ours_peak) = (theirs_peak?, ours_peak?);
            println!(
                "| {name} | {} | {theirs:.1} | {ours:.1} | {:.2} | {theirs_peak:.0} | \
                 {ours_peak:.0} | {:.2} | {difference:.1e} |",
                task.name(),
                theirs / ours,
                ours_peak / theirs_peak,
            );
            let same = !matches!(task, Task::Prefill | Task::Generate);
            ensure!(
                !same || difference < tolerance,
                "{name} {}: losses are {difference:.1e} apart: the two sides do not compute the same",
                task.name()
            );
        }
    }
    Ok(())
}
