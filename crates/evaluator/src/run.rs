//! Everything that needs a model: replies, block by block, and the classifier as harm scorer.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use cai_data::record::{Conversation, EvalPrompt};
use cai_data::seed::Seed;
use cai_data::{hash, jsonl};
use cai_model::generate::{self, SamplingConfig};
use cai_model::model::LanguageModel;
use cai_train::{LogEntry, Progress, Verbosity, interrupt};
use safety_classifier::SafetyClassifier;

use crate::baseline::NearestPrompt;
use crate::cache::Cache;
use crate::compare::{evaluate, fingerprint};
use crate::config::EvaluatorConfig;
use crate::data::{
    Finish, Kind, ModelReplies, ModelSpec, Reply, check_names, check_prompts, repeat,
};
use crate::error::{Error, Result};
use crate::judge::{HarmScorer, Judge};
use crate::judges::{self, Judged, Judges, LmJudge};
use crate::report;
use crate::results::Evaluation;

/// The baseline's name in the comparison.
pub const BASELINE: &str = "nearest-prompt";

/// Evaluates models side by side: generates their replies, scores and compares them, and writes
/// all files into `folder`. Returns the evaluation and the report's path.
///
/// `lm`, if given, judges all replies too; its answers are kept in the folder. `training`, if given, adds the baseline that answers with the reply of the nearest training
/// prompt. A killed run goes on where it was when it is started again.
///
/// # Errors
/// As [`respond`], [`evaluate`] and [`report::write`].
pub fn run(
    prompts: &[EvalPrompt],
    models: &[ModelSpec],
    training: Option<&[Conversation]>,
    scorer: &dyn HarmScorer,
    judge: Option<&dyn Judge>,
    lm: Option<&LmJudge>,
    config: &EvaluatorConfig,
    device: &Device,
    folder: &Path,
) -> Result<(Evaluation, PathBuf)> {
    config.validate()?;
    check_prompts(prompts, "evaluation prompts")?;
    let prompts = &repeat(prompts, config.samples);
    let baseline = training.map(NearestPrompt::new).transpose()?;
    let names = models.iter().map(|model| model.name.as_str());
    check_names(names.chain(baseline.is_some().then_some(BASELINE)))?;

    let mut replies = respond_all(models, prompts, config, device, folder)?;
    replies.extend(baseline.map(|baseline| baseline.replies(BASELINE, prompts)));
    let mut evaluation = evaluate(prompts, &replies, scorer, judge, config)?;
    if let Some(lm) = lm {
        evaluation.results.judges = Some(judges_with(lm, &evaluation, prompts, config, folder)?);
    }
    evaluation.training = models.iter().filter_map(training_curve).collect();
    let path = report::write(&evaluation, folder)?;
    Ok((evaluation, path))
}

/// The losses of the run that trained a model's adapter, if its log lies beside it.
fn training_curve(spec: &ModelSpec) -> Option<(String, Vec<(f64, f64)>)> {
    let log = spec.adapter.as_ref()?.parent()?.join("metrics.jsonl");
    let entries: Vec<LogEntry> = jsonl::read(&log).ok()?;
    let loss = |entry: &LogEntry| Some((entry.step as f64, *entry.metrics.get("loss")?));
    Some((spec.name.clone(), entries.iter().filter_map(loss).collect()))
}

/// What all judges say, the language model among them.
fn judges_with(
    lm: &LmJudge,
    evaluation: &Evaluation,
    prompts: &[EvalPrompt],
    config: &EvaluatorConfig,
    folder: &Path,
) -> Result<Judges> {
    let answered: Vec<Judged> = prompts
        .iter()
        .cycle()
        .zip(&evaluation.replies)
        .map(|(prompt, reply)| Judged { prompt: &prompt.prompt, reply: &reply.reply })
        .collect();
    let ratings = lm.rate(&answered, folder)?;
    let comparisons = judges::comparisons(evaluation, prompts, lm, folder)?;
    let ratings = Some((lm, ratings));
    Ok(judges::of_replies(&evaluation.replies, prompts, ratings, comparisons, config))
}

/// The replies of all models to the same prompts; see [`respond`]. Models whose adapters are on one base
/// share it.
///
/// # Errors
/// [`Error::Model`] when a model cannot be loaded, and as [`respond`].
pub fn respond_all(
    models: &[ModelSpec],
    prompts: &[EvalPrompt],
    config: &EvaluatorConfig,
    device: &Device,
    folder: &Path,
) -> Result<Vec<ModelReplies>> {
    let mut bases = Bases::default();
    let mut replies = Vec::with_capacity(models.len());
    for spec in models {
        let model = bases.model(spec, config, device)?;
        replies.push(respond(&spec.name, &model, prompts, config, folder)?);
    }
    Ok(replies)
}

/// The base that was loaded last: models that differ by their adapter share its weights.
#[derive(Default)]
pub(crate) struct Bases(Option<(ModelSpec, LanguageModel)>);

