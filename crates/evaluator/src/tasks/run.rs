//! Asks models for the log-probabilities of choices, task by task.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::Device;
use cai_data::hh;
use cai_data::record::Message;
use cai_model::model::LanguageModel;
use cai_model::score::score_groups;
use cai_model::tokenizer::Example;
use cai_train::{Progress, Verbosity, interrupt};

use super::items::Item;
use super::metrics::ChoiceScores;
use super::results::{ModelScores, TaskDifference, TaskResult, TaskResults, VERSION};
use super::spec::{Form, Metric, MultipleChoice};
use crate::cache::Cache;
use crate::config::EvaluatorConfig;
use crate::data::{ModelSpec, check_names, numbered};
use crate::error::{Error, Result};
use crate::run::{Bases, short_hash};
use crate::stats;

/// Models that differ on fewer questions have no interval of their difference: resampling a handful of
/// questions that happen to point one way would exclude 0.
const FEW: usize = 10;

/// A multiple-choice task, ready to run.
pub struct Task {
    /// Its name.
    pub name: String,
    /// What it measures.
    pub description: String,
    /// The hash of its files.
    pub sha256: String,
    /// How it asks.
    pub choice: MultipleChoice,
    /// Its questions.
    pub items: Vec<Item>,
}

/// Runs all tasks on all models, each loaded once. Log-probabilities are kept in
/// `folder/TASK/MODEL.jsonl` as they are made: run again, and only metrics are made anew.
///
/// `config` gives batch size, quantisation, seed and intervals, and `max_prompts` the number of
/// questions of each task, spread evenly over the file.
///
/// # Errors
/// [`Error::Model`] when a model cannot be loaded or gives no numbers, [`Error::Interrupted`] after a
/// request to stop.
pub fn run(
    mut tasks: Vec<Task>,
    models: &[ModelSpec],
    config: &EvaluatorConfig,
    device: &Device,
    folder: &Path,
) -> Result<TaskResults> {
    config.validate()?;
    check_names(models.iter().map(|model| model.name.as_str()))?;
    check_names(tasks.iter().map(|task| task.name.as_str()))?;
    for task in &mut tasks {
        thin(&mut task.items, config.max_prompts);
    }
    let mut bases = Bases::default();
    let mut scores: Vec<Vec<Vec<ChoiceScores>>> = vec![Vec::new(); tasks.len()];
    for spec in models {
        let model = bases.model(spec, config, device)?;
        for (task, scores) in tasks.iter().zip(&mut scores) {
            scores.push(score(task, &spec.name, &model, config, folder)?);
        }
    }
    let names: Vec<&str> = models.iter().map(|model| model.name.as_str()).collect();
    let results = tasks.iter().zip(&scores);
    Ok(TaskResults {
        version: VERSION,
        settings: config.clone(),
        tasks: results.map(|(task, scores)| summarise(task, &names, scores, config)).collect(),
    })
}

/// Keeps `most` items, spread evenly.
fn thin(items: &mut Vec<Item>, most: Option<usize>) {
    let total = items.len();
    let wanted = most.unwrap_or(total).min(total);
    let kept: Vec<usize> = (0..wanted).map(|i| i * total / wanted).collect();
    let mut i = 0;
    items.retain(|_| {
        i += 1;
        kept.binary_search(&(i - 1)).is_ok()
    });
}

/// One model's log-probabilities of all items of a task, in the items' order.
fn score(
    task: &Task,
    name: &str,
    model: &LanguageModel,
    config: &EvaluatorConfig,
    folder: &Path,
) -> Result<Vec<ChoiceScores>> {
    let examples = task
        .items
        .iter()
        .map(|item| examples(item, &task.choice, model))
        .collect::<Result<Vec<_>>>()?;
    // Items of similar length share a batch; ones that are too long come last and are not asked.
    let longest = |i: &usize| examples[*i].iter().map(|e| e.ids.len()).max().unwrap_or(0);
    let mut order: Vec<usize> = (0..examples.len()).collect();
    order.sort_by_key(longest);
    let context = model.spec.max_position_embeddings;
    order.truncate(order.partition_point(|i| longest(i) <= context));

    let texts: Vec<(&str, &[String])> =
        task.items.iter().map(|item| (item.prompt.as_str(), item.choices.as_slice())).collect();
    let source = short_hash(&serde_json::json!({
        "model": model.fingerprint,
        "texts": texts,
        "form": task.choice.form,
        "separator": task.choice.separator,
        "batch_size": config.batch_size,
        "quantize": config.quantize,
    }));
    let cache =
        Cache::<ChoiceScores>::new(folder.join(&task.name).join(format!("{name}.jsonl")), &source);
    let ids: Vec<&str> = order.iter().map(|i| task.items[*i].id.as_str()).collect();
    let mut made = cache.finished(&ids, config.batch_size)?;
    let label = format!("{} of {name}", task.name);
    let mut progress = Progress::new(&label, order.len() as u64, Verbosity::Auto);
    progress.resume_at(made.len() as u64);
    while made.len() < order.len() {
        if interrupt::requested() {
            return Err(Error::Interrupted);
        }
        let (begin, end) = (made.len(), order.len().min(made.len() + config.batch_size));
        let groups: Vec<&[Example]> =
            order[begin..end].iter().map(|i| examples[*i].as_slice()).collect();
        let on_done = &mut |done: usize| progress.advance(done as u64);
        let scored =
            score_groups(model, &groups, config.batch_size, on_done).map_err(Error::model(name))?;
        let mut scored = scored.into_iter();
        let block: Vec<ChoiceScores> = groups
            .iter()
            .map(|group| {
                let (logprobs, tokens) =
                    scored.by_ref().take(group.len()).map(|s| (s.logprob, s.tokens)).unzip();
                ChoiceScores { logprobs, tokens }
            })
            .collect();
        let number = |scores: &ChoiceScores| scores.logprobs.iter().all(|l| l.is_finite());
        if let Some(i) = block.iter().position(|scores| !number(scores)) {
            let reason = format!(
                "gives a log-probability that is no number for record {} of task {}; check its weights",
                ids[begin + i],
                task.name
            );
            return Err(Error::input(format!("model \"{name}\""), reason));
        }
        cache.append(&ids[begin..end], &block)?;
        made.extend(block);
    }
    progress.finish("");
    let mut scores =
        vec![ChoiceScores { logprobs: Vec::new(), tokens: Vec::new() }; examples.len()];
    order.into_iter().zip(made).for_each(|(i, made)| scores[i] = made);
    Ok(scores)
}

