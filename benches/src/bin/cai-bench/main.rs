//! Whole steps beside what the machine can do, beside an earlier run, beside PyTorch, and against
//! their sizes.
//!
//! ```text
//! cargo xtask bench table                          # rates, share of the machine's, peak memory
//! cargo xtask bench table -- --save before.json    # … --against before.json
//! cargo xtask bench pytorch -- --python venv/bin/python
//! cargo xtask bench growth                         # docs/figures/growth.svg
//!
//! cargo run -p cai-benches --features cuda -- table --device cuda --presets gemma-2b-8x1024
//! ```

mod growth;
mod pytorch;
mod table;

use std::path::PathBuf;

use anyhow::{Context, Result};
use cai_benches::{GemmaShape, PRESETS, steps::Task, worker};
use cai_model::device::{join_workers, tune_allocator};
use clap::{Parser, Subcommand, builder::PossibleValuesParser};

/// Benches of whole steps; each runs in a process of its own.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Tokens per second, rate, share of the machine's measured rate, and peak memory.
    Table(table::TableArgs),
    /// The same steps by PyTorch, transformers and PEFT, in turn with ours.
    Pytorch(pytorch::PytorchArgs),
    /// Time and memory of a step against its sizes, as a figure.
    Growth(growth::GrowthArgs),
    /// Steps for another process (see `worker`).
    #[command(hide = true)]
    Work {
        #[arg(long)]
        task: Task,
        #[arg(long)]
        dir: PathBuf,
        #[arg(long)]
        device: String,
    },
}

/// What to run.
#[derive(clap::Args)]
struct Selection {
    /// Shapes.
    #[arg(long, value_delimiter = ',', default_value = "mini-gemma,mini,small",
          value_parser = PossibleValuesParser::new(PRESETS))]
    presets: Vec<String>,
    /// Steps.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "sft,dpo,dpo-cached,log-probs,prefill,generate"
    )]
    tasks: Vec<Task>,
    /// Steps of each, after one to warm up.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Sequences that are generated together, where the shape's number is not wanted.
    #[arg(long)]
    sequences: Option<usize>,
    /// Where: cpu, cuda, vulkan or wgpu, which need a build with that feature.
    #[arg(long, default_value = "cpu")]
    device: String,
}

impl Selection {
    fn shapes(&self) -> Result<Vec<(&str, GemmaShape)>> {
        let shape = |name: &str| -> Result<GemmaShape> {
            let shape = GemmaShape::preset(name).context("unknown preset")?;
            Ok(GemmaShape { generated: self.sequences.unwrap_or(shape.generated), ..shape })
        };
        self.presets.iter().map(|name| Ok((name.as_str(), shape(name)?))).collect()
    }
}

fn main() -> Result<()> {
    tune_allocator();
    join_workers();
    match Cli::parse().command {
        Command::Table(args) => table::run(args),
        Command::Pytorch(args) => pytorch::run(args),
        Command::Growth(args) => growth::run(args),
        Command::Work { task, dir, device } => worker::work(task, &dir, &device),
    }
}
