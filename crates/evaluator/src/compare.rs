//! From replies to results: scores every reply, and compares the models.

use std::collections::{BTreeMap, HashSet};

use cai_data::hash;
use cai_data::record::{EvalPrompt, PromptCategory};

use crate::agreement::agreement;
use crate::config::EvaluatorConfig;
use crate::data::{ModelReplies, check_names, check_prompts, clusters, request};
use crate::error::{Error, Result};
use crate::fairness;
use crate::judge::{HarmScorer, Judge};
use crate::results::{
    Difference, Evaluation, Flaws, Measure, ModelResult, PromptCounts, ReplyRecord, Results,
};
use crate::scores::{Flaw, score};
use crate::stats::{self, Estimate};

/// Scores the replies of all models to the same prompts and compares them.
///
/// # Errors
/// [`Error::Config`] and [`Error::Input`] for settings, prompts, names or numbers of replies that
/// do not fit; [`Error::Scorer`] from the scorer, also when it gives no probabilities.
pub fn evaluate(
    prompts: &[EvalPrompt],
    models: &[ModelReplies],
    scorer: &dyn HarmScorer,
    judge: Option<&dyn Judge>,
    config: &EvaluatorConfig,
) -> Result<Evaluation> {
    config.validate()?;
    check_prompts(prompts, "evaluation prompts")?;
    check_names(models.iter().map(|model| model.name.as_str()))?;
    let mut replies = Vec::with_capacity(prompts.len() * models.len());
    for model in models {
        replies.extend(score_model(prompts, model, scorer, judge, config)?);
    }

    let by_model: Vec<Vec<&ReplyRecord>> =
        replies.chunks(prompts.len()).map(|of_model| of_model.iter().collect()).collect();
    let clusters = clusters(prompts);
    let results: Vec<ModelResult> = models
        .iter()
        .zip(&by_model)
        .map(|(model, replies)| summarise(model, replies, &clusters, config))
        .collect();
    let differences = differences(models, &by_model, &clusters, config);
    let agreement = agreement(&results, &replies, &differences);
    let results = Results {
        prompts: count(prompts),
        prompts_sha256: fingerprint(prompts)?,
        scorer_fingerprint: scorer.fingerprint(),
        settings: config.clone(),
        models: results,
        differences,
        agreement,
    };
    Ok(Evaluation { results, replies })
}

/// The hash of everything that the prompts say.
pub(crate) fn fingerprint(prompts: &[EvalPrompt]) -> Result<String> {
    let json = serde_json::to_vec(prompts)
        .map_err(|error| Error::input("evaluation prompts", error.to_string()))?;
    Ok(hash::bytes(&json))
}

fn score_model(
    prompts: &[EvalPrompt],
    model: &ModelReplies,
    scorer: &dyn HarmScorer,
    judge: Option<&dyn Judge>,
    config: &EvaluatorConfig,
) -> Result<Vec<ReplyRecord>> {
    if model.replies.len() != prompts.len() {
        let reason = format!(
            "has {} replies to {} prompts; give one reply per prompt, in their order",
            model.replies.len(),
            prompts.len()
        );
        return Err(Error::input(format!("model \"{}\"", model.name), reason));
    }
    let texts: Vec<(String, String)> = prompts
        .iter()
        .zip(&model.replies)
        .map(|(prompt, reply)| (request(prompt).to_owned(), reply.text.clone()))
        .collect();
    let harm = scorer.harm(&texts)?;
    if harm.len() != texts.len() {
        let reason = format!("gave {} probabilities for {} replies", harm.len(), texts.len());
        return Err(Error::Scorer(reason));
    }
    if let Some((i, p)) = harm.iter().enumerate().find(|(_, p)| !(0.0..=1.0).contains(*p)) {
        let reason = format!(
            "gave {p} as a probability, for the reply of {} to prompt \"{}\"; \
             check the classifier's folder, or train it again",
            model.name, prompts[i].id
        );
        return Err(Error::Scorer(reason));
    }
    let record = |((prompt, reply), harm): ((&EvalPrompt, &crate::data::Reply), f64)| ReplyRecord {
        id: prompt.id.clone(),
        category: prompt.category,
        topic: prompt.topic.clone(),
        group: prompt.group.clone(),
        request: request(prompt).to_owned(),
        reference: prompt.reference.clone(),
        model: model.name.clone(),
        reply: reply.text.clone(),
        finish: reply.finish,
        score: score(prompt, reply, harm, config),
        judge: judge.and_then(|judge| judge.verdict(prompt, &reply.text)),
    };
    Ok(prompts.iter().zip(&model.replies).zip(harm).map(record).collect())
}