/// An item's choices as tokens.
fn examples(item: &Item, choice: &MultipleChoice, model: &LanguageModel) -> Result<Vec<Example>> {
    let tokenizer = &model.tokenizer;
    let one = |text: &String| match choice.form {
        Form::Text => {
            tokenizer.text_completion(&item.prompt, &format!("{}{text}", choice.separator))
        }
        Form::Chat => tokenizer
            .completion(&[Message::user(item.prompt.trim())], &[Message::assistant(text.trim())]),
        Form::Transcript => {
            let mut turns = hh::turns(text).unwrap_or_default();
            turns.iter_mut().for_each(|turn| turn.content = turn.content.trim().to_owned());
            let last = turns.len().saturating_sub(1);
            let (before, last) = turns.split_at(last);
            tokenizer.completion(before, last)
        }
    };
    item.choices
        .iter()
        .map(one)
        .collect::<cai_model::Result<_>>()
        .map_err(|error| Error::input(format!("record {}", item.id), error.to_string()))
}

/// All metrics of a task, over the items that every model could read.
fn summarise(
    task: &Task,
    names: &[&str],
    scores: &[Vec<ChoiceScores>],
    config: &EvaluatorConfig,
) -> TaskResult {
    let fits = |i: &usize| scores.iter().all(|of_model| !of_model[*i].logprobs.is_empty());
    let kept: Vec<usize> = (0..task.items.len()).filter(fits).collect();
    let clusters = numbered(kept.iter().map(|i| task.items[*i].cluster.as_deref()));
    let values = |metric: Metric, model: usize, group: Option<&str>| -> Vec<Option<f64>> {
        let of = |i: &usize| {
            let item = &task.items[*i];
            let counts = group.is_none_or(|group| item.group.as_deref() == Some(group));
            let scores = &scores[model][*i];
            counts.then(|| metric.of(item, scores, task.choice.normalise)).flatten()
        };
        kept.iter().map(of).collect()
    };
    let bootstrap = |metric: Metric| config.bootstrap(&format!("{}/{}", task.name, metric.key()));
    let metrics = |model: usize, group: Option<&str>| -> BTreeMap<Metric, stats::Estimate> {
        let mean = |metric: &Metric| {
            let values = values(*metric, model, group);
            Some((*metric, stats::mean(&values, &clusters, &bootstrap(*metric))?))
        };
        task.choice.metrics.iter().filter_map(mean).collect()
    };
    let mut groups: Vec<&str> =
        kept.iter().filter_map(|i| task.items[*i].group.as_deref()).collect();
    groups.sort_unstable();
    groups.dedup();
    let models = (0..names.len())
        .map(|model| ModelScores {
            model: names[model].to_owned(),
            metrics: metrics(model, None),
            groups: groups.iter().map(|g| ((*g).to_owned(), metrics(model, Some(g)))).collect(),
        })
        .collect();
    let mut differences = Vec::new();
    for later in 0..names.len() {
        for earlier in 0..later {
            for metric in &task.choice.metrics {
                let (a, b) = (values(*metric, later, None), values(*metric, earlier, None));
                let estimate = stats::difference(&a, &b, &clusters, &bootstrap(*metric));
                let differ = a.iter().zip(&b).filter(|(a, b)| a != b).count();
                differences.extend(estimate.map(|mut estimate| {
                    if differ < FEW {
                        (estimate.low, estimate.high) = (None, None);
                    }
                    let [model, minus] = [later, earlier].map(|i| names[i].to_owned());
                    TaskDifference { metric: *metric, model, minus, differ, estimate }
                }));
            }
        }
    }
    let chance = |metric: &Metric| {
        let all: f64 = kept.iter().map(|i| metric.by_chance(&task.items[*i])).sum();
        (*metric, all / kept.len().max(1) as f64)
    };
    TaskResult {
        task: task.name.clone(),
        description: task.description.clone(),
        data_sha256: task.sha256.clone(),
        items: kept.len(),
        too_long: task.items.len() - kept.len(),
        chance: task.choice.metrics.iter().map(chance).collect(),
        models,
        differences,
    }
}
