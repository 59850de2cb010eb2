use std::path::PathBuf;

use anyhow::{Context, Result};
use cai_data::constitution::Constitution;
use cai_model::device;
use clap::Args;
use helpful_sft::pretrain::{self, PretrainConfig};

/// Train mini-gemma from scratch on the mini world. Run again after an interruption, it resumes.
#[derive(Args)]
pub struct PretrainArgs {
    /// Configuration file.
    #[arg(long, default_value = "configs/pretrain.yaml")]
    config: PathBuf,
    /// Principles whose critiques the model learns.
    #[arg(long, default_value = "configs/constitution.yaml")]
    constitution: PathBuf,
    /// Model folder to write.
    #[arg(long, default_value = "artifacts/models/mini-gemma")]
    out: PathBuf,
    /// Folder of checkpoints and logs.
    #[arg(long, default_value = "artifacts/runs/pretrain")]
    work: PathBuf,
    /// cpu, cuda[:n], vulkan[:n], wgpu[:n].
    #[arg(long, default_value = "cpu")]
    device: String,
}

/// Runs the command.
pub fn run(args: PretrainArgs) -> Result<()> {
    cai_model::device::join_workers();
    let place = || args.config.display().to_string();
    let text = std::fs::read_to_string(&args.config).with_context(place)?;
    let config: PretrainConfig = serde_yaml::from_str(&text).with_context(place)?;
    let constitution = Constitution::read(&args.constitution)?;
    let device = device::parse(&args.device)?;
    let report = pretrain::run(&config, &constitution, &args.work, &args.out, &device)?;
    println!(
        "{} steps, {} tokens, held-out loss {:.4}: {}",
        report.steps,
        report.tokens,
        report.last("eval_loss").unwrap_or(f64::NAN),
        args.out.display()
    );
    Ok(())
}
