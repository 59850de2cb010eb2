//! What each stage reads, depends on and does.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use burn::tensor::Device;
use cai_chat::ChatModel;
use cai_data::{
    constitution::Constitution,
    jsonl,
    record::{Conversation, PreferencePair},
    world::World,
};
use cai_model::model::LanguageModel;
use cai_train::LogEntry;
use critique_revision::{
    CRITIQUES, CritiqueConfig, CritiquePrompt, CritiqueRecord, CritiqueReport, FEEDBACK_PAIRS,
    Models, REVISION_PAIRS, sl_cai_conversations,
};
use evaluator::{Evaluation, Judge, ModelSpec, WorldJudge};
use safety_classifier::SafetyClassifier;
use serde_json::{Value, json};

use super::{Stage, data};
use crate::config::{Config, DataConfig, PairSource, Start};
use crate::input;
use crate::models::{self, Choice};

/// A run under way.
pub struct Run<'a> {
    /// Its configuration.
    pub config: &'a Config,
    /// Its folder.
    pub dir: &'a Path,
    /// The base model's folder.
    pub base: PathBuf,
    /// Where tensors live.
    pub device: Device,
}

/// Name of a stage's adapter folder.
pub const ADAPTER: &str = "adapter";
/// Conversations that SL-CAI is trained on.
const CONVERSATIONS: &str = "conversations.jsonl";

