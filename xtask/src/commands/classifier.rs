use std::{
    fs,
    io::{BufRead, IsTerminal, Write, stdin, stdout},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use cai_data::{atomic, jsonl, record::LabelledText};
use cai_model::device;
use clap::{Args, Subcommand};
use safety_classifier::{
    ClassifierConfig, SafetyClassifier, Task,
    assess::{AssessConfig, assess},
    data::{Dataset, read},
    explain::explain,
    report::evaluation_markdown,
    sources::Source,
    stream, train,
};
use serde::{Deserialize, Serialize};

use super::ConfigArgs;
use crate::{
    config::{self, ClassifierStage, Config, Many},
    input,
};

/// Train, evaluate or use the safety classifier.
#[derive(Args)]
pub struct ClassifierArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Train on labelled texts.
    Train {
        /// A classifier's config, or a pipeline's, of which the `classifier` section is used.
        #[arg(long, default_value = "configs/classifier-real.yaml")]
        config: PathBuf,
        /// Change a setting; may be given several times.
        #[arg(long = "set", value_name = "KEY.PATH=VALUE")]
        sets: Vec<String>,
        /// JSONL of {"text", "label"}, in place of the config's `data`; a share is held out.
        #[arg(long)]
        data: Option<PathBuf>,
        /// Folder to write.
        #[arg(long, alias = "out")]
        output_dir: PathBuf,
    },
    /// Measure a classifier on labelled texts.
    Eval {
        /// The classifier's folder.
        #[arg(long)]
        model: PathBuf,
        /// JSONL, CSV or Parquet of texts and labels.
        #[arg(long)]
        data: String,
        /// Another classifier's predictions of the same texts, JSONL of {"label"}: the difference
        /// gets a paired interval.
        #[arg(long, requires = "output_dir")]
        baseline: Option<PathBuf>,
        /// Folder for report.html and assessment.json: fairness, robustness, curves and all.
        #[arg(long)]
        output_dir: Option<PathBuf>,
        /// The precision at which the report sets each class's threshold.
        #[arg(long, default_value_t = AssessConfig::default().precision, requires = "output_dir")]
        precision: f64,
    },
    /// Show which words of a text decide its label.
    Explain {
        /// The classifier's folder.
        #[arg(long)]
        model: PathBuf,
        /// Also write a page of HTML.
        #[arg(long)]
        html: Option<PathBuf>,
        /// The text.
        text: String,
    },
    /// Classify texts: a file, arguments, or one a line from standard input.
    Predict {
        /// The classifier's folder.
        #[arg(long, default_value = "artifacts/runs/mini/classifier")]
        model: PathBuf,
        /// JSONL, CSV or Parquet of texts (field or column `text`); `-` is JSONL from standard input.
        #[arg(long, conflicts_with = "texts")]
        input: Option<PathBuf>,
        /// Where to write {"label", "scores"} lines, in the order of the input [default: standard
        /// output].
        #[arg(long, requires = "input")]
        output: Option<PathBuf>,
        /// The texts.
        texts: Vec<String>,
    },
}

/// Texts in a group with fewer are not compared.
const MIN_GROUP_SIZE: usize = 10;

/// A classifier's config file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClassifierRun {
    /// Seed of everything, unless classifier.train.seed is set.
    #[serde(default = "seed")]
    seed: u64,
    /// cpu, cuda[:n], vulkan[:n], wgpu[:n].
    #[serde(default = "cpu")]
    device: String,
    /// Where the texts come from.
    #[serde(default)]
    data: ClassifierData,
    /// The classifier.
    #[serde(default)]
    classifier: ClassifierConfig,
}

/// Where the texts come from: a path or `hub:` address each, or a mapping that names columns too; one
/// or a list.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ClassifierData {
    /// To train on.
    train: Many<Source>,
    /// To evaluate and calibrate on. Absent: a share of `train`.
    valid: Many<Source>,
}

fn seed() -> u64 {
    42
}

fn cpu() -> String {
    "cpu".into()
}

/// Runs the command.
pub fn run(args: ClassifierArgs) -> Result<()> {
    match args.action {
        Action::Train { config, sets, data, output_dir } => {
            let run = read_run(&config, &sets)?;
            let dataset = match data {
                Some(data) => split(&read(&data, &run.classifier.labels)?, &data, &run.classifier)?,
                None => from_config(&run)?,
            };
            let dataset = dataset.with_written(&run.classifier, train::seed(&run.classifier))?;
            let device = device::parse(&run.device)?;
            let held_out = dataset.held_out_records(&run.classifier.labels);
            let report = train::train_on(&run.classifier, dataset, &device, &output_dir)?;
            println!("{}", report.markdown());
            if run.classifier.task == Task::MultiLabel {
                return Ok(());
            }
            let classifier = SafetyClassifier::load(&output_dir, &device)?;
            let assessment = assess(&classifier, &held_out, None, &assess_config(&run.classifier))?;
            assessment.save(&output_dir, Some(&report.data))?;
            println!("{}", output_dir.join("report.html").display());
        }
        Action::Eval { model, data, baseline, output_dir, precision } => {
            let classifier = SafetyClassifier::load(&model, &device::parse("cpu")?)?;
            let file = input::file(&data)?.path;
            let records = Source::new(data).read(&file, classifier.labels())?;
            let evaluation = safety_classifier::evaluate(&classifier, &records, MIN_GROUP_SIZE)?;
            println!("{}", evaluation_markdown(&evaluation));
            if let Some(dir) = output_dir {
                super::create_dir(&dir)?;
                let baseline = baseline.map(|path| labels_of(&path)).transpose()?;
                if classifier.task() == Task::MultiLabel {
                    bail!(
                        "report.html compares labels that exclude each other; leave out --output-dir"
                    );
                }
                let config = AssessConfig { precision, ..AssessConfig::default() };
                assess(&classifier, &records, baseline.as_deref(), &config)?.save(&dir, None)?;
                println!("{}", dir.join("report.html").display());
            }
        }
        Action::Explain { model, html, text } => {
            let classifier = SafetyClassifier::load(&model, &device::parse("cpu")?)?;
            let explanation = explain(&classifier, &text)?;
            print!("{}", explanation.terminal(stdout().is_terminal()));
            if let Some(path) = html {
                atomic::write(&path, explanation.html().as_bytes())?;
            }
        }
        Action::Predict { model, input, output, texts } => {
            let classifier = SafetyClassifier::load(&model, &device::parse("cpu")?)?;
            match input {
                Some(input) => predict_file(&classifier, &input, output.as_deref())?,
                None => predict_texts(&classifier, texts)?,
            }
        }
    }
    Ok(())
}

