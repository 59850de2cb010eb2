use std::path::PathBuf;

use anyhow::Result;
use cai_data::{dataset, seed::Seed};
use clap::Args;

use super::{ConfigArgs, ModelArgs, create_dir};

/// Fine-tune on conversations with LoRA, with the `sft` section of the config. With --adapter,
/// training goes on from that adapter.
#[derive(Args)]
pub struct SftArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    config: ConfigArgs,
    /// JSONL of {"messages"} or {"prompt", "completion"}.
    #[arg(long)]
    data: PathBuf,
    /// Folder to write: adapter, report, checkpoints.
    #[arg(long)]
    out: PathBuf,
}

/// Runs the command.
pub fn run(args: SftArgs) -> Result<()> {
    let config = args.config.read()?;
    let conversations = dataset::read_conversations(&args.data)?;
    let model = args.model.load()?;
    let model = match args.model.adapter {
        Some(_) => model.train_adapter()?,
        None => model.add_adapter(&config.sft.lora, Seed(config.seed).derive("adapter"))?,
    };
    create_dir(&args.out)?;
    let (_, report) = helpful_sft::run(model, &conversations, &config.sft, &args.out, "sft")?;
    let loss = |value: Option<f64>| value.map_or("none".into(), |v| format!("{v:.4}"));
    println!(
        "{} of {} records trained, {} held out, left out {:?}; {} trainable parameters ({:.2} %); \
         held-out loss {} to {}; adapter in {}",
        report.trained,
        report.records,
        report.held_out,
        report.left_out,
        report.trainable_parameters,
        report.trainable_percent,
        loss(report.eval_loss_start),
        loss(report.eval_loss_end),
        args.out.join("adapter").display()
    );
    Ok(())
}