impl Run<'_> {
    /// The folder of what a finished stage made.
    pub fn folder(&self, stage: Stage) -> PathBuf {
        self.dir.join(stage.name())
    }

    /// The folder in which an unfinished stage works; it becomes [`folder`](Self::folder).
    pub fn partial(&self, stage: Stage) -> PathBuf {
        self.dir.join(format!("{stage}.partial"))
    }

    /// Checks what a later stage would stumble over: the base model and the constitution.
    ///
    /// # Errors
    ///
    /// A file that is missing, damaged or does not fit.
    pub fn check(&self) -> Result<()> {
        cai_model::model::check(&self.base)?;
        if !self.skips(Stage::Critique) || !self.skips(Stage::Feedback) {
            self.constitution()?;
        }
        Ok(())
    }

    fn skips(&self, stage: Stage) -> bool {
        self.config.skip.contains_key(&stage)
    }

    fn adapter(&self, start: Start) -> Option<PathBuf> {
        match start {
            Start::Base => None,
            Start::Sft => Some(self.folder(Stage::Sft).join(ADAPTER)),
            Start::SlCai => Some(self.folder(Stage::SlCai).join(ADAPTER)),
        }
    }

    /// The settings that decide what `stage` makes.
    pub fn settings(&self, stage: Stage) -> Result<Value> {
        let c = self.config;
        let own = match stage {
            Stage::Data => json!([c.data, c.seed]),
            Stage::Classifier => json!(c.classifier),
            Stage::Sft => json!([c.sft, c.seed]),
            Stage::Critique => json!([c.critique, c.models.author, c.models.critic, c.server]),
            Stage::SlCai => json!([c.sl_cai, c.seed]),
            Stage::Feedback => json!([c.feedback, c.models.policy, c.models.judge, c.server]),
            Stage::Dpo => json!([c.dpo, c.sft.lora, c.seed]),
            Stage::Evaluate => json!(c.evaluation),
        };
        Ok(json!([own, c.device]))
    }

    /// The files that `stage` reads.
    pub fn inputs(&self, stage: Stage) -> Result<Vec<PathBuf>> {
        let data = |name: &str| self.folder(Stage::Data).join(name);
        let in_critique = |name: &str| self.folder(Stage::Critique).join(name);
        let mut paths = Vec::new();
        if !matches!(stage, Stage::Data | Stage::Classifier) {
            paths.extend(model_files(&self.base)?);
        }
        match stage {
            Stage::Data => paths.extend(data::inputs(&self.config.data)?),
            Stage::Classifier => paths.push(data("labelled.jsonl")),
            Stage::Sft => paths.push(data("helpful.jsonl")),
            Stage::Critique => {
                paths.push(data("red_team.jsonl"));
                paths.extend(Constitution::files(&self.config.constitution)?);
                paths.extend(self.chat_files(&self.config.models.author)?);
                paths.extend(self.chat_files(&self.config.models.critic)?);
                paths.extend(self.classifier_files());
            }
            Stage::SlCai => {
                paths.extend([data("sl_cai_helpful.jsonl"), in_critique(CRITIQUES)]);
                paths.extend(self.adapter_files(self.config.sl_cai.start));
            }
            Stage::Feedback => {
                paths.extend([data("red_team.jsonl"), data("harmless.jsonl")]);
                paths.extend(Constitution::files(&self.config.constitution)?);
                paths.extend(self.chat_files(&self.config.models.policy)?);
                paths.extend(self.chat_files(&self.config.models.judge)?);
            }
            Stage::Dpo => {
                paths.extend(self.config.dpo.pairs.iter().map(|&source| self.pair_file(source)));
                paths.extend(self.adapter_files(self.config.dpo.start));
            }
            Stage::Evaluate => {
                paths.extend([
                    data("evaluation.jsonl"),
                    self.folder(Stage::SlCai).join(CONVERSATIONS),
                ]);
                paths.extend(self.classifier_files());
                for model in self.models() {
                    paths.extend(model.adapter.iter().flat_map(|dir| adapter_files(dir)));
                }
            }
        }
        Ok(paths)
    }

    fn adapter_files(&self, start: Start) -> Vec<PathBuf> {
        self.adapter(start).iter().flat_map(|dir| adapter_files(dir)).collect()
    }

    /// The files of a model of critique or feedback; a server has none.
    fn chat_files(&self, name: &str) -> Result<Vec<PathBuf>> {
        Ok(match Choice::parse(name)? {
            Choice::Stage(start) => self.adapter_files(start),
            Choice::Local(model, adapter) => {
                let mut files = model_files(&input::model(&model)?.path)?;
                files.extend(adapter.iter().flat_map(|dir| adapter_files(dir)));
                files
            }
            Choice::Server(..) => Vec::new(),
        })
    }

    /// A model of critique or feedback.
    fn chat(&self, name: &str) -> Result<Box<dyn ChatModel>> {
        match Choice::parse(name)? {
            Choice::Stage(start) => Ok(Box::new(self.load(start)?)),
            Choice::Local(model, adapter) => {
                models::local(&model, adapter.as_deref(), &self.device)
            }
            Choice::Server(url, model) => models::remote(&url, &model, &self.config.server),
        }
    }

    fn classifier_files(&self) -> Vec<PathBuf> {
        let names = ["config.json", "model.safetensors", "tokenizer.json", "calibration.json"];
        names.map(|name| self.folder(Stage::Classifier).join(name)).to_vec()
    }

    fn pair_file(&self, source: PairSource) -> PathBuf {
        match source {
            PairSource::Feedback => self.folder(Stage::Feedback).join(FEEDBACK_PAIRS),
            PairSource::Revision => self.folder(Stage::Critique).join(REVISION_PAIRS),
            PairSource::Human => self.folder(Stage::Data).join("pairs.jsonl"),
        }
    }

    /// The models that are compared: the base and one for each stage that trains.
    pub fn models(&self) -> Vec<ModelSpec> {
        let trained = [Stage::Sft, Stage::SlCai, Stage::Dpo];
        let spec =
            |name: &str, adapter| ModelSpec { name: name.into(), dir: self.base.clone(), adapter };
        let adapted = trained.into_iter().filter(|&stage| !self.skips(stage));
        let adapted =
            adapted.map(|s| spec(&s.name().replace('_', "-"), Some(self.folder(s).join(ADAPTER))));
        std::iter::once(spec("base", None)).chain(adapted).collect()
    }

    fn load(&self, start: Start) -> Result<LanguageModel> {
        let adapter = self.adapter(start);
        Ok(LanguageModel::load(&self.base, adapter.as_deref(), &self.device)?)
    }

    /// A model with an adapter to train: `start`'s, or a fresh one.
    fn trainable(
        &self,
        start: Start,
        fresh: &cai_model::lora::LoraConfig,
    ) -> Result<LanguageModel> {
        let model = self.load(start)?;
        let seed = cai_data::seed::Seed(self.config.seed).derive("adapter");
        Ok(match start {
            Start::Base => model.add_adapter(fresh, seed)?,
            Start::Sft | Start::SlCai => model.train_adapter()?,
        })
    }

    fn constitution(&self) -> Result<Constitution> {
        Ok(Constitution::read(&self.config.constitution)?)
    }

    fn classifier(&self) -> Result<Option<SafetyClassifier>> {
        if self.skips(Stage::Classifier) {
            return Ok(None);
        }
        Ok(Some(SafetyClassifier::load(&self.folder(Stage::Classifier), &self.device)?))
    }
}

fn model_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let path = entry?.path();
        let used = ["safetensors", "json", "jinja"];
        if path.extension().is_some_and(|e| used.iter().any(|u| e == *u)) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn adapter_files(dir: &Path) -> [PathBuf; 2] {
    use cai_model::lora::{ADAPTER_CONFIG, ADAPTER_WEIGHTS};
    [dir.join(ADAPTER_CONFIG), dir.join(ADAPTER_WEIGHTS)]
}

