//! What each stage reads, depends on and does.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use burn::tensor::Device;
use cai_chat::ChatModel;
use cai_data::{
    atomic,
    constitution::Constitution,
    hash, jsonl,
    record::{Conversation, PreferencePair},
    seed::Seed,
    world::World,
};
use cai_model::model::{LanguageModel, LoadOptions};
use cai_model::source::ModelSource;
use cai_model::tokenizer::TemplateChoice;
use cai_train::LogEntry;
use critique_revision::{
    CRITIQUES, CritiqueConfig, CritiquePrompt, CritiqueRecord, CritiqueReport, FEEDBACK,
    FEEDBACK_PAIRS, FeedbackConfig, FeedbackRecord, Models, REVISION_PAIRS, shortfall,
    sl_cai_conversations,
};
use evaluator::{Evaluation, Judge, ModelSpec, WorldJudge};
use safety_classifier::SafetyClassifier;
use serde_json::{Value, json};

use super::{Stage, Step, counted, data};
use crate::config::{ClassifierStage, Config, DataConfig, PairSource, Start};
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
/// Says where a classifier comes from that this run has not trained.
const ORIGIN: &str = "origin.json";
/// Conversations that SL-CAI is trained on.
const CONVERSATIONS: &str = "conversations.jsonl";

impl Run<'_> {
    /// The folder of what a finished step made.
    pub fn folder(&self, step: impl Into<Step>) -> PathBuf {
        self.dir.join(step.into().to_string())
    }

    /// The folder in which an unfinished step works; it becomes [`folder`](Self::folder).
    pub fn partial(&self, step: impl Into<Step>) -> PathBuf {
        self.dir.join(format!("{}.partial", step.into()))
    }

    /// Checks what a later stage would stumble over: the base model and the constitution.
    ///
    /// # Errors
    ///
    /// A file that is missing, damaged or does not fit.
    pub fn check(&self) -> Result<()> {
        ModelSource::open(&self.base, self.config.tokenizer.as_deref())?;
        if let ClassifierStage::From(dir) = &self.config.classifier {
            SafetyClassifier::load(dir, &self.device)?;
        }
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

    /// The adapter from which a round of DPO starts: that of `dpo.start`, later the round before.
    fn dpo_start(&self, round: usize) -> Option<PathBuf> {
        match round {
            1 => self.adapter(self.config.dpo.start),
            _ => Some(self.folder(Step::dpo(round - 1)).join(ADAPTER)),
        }
    }

    /// The settings of a round of AI feedback. Each draws samples and principles of its own.
    fn feedback_config(&self, round: usize) -> FeedbackConfig {
        let config = self.config.feedback.clone();
        match round {
            1 => config,
            _ => FeedbackConfig {
                seed: Seed(config.seed).derive("round").index(round as u64).0,
                ..config
            },
        }
    }

    /// The settings that decide what `step` makes.
    pub fn settings(&self, step: Step) -> Result<Value> {
        let c = self.config;
        let own = match step.stage {
            Stage::Data => json!([c.data, c.seed]),
            Stage::Classifier => json!(c.classifier),
            Stage::Sft => json!([c.sft, c.seed]),
            Stage::Critique => json!([c.critique, c.models.author, c.models.critic, c.server]),
            Stage::SlCai => json!([c.sl_cai, c.seed]),
            Stage::Feedback => {
                let feedback = self.feedback_config(step.round);
                json!([feedback, c.models.policy, c.models.judge, c.server])
            }
            Stage::Dpo => {
                let mut dpo = json!(c.dpo);
                // How many rounds there are does not decide what one of them makes.
                if let Some(settings) = dpo.as_object_mut() {
                    settings.retain(|key, _| key != "rounds");
                }
                json!([dpo, c.sft.lora, c.seed])
            }
            Stage::Evaluate => json!(c.evaluation),
        };
        Ok(json!([own, c.device, c.chat_template]))
    }

    /// The files that `step` reads.
    pub fn inputs(&self, step: Step) -> Result<Vec<PathBuf>> {
        let data = |name: &str| self.folder(Stage::Data).join(name);
        let in_critique = |name: &str| self.folder(Stage::Critique).join(name);
        let mut paths = Vec::new();
        if !matches!(step.stage, Stage::Data | Stage::Classifier) {
            paths.extend(model_files(&self.base)?);
            if let Some(dir) = &self.config.tokenizer {
                paths.extend(model_files(dir)?);
            }
            if let Some(TemplateChoice::File(path)) = &self.config.chat_template {
                paths.push(path.clone());
            }
        }
        match step.stage {
            Stage::Data => paths.extend(data::inputs(self.config)?),
            Stage::Classifier => match &self.config.classifier {
                ClassifierStage::Train(_) => paths.push(data("labelled.jsonl")),
                ClassifierStage::From(dir) => paths.extend(safety_classifier::files(dir)?),
            },
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
                match step.round {
                    1 => paths.extend(self.chat_files(&self.config.models.policy)?),
                    round => paths.extend(files_of(self.dpo_start(round))),
                }
                paths.extend(self.chat_files(&self.config.models.judge)?);
            }
            Stage::Dpo => {
                let file = |&source: &PairSource| self.pair_file(source, step.round);
                paths.extend(self.config.dpo.pairs.iter().map(file));
                paths.extend(files_of(self.dpo_start(step.round)));
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
        files_of(self.adapter(start))
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
            Choice::Stage(start) => Ok(Box::new(self.load(self.adapter(start))?)),
            Choice::Local(model, adapter) => {
                models::local(&model, adapter.as_deref(), &self.device)
            }
            Choice::Server(url, model) => models::remote(&url, &model, &self.config.server),
        }
    }

    fn classifier_files(&self) -> Vec<PathBuf> {
        let [config, calibration] = ["config.json", "calibration.json"];
        let names = [config, "model.safetensors", "tokenizer.json", calibration, ORIGIN];
        names.map(|name| self.folder(Stage::Classifier).join(name)).to_vec()
    }

    /// The pairs of a round of DPO: only those of AI feedback are new in each.
    fn pair_file(&self, source: PairSource, round: usize) -> PathBuf {
        match source {
            PairSource::Feedback => {
                self.folder(Step { stage: Stage::Feedback, round }).join(FEEDBACK_PAIRS)
            }
            PairSource::Revision => self.folder(Stage::Critique).join(REVISION_PAIRS),
            PairSource::Human => self.folder(Stage::Data).join("pairs.jsonl"),
        }
    }

    /// The models that are compared: the base and one for each step that trains.
    pub fn models(&self) -> Vec<ModelSpec> {
        let trained = |step: &Step| matches!(step.stage, Stage::Sft | Stage::SlCai | Stage::Dpo);
        let steps = Step::all(self.config.dpo.rounds).into_iter().filter(trained);
        let adapted = steps.filter(|step| !self.skips(step.stage)).map(|step| {
            let name = step.to_string().replace('_', "-");
            self.model(&name, Some(self.folder(step).join(ADAPTER)))
        });
        std::iter::once(self.model("base", None)).chain(adapted).collect()
    }

    /// The base, with an adapter or bare.
    pub fn model(&self, name: &str, adapter: Option<PathBuf>) -> ModelSpec {
        ModelSpec {
            adapter,
            tokenizer: self.config.tokenizer.clone(),
            chat_template: self.config.chat_template.clone(),
            ..ModelSpec::base(name, self.base.clone())
        }
    }

    fn load(&self, adapter: Option<PathBuf>) -> Result<LanguageModel> {
        let options = LoadOptions { adapter, ..self.config.load_options() };
        Ok(LanguageModel::load_with(&self.base, &options, &self.device)?)
    }

    /// A model with an adapter to train: `adapter`, or a fresh one.
    fn trainable(
        &self,
        adapter: Option<PathBuf>,
        fresh: &cai_model::lora::LoraConfig,
    ) -> Result<LanguageModel> {
        let goes_on = adapter.is_some();
        let model = self.load(adapter)?;
        Ok(match goes_on {
            true => model.train_adapter()?,
            false => model.add_adapter(fresh, Seed(self.config.seed).derive("adapter"))?,
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
    if dir.is_file() {
        return Ok(vec![dir.into()]);
    }
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

fn files_of(adapter: Option<PathBuf>) -> Vec<PathBuf> {
    adapter.iter().flat_map(|dir| adapter_files(dir)).collect()
}

fn adapter_files(dir: &Path) -> [PathBuf; 2] {
    use cai_model::lora::{ADAPTER_CONFIG, ADAPTER_WEIGHTS};
    [dir.join(ADAPTER_CONFIG), dir.join(ADAPTER_WEIGHTS)]
}

/// Does the work of `step` and says in a line what came of it.
///
/// # Errors
///
/// Those of the stage.
pub fn run(run: &Run, step: Step) -> Result<String> {
    match step.stage {
        Stage::Data => data::run(run.config, &run.partial(step)),
        Stage::Classifier => classifier(run),
        Stage::Sft => sft(run),
        Stage::Critique => critique(run),
        Stage::SlCai => sl_cai(run),
        Stage::Feedback => feedback(run, step),
        Stage::Dpo => dpo(run, step),
        Stage::Evaluate => evaluate(run),
    }
}

fn classifier(run: &Run) -> Result<String> {
    let config = match &run.config.classifier {
        ClassifierStage::Train(config) => config,
        ClassifierStage::From(dir) => return take_classifier(run, dir),
    };
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

/// Copies a trained classifier into the run, with a note of where it comes from, so that the run is
/// whole without the folder.
fn take_classifier(run: &Run, from: &Path) -> Result<String> {
    let dir = run.partial(Stage::Classifier);
    let mut hashes = BTreeMap::new();
    for path in safety_classifier::files(from)? {
        let name = path.strip_prefix(from)?;
        let copy = dir.join(name);
        let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
        std::fs::create_dir_all(copy.parent().unwrap_or(&dir))?;
        atomic::write(&copy, &bytes)?;
        hashes.insert(name.display().to_string(), hash::bytes(&bytes));
    }
    let classifier = SafetyClassifier::load(&dir, &run.device)?;
    let origin = json!({"from": from, "labels": classifier.labels(), "sha256": hashes});
    atomic::write_json(&dir.join(ORIGIN), &origin)?;
    Ok(format!("not trained here: that of {}", from.display()))
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
    let model = run.trainable(run.adapter(start), &config.lora)?;
    let dir = run.partial(stage);
    let (_, report) = helpful_sft::run(model, conversations, config, &dir, stage.name())?;
    loss_chart(stage.into(), &report.log_history, &dir, None)?;
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
    Ok(format!(
        "{} prompts ({}), mean harm by round {}; answers not used: {}; revisions not used: {}; \
         repaired: {}",
        report.n,
        counted(&report.outcomes),
        harm.join(" → "),
        counted(&report.initial_cleaning),
        counted(&report.cleaning),
        counted(&sum(&report.initial_repairs, &report.repairs)),
    ))
}

/// Two counts together.
fn sum(a: &BTreeMap<String, usize>, b: &BTreeMap<String, usize>) -> BTreeMap<String, usize> {
    let mut all = a.clone();
    b.iter().for_each(|(name, n)| *all.entry(name.clone()).or_default() += n);
    all
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

/// Of the policy's samples: that of `models.policy`, later the policy of the round before.
fn feedback(run: &Run, step: Step) -> Result<String> {
    let judge = run.chat(&run.config.models.judge)?;
    let policy: Box<dyn ChatModel> = match step.round {
        1 => run.chat(&run.config.models.policy)?,
        round => Box::new(run.load(run.dpo_start(round))?),
    };
    let mut prompts: Vec<CritiquePrompt> = Vec::new();
    for name in ["red_team.jsonl", "harmless.jsonl"] {
        prompts.extend(jsonl::read::<CritiquePrompt>(&run.folder(Stage::Data).join(name))?);
    }
    let dir = run.partial(step);
    let report = critique_revision::run_feedback(
        &*policy,
        &*judge,
        &run.constitution()?,
        &prompts,
        &run.feedback_config(step.round),
        &dir,
    )?;
    Ok(format!(
        "{} prompts, {} pairs; comparisons without a pair: {}; samples not used: {}; repaired: {}",
        prompts.len(),
        report.pairs,
        counted(&report.dropped),
        counted(&report.sample_cleaning),
        counted(&report.sample_repairs),
    ))
}

fn dpo(run: &Run, step: Step) -> Result<String> {
    let config = &run.config.dpo;
    let mut pairs: Vec<PreferencePair> = Vec::new();
    for &source in &config.pairs {
        pairs.extend(jsonl::read::<PreferencePair>(&run.pair_file(source, step.round))?);
    }
    let train = &config.dpo.train;
    let one_step = train.per_device_train_batch_size * train.gradient_accumulation_steps;
    if pairs.is_empty() {
        bail!("no pair to train on: {}", few_pairs(run, step.round)?);
    }
    if pairs.len() < one_step {
        let (have, why) = (pairs.len(), few_pairs(run, step.round)?);
        tracing::warn!("{have} pairs do not fill one step of {one_step}: {why}");
    }
    let model = run.trainable(run.dpo_start(step.round), &run.config.sft.lora)?;
    let dir = run.partial(step);
    let (_, report) = dpo_trainer::run(model, &pairs, &config.dpo, &dir, &step.to_string())?;
    loss_chart(step, &report.log_history, &dir, Some((std::f64::consts::LN_2, "ln 2")))?;
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

/// What became of the records that pairs are made of, source by source.
fn few_pairs(run: &Run, round: usize) -> Result<String> {
    let of_source = |&source: &PairSource| -> Result<String> {
        let path = run.pair_file(source, round);
        let folder = path.parent().unwrap_or(run.dir);
        Ok(match source {
            PairSource::Feedback => {
                let records: Vec<FeedbackRecord> = jsonl::read(&folder.join(FEEDBACK))?;
                shortfall::of_feedback(&records, &run.feedback_config(round))
            }
            PairSource::Revision => {
                let records: Vec<CritiqueRecord> = jsonl::read(&folder.join(CRITIQUES))?;
                shortfall::of_critiques(&records)
            }
            PairSource::Human => "data.files.pairs: see data/report.json".into(),
        })
    };
    let reasons = run.config.dpo.pairs.iter().map(of_source).collect::<Result<Vec<_>>>()?;
    Ok(reasons.join("; "))
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
    step: Step,
    history: &[LogEntry],
    dir: &Path,
    reference: Option<(f64, &str)>,
) -> Result<()> {
    let curve = |name: &str, metric: &str| {
        let value = |entry: &LogEntry| Some((entry.step as f64, *entry.metrics.get(metric)?));
        (name.to_string(), history.iter().filter_map(value).collect::<Vec<_>>())
    };
    let series = [curve("training", "loss"), curve("held out", "eval_loss")];
    let title = format!("{step}: loss");
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
