use std::{collections::BTreeMap, fs, path::PathBuf};

use anyhow::{Context, Result};
use cai_benches::{
    rates,
    steps::{self, Task},
    worker::{Worker, in_turn, median},
};
use cai_model::device;
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::Selection;

#[derive(Args)]
pub struct TableArgs {
    #[command(flatten)]
    selection: Selection,
    /// Where to keep the numbers.
    #[arg(long)]
    save: Option<PathBuf>,
    /// Numbers that were kept, to compare with.
    #[arg(long)]
    against: Option<PathBuf>,
}

/// One row.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Row {
    milliseconds: f64,
    loaded_mib: f64,
    peak_mib: f64,
}

/// Runs the command.
pub fn run(args: TableArgs) -> Result<()> {
    let before: BTreeMap<String, Row> = match &args.against {
        Some(path) => {
            let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
            serde_json::from_str(&text).with_context(|| path.display().to_string())?
        }
        None => BTreeMap::new(),
    };
    let device = args.selection.device.as_str();
    let peak = rates::products(&device::parse(device)?)?;
    println!("matrix products: {:.0} GFLOP/s\n", peak / 1e9);
    println!(
        "| shape | step | ms | tokens/s | GFLOP/s | of the products' rate | loaded MiB | peak MiB | before |"
    );
    println!("|---|---|--:|--:|--:|--:|--:|--:|--:|");
    let mut rows = BTreeMap::new();
    for (name, shape) in args.selection.shapes()? {
        let dir = tempfile::tempdir()?;
        steps::write(shape, 16, dir.path())?;
        let mut times = BTreeMap::new();
        for &task in &args.selection.tasks {
            let mut workers = [Worker::ours(task, dir.path(), device)?];
            let seconds = median(&in_turn(&mut workers, args.selection.rounds)?[0]);
            let [worker] = workers;
            let memory = worker.finish()?;
            let row = Row {
                milliseconds: seconds * 1e3,
                loaded_mib: mebibytes(memory.loaded_bytes),
                peak_mib: mebibytes(memory.device_bytes.unwrap_or(memory.peak_bytes)),
            };
            let key = format!("{name} {}", task.name());
            let earlier = match before.get(&key) {
                Some(earlier) => format!("{:.2} ×", earlier.milliseconds / row.milliseconds),
                None => String::new(),
            };
            let rate = task.operations(shape) / seconds;
            println!(
                "| {name} | {} | {:.1} | {:.0} | {:.0} | {:.0} % | {:.0} | {:.0} | {earlier} |",
                task.name(),
                row.milliseconds,
                task.tokens(shape) as f64 / seconds,
                rate / 1e9,
                100.0 * rate / peak,
                row.loaded_mib,
                row.peak_mib,
            );
            times.insert(task.name(), seconds);
            rows.insert(key, row);
        }
        if device != "cpu" {
            continue;
        }
        let [prefill, whole] = [Task::Prefill, Task::Generate].map(|task| times.get(&task.name()));
        if let (Some(prefill), Some(whole)) = (prefill, whole) {
            let decoder = shape.decoder()?;
            let step = (whole - prefill) / (shape.prompt - 1) as f64;
            let bytes = 4 * (shape.layer_weights() + shape.head_weights()) as u64;
            let (products, reading) = (
                rates::decode_products(&decoder, shape.generated)?,
                rates::reading(bytes as usize),
            );
            println!(
                "\n{name}, {} sequences: {:.3} ms a token; its products alone {:.3} ms ({:.2} ×), \
                 reading its {:.1} MiB of weights {:.3} ms ({:.2} ×)\n",
                shape.generated,
                step * 1e3,
                products * 1e3,
                step / products,
                mebibytes(bytes),
                reading * 1e3,
                step / reading,
            );
        }
    }
    if let Some(path) = &args.save {
        cai_data::atomic::write_json(path, &rows)?;
    }
    Ok(())
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / (1 << 20) as f64
}