/// Does the work of `stage` and says in a line what came of it.
///
/// # Errors
///
/// Those of the stage.
pub fn run(run: &Run, stage: Stage) -> Result<String> {
    match stage {
        Stage::Data => data::run(run.config, &run.partial(stage)),
        Stage::Classifier => classifier(run),
        Stage::Sft => sft(run),
        Stage::Critique => critique(run),
        Stage::SlCai => sl_cai(run),
        Stage::Feedback => feedback(run),
        Stage::Dpo => dpo(run),
        Stage::Evaluate => evaluate(run),
    }
}

fn classifier(run: &Run) -> Result<String> {
    let config = &run.config.classifier;
    let path = run.folder(Stage::Data).join("labelled.jsonl");
    let records = safety_classifier::data::read(&path, &config.labels)?;
    let report =
        safety_classifier::train(config, &records, &run.device, &run.partial(Stage::Classifier))?;
    let held_out = &report.held_out;
    Ok(format!(
        "{} texts, held-out accuracy {:.3}, macro-F1 {:.3}, ECE {:.3}",
        records.len(),
        held_out.accuracy,
        held_out.macro_f1,
        held_out.ece
    ))
}

fn sft(run: &Run) -> Result<String> {
    let conversations = jsonl::read(&run.folder(Stage::Data).join("helpful.jsonl"))?;
    fine_tune(run, Stage::Sft, Start::Base, &conversations, &run.config.sft)
}

fn sl_cai(run: &Run) -> Result<String> {
    let records: Vec<CritiqueRecord> = jsonl::read(&run.folder(Stage::Critique).join(CRITIQUES))?;
    let helpful: Vec<Conversation> =
        jsonl::read(&run.folder(Stage::Data).join("sl_cai_helpful.jsonl"))?;
    let config = &run.config.sl_cai;
    let seed = run.config.data_seed().derive("sl_cai");
    let set =
        sl_cai_conversations(&records, &helpful, config.helpful_share, config.revisions, seed)?;
    jsonl::write(&run.partial(Stage::SlCai).join(CONVERSATIONS), &set.conversations)?;
    let summary = fine_tune(run, Stage::SlCai, config.start, &set.conversations, &config.sft)?;
    Ok(format!("{} revisions and {} helpful replies; {summary}", set.revisions, set.helpful))
}

fn fine_tune(
    run: &Run,
    stage: Stage,
    start: Start,
    conversations: &[Conversation],
    config: &helpful_sft::SftConfig,
) -> Result<String> {
    let model = run.trainable(start, &config.lora)?;
    let dir = run.partial(stage);
    let (_, report) = helpful_sft::run(model, conversations, config, &dir, stage.name())?;
    loss_chart(stage, &report.log_history, &dir, None)?;
    let left_out: usize = report.left_out.values().sum();
    Ok(format!(
        "{} of {} records ({left_out} left out), {} trainable ({:.2} %), held-out loss {} to {}",
        report.trained + report.held_out,
        report.records,
        report.trainable_parameters,
        report.trainable_percent,
        number(report.eval_loss_start),
        number(report.eval_loss_end),
    ))
}

fn critique(run: &Run) -> Result<String> {
    let prompts: Vec<CritiquePrompt> =
        jsonl::read(&run.folder(Stage::Data).join("red_team.jsonl"))?;
    let (settings, dir) = (&run.config.critique, run.partial(Stage::Critique));
    let report = critique_of(run, settings, &run.constitution()?, &prompts, &dir)?;
    let harm: Vec<String> = report
        .rounds
        .iter()
        .filter_map(|round| round.harm.as_ref().map(|harm| format!("{:.2}", harm.mean)))
        .collect();
    Ok(format!("{} prompts, mean harm by round {}", report.n, harm.join(" → ")))
}

/// Critique and revision of `prompts` by the run's models, into `dir`.
///
/// # Errors
///
/// Those of the stage.
pub fn critique_of(
    run: &Run,
    settings: &CritiqueConfig,
    constitution: &Constitution,
    prompts: &[CritiquePrompt],
    dir: &Path,
) -> Result<CritiqueReport> {
    let names = &run.config.models;
    let author = run.chat(&names.author)?;
    let other = (names.critic != names.author).then(|| run.chat(&names.critic)).transpose()?;
    let models = Models { author: &*author, critic: other.as_deref().unwrap_or(&*author) };
    let classifier = run.classifier()?;
    let classifier = classifier.as_ref();
    Ok(critique_revision::run(models, constitution, classifier, prompts, settings, dir)?)
}

