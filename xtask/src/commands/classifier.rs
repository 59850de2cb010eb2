use std::{io::BufRead, path::PathBuf};

use anyhow::{Result, bail};
use cai_model::device;
use clap::{Args, Subcommand};
use safety_classifier::{SafetyClassifier, data, report::evaluation_markdown};

use super::ConfigArgs;

/// Train, evaluate or use the safety classifier.
#[derive(Args)]
pub struct ClassifierArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Train on labelled texts, with the `classifier` section of the config.
    Train {
        #[command(flatten)]
        config: ConfigArgs,
        /// JSONL of {"text", "label"}.
        #[arg(long)]
        data: PathBuf,
        /// Folder to write.
        #[arg(long)]
        out: PathBuf,
    },
    /// Measure a classifier on labelled texts.
    Eval {
        /// The classifier's folder.
        #[arg(long)]
        model: PathBuf,
        /// JSONL of {"text", "label"}.
        #[arg(long)]
        data: PathBuf,
    },
    /// Classify texts: arguments, or one a line from standard input.
    Predict {
        /// The classifier's folder.
        #[arg(long)]
        model: PathBuf,
        /// The texts.
        texts: Vec<String>,
    },
}

/// Texts in a group with fewer are not compared.
const MIN_GROUP_SIZE: usize = 10;

/// Runs the command.
pub fn run(args: ClassifierArgs) -> Result<()> {
    let device = device::parse("cpu")?;
    match args.action {
        Action::Train { config, data, out } => {
            let config = config.read()?.classifier;
            let records = data::read(&data, &config.labels)?;
            if records.is_empty() {
                bail!("{} has no text; give a file with some of each label", data.display());
            }
            let report = safety_classifier::train(&config, &records, &device, &out)?;
            println!("{}", report.markdown());
        }
        Action::Eval { model, data } => {
            let classifier = SafetyClassifier::load(&model, &device)?;
            let records = data::read(&data, classifier.labels())?;
            let evaluation = safety_classifier::evaluate(&classifier, &records, MIN_GROUP_SIZE)?;
            println!("{}", evaluation_markdown(&evaluation));
        }
        Action::Predict { model, texts } => {
            let classifier = SafetyClassifier::load(&model, &device)?;
            let texts = match texts.is_empty() {
                true => std::io::stdin().lock().lines().collect::<Result<_, _>>()?,
                false => texts,
            };
            let refs: Vec<&str> = texts.iter().map(String::as_str).collect();
            for (text, prediction) in texts.iter().zip(classifier.predict(&refs)?) {
                println!("{:<18} harm {:.3}  {text}", prediction.label, prediction.harm);
            }
        }
    }
    Ok(())
}
