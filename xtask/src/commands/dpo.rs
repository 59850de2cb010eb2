use std::path::PathBuf;

use anyhow::Result;
use cai_data::{dataset, seed::Seed};
use clap::Args;

use super::{ConfigArgs, ModelArgs, create_dir, show_batch};

/// Optimise a policy on preference pairs, with the `dpo` section of the config. With --adapter, the
/// policy starts from that adapter, and a frozen copy of it is the reference.
#[derive(Args)]
pub struct DpoArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    config: ConfigArgs,
    /// Preference pairs: what TRL reads, or hh-rlhf transcripts.
    #[arg(long)]
    data: PathBuf,
    /// Malformed lines that are left out and counted; one more and the file is refused.
    #[arg(long, default_value_t = 0, value_name = "N")]
    max_malformed: usize,
    /// Folder to write: adapter, report, checkpoints.
    #[arg(long, required_unless_present = "show_batch")]
    out: Option<PathBuf>,
    /// Print the pairs of the first step, trained tokens marked, and train nothing.
    #[arg(long)]
    show_batch: bool,
}

/// Runs the command.
pub fn run(args: DpoArgs) -> Result<()> {
    cai_model::device::join_workers();
    let config = args.config.read()?;
    let policy = dataset::Policy { max_malformed: args.max_malformed };
    let read = dataset::read_pairs(&args.data, &policy)?;
    if args.show_batch {
        let tokenizer = args.model.tokenizer()?;
        let prepared = dpo_trainer::prepare(&tokenizer, &read.pairs, &config.dpo.dpo)?;
        return show_batch::dpo(&tokenizer, &prepared, &config.dpo.dpo);
    }
    let Some(out) = args.out else { return Ok(()) };
    let model = args.model.load()?;
    let model = match args.model.adapter {
        Some(_) => model,
        None => model.add_adapter(&config.sft.lora, Seed(config.seed).derive("adapter"))?,
    };
    create_dir(&out)?;
    let (_, report) = dpo_trainer::run(model, &read.pairs, &config.dpo.dpo, &out, "dpo")?;
    let value = |value: Option<f64>| value.map_or("none".into(), |v| format!("{v:.4}"));
    println!(
        "{} records, {} left out while reading {:?}, {} trained, {} held out, left out {:?}; first \
         loss {}; held-out loss {} to {}, accuracy {}; adapter in {}",
        read.total,
        read.left_out(),
        read.counts,
        report.trained,
        report.held_out,
        report.left_out,
        value(report.first_loss),
        value(report.eval.loss_start),
        value(report.eval.loss_end),
        value(report.eval.accuracy_end),
        out.join("adapter").display()
    );
    Ok(())
}
