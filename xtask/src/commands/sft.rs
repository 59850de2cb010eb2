use std::path::{Path, PathBuf};

use anyhow::Result;
use cai_data::{dataset, seed::Seed};
use clap::Args;

use super::{ConfigArgs, ModelArgs, create_dir, show_batch};

/// Fine-tune on conversations with LoRA, with the `sft` section of the config. With --adapter,
/// training goes on from that adapter.
#[derive(Args)]
pub struct SftArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    config: ConfigArgs,
    /// JSONL of {"messages"} or {"prompt", "completion"}. Several may be given, then each also as
    /// FILE=SHARE: the largest mix in those proportions is trained on.
    #[arg(long, required = true, value_name = "FILE[=SHARE]")]
    data: Vec<String>,
    /// Folder to write: adapter, report, checkpoints.
    #[arg(long, required_unless_present = "show_batch")]
    out: Option<PathBuf>,
    /// Print the conversations of the first step, trained tokens marked, and train nothing.
    #[arg(long)]
    show_batch: bool,
}

/// Runs the command.
pub fn run(args: SftArgs) -> Result<()> {
    cai_model::device::join_workers();
    let config = args.config.read()?;
    let sets = args.data.iter().map(|given| {
        let (file, share) = file_and_share(given);
        Ok((dataset::read_conversations(Path::new(file))?, share))
    });
    let seed = Seed(config.seed);
    let conversations = helpful_sft::mix(sets.collect::<Result<_>>()?, seed)?;
    if args.show_batch {
        let tokenizer = args.model.tokenizer()?;
        let prepared = helpful_sft::prepare(&tokenizer, &conversations, &config.sft)?;
        return show_batch::sft(&tokenizer, &prepared, &config.sft);
    }
    let Some(out) = args.out else { return Ok(()) };
    let model = args.model.load()?;
    let model = match args.model.adapter {
        Some(_) => model.train_adapter()?,
        None => model.add_adapter(&config.sft.lora, seed.derive("adapter"))?,
    };
    create_dir(&out)?;
    let (_, report) = helpful_sft::run(model, &conversations, &config.sft, &out, "sft")?;
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
        out.join("adapter").display()
    );
    Ok(())
}

/// `FILE=SHARE`, where what is behind the last `=` is a number, or a file alone.
fn file_and_share(given: &str) -> (&str, Option<f64>) {
    let split = given.rsplit_once('=').and_then(|(file, share)| Some((file, share.parse().ok()?)));
    split.map_or((given, None), |(file, share)| (file, Some(share)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_number_behind_the_file() {
        assert_eq!(file_and_share("a.jsonl=0.25"), ("a.jsonl", Some(0.25)));
        assert_eq!(file_and_share("a=b.jsonl"), ("a=b.jsonl", None));
        assert_eq!(file_and_share("a.jsonl"), ("a.jsonl", None));
    }
}