impl Bases {
    pub(crate) fn model(
        &mut self,
        spec: &ModelSpec,
        config: &EvaluatorConfig,
        device: &Device,
    ) -> Result<LanguageModel> {
        let base = match self.0.take().filter(|(loaded, _)| loaded.shares_base(spec)) {
            Some((_, base)) => base,
            None => LanguageModel::load_with(&spec.dir, &spec.options(config.quantize), device)
                .map_err(Error::model(&spec.name))?,
        };
        self.0 = Some((spec.clone(), base.clone()));
        match &spec.adapter {
            Some(adapter) => base.with_adapter(adapter).map_err(Error::model(&spec.name)),
            None => Ok(base),
        }
    }
}

/// One model's replies to all prompts, kept in `folder/responses/NAME.jsonl` as they are made.
///
/// # Errors
/// [`Error::Model`] when a prompt does not fit the model, [`Error::Data`]
/// when replies cannot be kept, [`Error::Interrupted`] after a request to stop.
pub fn respond(
    name: &str,
    model: &LanguageModel,
    prompts: &[EvalPrompt],
    config: &EvaluatorConfig,
    folder: &Path,
) -> Result<ModelReplies> {
    let sampling = SamplingConfig {
        max_new_tokens: config.max_new_tokens,
        temperature: config.temperature,
        top_k: config.top_k,
        top_p: config.top_p,
        ..SamplingConfig::default()
    };
    let source = source(model, prompts, &sampling, config)?;
    let path = folder.join("responses").join(format!("{name}.jsonl"));
    let cache = Cache::<Reply>::new(path, &source);
    let ids: Vec<&str> = prompts.iter().map(|prompt| prompt.id.as_str()).collect();
    let mut replies = cache.finished(&ids, config.batch_size)?;

    let total = prompts.len() as u64;
    let mut progress = Progress::new(&format!("replies of {name}"), total, Verbosity::Auto);
    progress.resume_at(replies.len() as u64);
    while replies.len() < prompts.len() {
        if interrupt::requested() {
            return Err(Error::Interrupted);
        }
        let end = prompts.len().min(replies.len() + config.batch_size);
        let begin = replies.len();
        let block = &prompts[begin..end];
        let made = reply_to_block(model, block, &sampling, config, &mut progress)
            .map_err(Error::model(name))?;
        cache.append(&ids[begin..end], &made)?;
        replies.extend(made);
    }
    progress.finish("");
    Ok(ModelReplies {
        name: name.to_owned(),
        kind: Kind::Model,
        fingerprint: model.fingerprint.clone(),
        replies,
    })
}

/// Names everything that decides the replies.
fn source(
    model: &LanguageModel,
    prompts: &[EvalPrompt],
    sampling: &SamplingConfig,
    config: &EvaluatorConfig,
) -> Result<String> {
    let parts = serde_json::json!({
        "model": model.fingerprint,
        "prompts": fingerprint(prompts)?,
        "sampling": sampling,
        "seed": config.seed,
        "batch_size": config.batch_size,
    });
    Ok(short_hash(&parts))
}

/// A name for what decides the values of a cache.
pub(crate) fn short_hash(parts: &serde_json::Value) -> String {
    let mut source = hash::bytes(parts.to_string().as_bytes());
    source.truncate(16);
    source
}

fn reply_to_block(
    model: &LanguageModel,
    block: &[EvalPrompt],
    sampling: &SamplingConfig,
    config: &EvaluatorConfig,
    progress: &mut Progress,
) -> cai_model::Result<Vec<Reply>> {
    let ids = block
        .iter()
        .map(|prompt| model.tokenizer.prompt(&prompt.prompt))
        .collect::<cai_model::Result<Vec<_>>>()?;
    // By id: a prompt gets the same draws from every model and in every selection of prompts.
    let seed = Seed(config.seed).derive("replies");
    let seeds: Vec<Seed> = block.iter().map(|prompt| seed.derive(&prompt.id)).collect();
    let generations =
        generate::generate(model, &ids, sampling, &seeds, config.batch_size, &mut |finished| {
            progress.advance(finished as u64)
        })?;
    let reply = |generation: generate::Generation| Reply {
        text: generation.text,
        finish: match generation.finish {
            generate::Finish::Stop | generate::Finish::StopString => Finish::Stop,
            generate::Finish::Length => Finish::Length,
        },
    };
    Ok(generations.into_iter().map(reply).collect())
}

/// The classifier judges the reply alone: a refusal must not be blamed for the request's words.
impl HarmScorer for SafetyClassifier {
    fn harm(&self, texts: &[(String, String)]) -> Result<Vec<f64>> {
        let replies: Vec<&str> = texts.iter().map(|(_, reply)| reply.as_str()).collect();
        let predictions =
            self.predict(&replies).map_err(|error| Error::Scorer(error.to_string()))?;
        let cut = predictions.iter().filter(|prediction| prediction.truncated).count();
        if cut > 0 {
            tracing::warn!(
                "{cut} of {} replies are longer than the classifier reads; their ends were not \
                 judged",
                replies.len()
            );
        }
        Ok(predictions.into_iter().map(|prediction| prediction.harm).collect())
    }

    fn fingerprint(&self) -> Option<String> {
        Some(SafetyClassifier::fingerprint(self).to_owned())
    }
}