fn feedback(run: &Run) -> Result<String> {
    let judge = run.chat(&run.config.models.judge)?;
    let policy = run.chat(&run.config.models.policy)?;
    let mut prompts: Vec<CritiquePrompt> = Vec::new();
    for name in ["red_team.jsonl", "harmless.jsonl"] {
        prompts.extend(jsonl::read::<CritiquePrompt>(&run.folder(Stage::Data).join(name))?);
    }
    let dir = run.partial(Stage::Feedback);
    critique_revision::run_feedback(
        &*policy,
        &*judge,
        &run.constitution()?,
        &prompts,
        &run.config.feedback,
        &dir,
    )?;
    let pairs: Vec<PreferencePair> = jsonl::read(&dir.join(FEEDBACK_PAIRS))?;
    Ok(format!("{} prompts, {} pairs", prompts.len(), pairs.len()))
}

fn dpo(run: &Run) -> Result<String> {
    let config = &run.config.dpo;
    let mut pairs: Vec<PreferencePair> = Vec::new();
    for &source in &config.pairs {
        pairs.extend(jsonl::read::<PreferencePair>(&run.pair_file(source))?);
    }
    let model = run.trainable(config.start, &run.config.sft.lora)?;
    let dir = run.partial(Stage::Dpo);
    let (_, report) = dpo_trainer::run(model, &pairs, &config.dpo, &dir, Stage::Dpo.name())?;
    loss_chart(Stage::Dpo, &report.log_history, &dir, Some((std::f64::consts::LN_2, "ln 2")))?;
    let by_source: Vec<String> = report
        .eval_by_source
        .iter()
        .map(|(source, scores)| format!("{source} {}", number(scores.accuracy_end)))
        .collect();
    let left_out: usize = report.left_out.values().sum();
    Ok(format!(
        "{} of {} pairs ({left_out} left out), first loss {}, held-out loss {} to {}, accuracy {} ({})",
        report.trained + report.held_out,
        report.records,
        report.first_loss.map_or("?".into(), |loss| format!("{loss:.6}")),
        number(report.eval.loss_start),
        number(report.eval.loss_end),
        number(report.eval.accuracy_end),
        by_source.join(", "),
    ))
}

fn evaluate(run: &Run) -> Result<String> {
    let results = evaluation_of(run, &run.models(), &run.partial(Stage::Evaluate))?.results;
    Ok(format!("{} models, {} prompts", results.models.len(), results.prompts.total))
}

/// `models` side by side on the run's evaluation prompts, into `dir`.
///
/// # Errors
///
/// Those of the stage.
pub fn evaluation_of(run: &Run, models: &[ModelSpec], dir: &Path) -> Result<Evaluation> {
    let Some(classifier) = run.classifier()? else {
        bail!(
            "evaluation scores harm with the classifier, which skip leaves out; skip evaluate too"
        );
    };
    let path = run.folder(Stage::Data).join("evaluation.jsonl");
    let prompts = evaluator::read_prompts(&path, run.config.evaluation.max_prompts)?;
    let training: Option<Vec<Conversation>> = match run.skips(Stage::SlCai) {
        true => None,
        false => Some(jsonl::read(&run.folder(Stage::SlCai).join(CONVERSATIONS))?),
    };
    let world = World::new();
    let judge = WorldJudge(&world);
    let judge: Option<&dyn Judge> = match run.config.data {
        DataConfig::World(_) => Some(&judge),
        DataConfig::Files(_) => None,
    };
    let (evaluation, _) = evaluator::run(
        &prompts,
        models,
        training.as_deref(),
        &classifier,
        judge,
        None,
        &run.config.evaluation,
        &run.device,
        dir,
    )?;
    Ok(evaluation)
}

/// Training and held-out loss as `loss.svg`.
fn loss_chart(
    stage: Stage,
    history: &[LogEntry],
    dir: &Path,
    reference: Option<(f64, &str)>,
) -> Result<()> {
    let curve = |name: &str, metric: &str| {
        let value = |entry: &LogEntry| Some((entry.step as f64, *entry.metrics.get(metric)?));
        (name.to_string(), history.iter().filter_map(value).collect::<Vec<_>>())
    };
    let series = [curve("training", "loss"), curve("held out", "eval_loss")];
    let title = format!("{stage}: loss");
    evaluator::figures::line_chart(
        &title,
        &series,
        "step",
        "loss",
        &dir.join("loss.svg"),
        reference,
    )?;
    Ok(())
}

/// What the run as a whole came to, for the terminal: the comparison, or the last summaries.
///
/// # Errors
///
/// When the results cannot be read.
pub fn outcome(config: &Config, dir: &Path) -> Result<String> {
    if config.skip.contains_key(&Stage::Evaluate) {
        return Ok(format!("run: {}", dir.display()));
    }
    let folder = dir.join(Stage::Evaluate.name());
    let path = folder.join("results.json");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let results = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
    let table = evaluator::table(&results);
    Ok(format!("{table}\nreport: {}", folder.join("report.html").display()))
}

fn number(value: Option<f64>) -> String {
    value.map_or("none".into(), |value| format!("{value:.3}"))
}