fn summarise(
    model: &ModelReplies,
    replies: &[&ReplyRecord],
    clusters: &[usize],
    config: &EvaluatorConfig,
) -> ModelResult {
    let mut measures: BTreeMap<Measure, Estimate> = BTreeMap::new();
    for measure in Measure::ALL {
        let values = values(measure, replies);
        if let Some(mean) = stats::mean(&values, clusters, &config.bootstrap(measure.key())) {
            measures.insert(measure, mean);
        }
    }
    let fairness = fairness::measure(replies, clusters, config).map(|(estimate, fairness)| {
        measures.insert(Measure::Fairness, estimate);
        fairness
    });
    let flawed = |flaw| replies.iter().filter(|reply| reply.score.flaw == Some(flaw)).count();
    let unanswered =
        |reply: &&&ReplyRecord| reply.score.refused && reply.category != PromptCategory::Harmful;
    ModelResult {
        name: model.name.clone(),
        kind: model.kind,
        fingerprint: model.fingerprint.clone(),
        measures,
        flaws: Flaws {
            empty: flawed(Flaw::Empty),
            repetitive: flawed(Flaw::Repetitive),
            truncated: flawed(Flaw::Truncated),
        },
        unanswered: replies.iter().filter(unanswered).count(),
        fairness,
    }
}

/// Every later model minus every earlier one, on every measure that both have.
fn differences(
    models: &[ModelReplies],
    by_model: &[Vec<&ReplyRecord>],
    clusters: &[usize],
    config: &EvaluatorConfig,
) -> Vec<Difference> {
    let mut differences = Vec::new();
    for later in 0..models.len() {
        for earlier in 0..later {
            let (a, b) = (&by_model[later], &by_model[earlier]);
            for measure in Measure::ALL {
                let estimate = if measure == Measure::Fairness {
                    fairness::difference(a, b, clusters, config)
                } else {
                    let (a, b) = (values(measure, a), values(measure, b));
                    stats::difference(&a, &b, clusters, &config.bootstrap(measure.key()))
                };
                differences.extend(estimate.map(|estimate| Difference {
                    measure,
                    model: models[later].name.clone(),
                    minus: models[earlier].name.clone(),
                    estimate,
                }));
            }
        }
    }
    differences
}

fn values(measure: Measure, replies: &[&ReplyRecord]) -> Vec<Option<f64>> {
    replies.iter().map(|reply| measure.of(reply)).collect()
}

fn count(prompts: &[EvalPrompt]) -> PromptCounts {
    let of = |category| prompts.iter().filter(|prompt| prompt.category == category).count();
    let topics: HashSet<&str> = prompts.iter().filter_map(|p| p.topic.as_deref()).collect();
    let scored = |p: &&EvalPrompt| p.category != PromptCategory::Harmful && p.reference.is_some();
    PromptCounts {
        total: prompts.len(),
        harmful: of(PromptCategory::Harmful),
        borderline: of(PromptCategory::Borderline),
        harmless: of(PromptCategory::Harmless),
        topics: topics.len(),
        with_reference: prompts.iter().filter(scored).count(),
        with_group: prompts.iter().filter(|prompt| prompt.group.is_some()).count(),
    }
}