fn assess_config(config: &ClassifierConfig) -> AssessConfig {
    let min_group_size = config.min_group_size;
    AssessConfig { min_group_size, seed: config.train.seed, ..AssessConfig::default() }
}

/// The labels of recorded predictions.
fn labels_of(path: &Path) -> Result<Vec<String>> {
    #[derive(Deserialize)]
    struct Line {
        label: String,
    }
    Ok(jsonl::read::<Line>(path)?.into_iter().map(|line| line.label).collect())
}

/// Reads a classifier's config, or the classifier's part of a pipeline's.
fn read_run(path: &Path, sets: &[String]) -> Result<ClassifierRun> {
    let value = config::yaml(path, sets)?;
    if value.get("constitution").is_some() {
        let args = ConfigArgs { config: path.into(), sets: sets.to_vec() };
        let Config { seed, device, classifier, .. } = args.read()?;
        let data = ClassifierData::default();
        return match classifier {
            ClassifierStage::Train(classifier) => {
                Ok(ClassifierRun { seed, device, data, classifier: *classifier })
            }
            ClassifierStage::From(dir) => bail!(
                "config {}: its classifier is that of {}; there is nothing to train",
                path.display(),
                dir.display()
            ),
        };
    }
    let own_seed = value.get("classifier").and_then(|c| c.get("train")?.get("seed")).is_some();
    let mut run: ClassifierRun = config::parse(value, path)?;
    if !own_seed {
        run.classifier.train.seed = run.seed;
    }
    run.classifier.validate().with_context(|| format!("config {}", path.display()))?;
    Ok(run)
}

fn from_config(run: &ClassifierRun) -> Result<Dataset> {
    let labels = &run.classifier.labels;
    let train = read_sources(&run.data.train, labels)?;
    let valid = read_sources(&run.data.valid, labels)?;
    if train.is_empty() {
        bail!("data.train has no text; give a file with --set data.train=FILE or --data FILE");
    }
    match valid.is_empty() {
        true => split(&train, Path::new("data.train"), &run.classifier),
        false => Ok(Dataset::with_valid(&train, &valid, &run.classifier)?),
    }
}

fn split(records: &[LabelledText], path: &Path, config: &ClassifierConfig) -> Result<Dataset> {
    if records.is_empty() {
        bail!("{} has no text; give a file with some of each label", path.display());
    }
    config.validate()?;
    Ok(Dataset::new(records, config, train::seed(config))?)
}

fn read_sources(sources: &Many<Source>, labels: &[String]) -> Result<Vec<LabelledText>> {
    let mut records = Vec::new();
    for source in &sources.0 {
        records.extend(source.read(&input::file(&source.path)?.path, labels)?);
    }
    Ok(records)
}

fn predict_file(classifier: &SafetyClassifier, input: &Path, output: Option<&Path>) -> Result<()> {
    let classify = |output: &mut dyn Write| match input == Path::new("-") {
        true => stream::classify_lines(classifier, stdin().lock(), "standard input", output),
        false => stream::classify_file(classifier, input, output),
    };
    let Some(path) = output else {
        classify(&mut stdout().lock())?;
        return Ok(());
    };
    // Under another name until it is whole.
    let partial = path.with_added_extension("part");
    let file = fs::File::create(&partial)
        .with_context(|| format!("cannot write {}", partial.display()))?;
    let mut writer = std::io::BufWriter::new(file);
    let done = classify(&mut writer)
        .map_err(anyhow::Error::from)
        .and_then(|texts| Ok(writer.flush().map(|()| texts)?))
        .and_then(|texts| Ok(fs::rename(&partial, path).map(|()| texts)?));
    match done {
        Ok(texts) => eprintln!("{texts} texts, written to {}", path.display()),
        Err(error) => {
            let _ = fs::remove_file(&partial);
            return Err(error);
        }
    }
    Ok(())
}

fn predict_texts(classifier: &SafetyClassifier, texts: Vec<String>) -> Result<()> {
    let texts = match texts.is_empty() {
        true => stdin().lock().lines().collect::<Result<_, _>>()?,
        false => texts,
    };
    let refs: Vec<&str> = texts.iter().map(String::as_str).collect();
    for (text, prediction) in texts.iter().zip(classifier.predict(&refs)?) {
        println!("{:<18} harm {:.3}  {text}", prediction.label, prediction.harm);
    }
    Ok(())
}
