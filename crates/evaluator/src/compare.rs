//! From replies to results: scores every reply, and compares the models.

use std::collections::{BTreeMap, HashSet};

use cai_data::hash;
use cai_data::record::{EvalPrompt, PromptCategory};

use crate::agreement::agreement;
use crate::config::EvaluatorConfig;
use crate::data::{Finish, ModelReplies, Reply, check_names, check_prompts, clusters, request};
use crate::error::{Error, Result};
use crate::fairness;
use crate::judge::{HarmScorer, Judge};
use crate::judges;
use crate::paired::{self, Zeros};
use crate::rating;
use crate::results::{
    Difference, Evaluation, Flaws, Measure, ModelResult, PairTests, PromptCounts, ReplyRecord,
    Results, VERSION,
};
use crate::scores::{Flaw, score};
use crate::stats::{self, Estimate};

/// Fewer topics than this carry no interval worth the name.
const FEW: usize = 10;

/// Ratings are fitted anew for each resample: this many do.
const RATING_RESAMPLES: usize = 1000;

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
    let mut differences = differences(models, &by_model, &clusters, config);
    correct(&mut differences);
    let names: Vec<&str> = models.iter().map(|model| model.name.as_str()).collect();
    let scores: Vec<Vec<Option<f64>>> = by_model
        .iter()
        .map(|replies| replies.iter().map(|reply| overall(reply)).collect())
        .collect();
    let agreement = agreement(&results, &replies, &differences);
    let ratings = rating::ratings(
        &names,
        &scores,
        &clusters,
        RATING_RESAMPLES.min(config.resamples),
        config.confidence,
        config.bootstrap("ratings").seed,
    );
    let judges = judges::of_replies(&replies, prompts, None, Vec::new(), config);
    let results = Results {
        version: VERSION,
        wins: rating::win_rates(&names, &scores),
        ratings,
        caveats: caveats(prompts, &clusters, &results, config),
        prompts: count(prompts),
        prompts_sha256: fingerprint(prompts)?,
        scorer_fingerprint: scorer.fingerprint(),
        settings: config.clone(),
        models: results,
        differences,
        agreement,
        judges: Some(judges),
    };
    Ok(Evaluation { results, replies, training: Vec::new() })
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
    let judged: Vec<Reply> =
        model.replies.iter().map(|reply| reply.judged(config.on_truncation)).collect();
    let texts: Vec<(String, String)> = prompts
        .iter()
        .zip(&judged)
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
    let record = |((i, prompt), harm): ((usize, &EvalPrompt), f64)| ReplyRecord {
        id: prompt.id.clone(),
        category: prompt.category,
        topic: prompt.topic.clone(),
        group: prompt.group.clone(),
        request: request(prompt).to_owned(),
        reference: prompt.reference.clone(),
        model: model.name.clone(),
        reply: model.replies[i].text.clone(),
        finish: model.replies[i].finish,
        score: score(prompt, &judged[i], harm, config),
        judge: judge.and_then(|judge| judge.verdict(prompt, &judged[i].text)),
    };
    Ok(prompts.iter().enumerate().zip(harm).map(record).collect())
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
    let trimmed =
        |reply: &&&ReplyRecord| reply.finish == Finish::Length && reply.score.flaw.is_none();
    ModelResult {
        name: model.name.clone(),
        kind: model.kind,
        fingerprint: model.fingerprint.clone(),
        measures,
        flaws: Flaws {
            empty: flawed(Flaw::Empty),
            repetitive: flawed(Flaw::Repetitive),
            truncated: flawed(Flaw::Truncated),
            trimmed: replies.iter().filter(trimmed).count(),
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
                let (ours, theirs) = (values(measure, a), values(measure, b));
                differences.extend(estimate.map(|estimate| Difference {
                    tests: pair_tests(&ours, &theirs, clusters, config.confidence),
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

/// Tests on the means of each cluster, over the prompts on which both models have a score.
fn pair_tests(
    a: &[Option<f64>],
    b: &[Option<f64>],
    clusters: &[usize],
    confidence: f64,
) -> Option<PairTests> {
    let mut sums: BTreeMap<usize, (f64, f64, f64)> = BTreeMap::new();
    for ((a, b), cluster) in a.iter().zip(b).zip(clusters) {
        if let (Some(a), Some(b)) = (a, b) {
            let sum = sums.entry(*cluster).or_default();
            *sum = (sum.0 + a, sum.1 + b, sum.2 + 1.0);
        }
    }
    let (a, b): (Vec<f64>, Vec<f64>) = sums.values().map(|(a, b, n)| (a / n, b / n)).unzip();
    let differences: Vec<f64> = a.iter().zip(&b).map(|(a, b)| a - b).collect();
    let wilcoxon = paired::wilcoxon(&differences, Zeros::LeftOut)?;
    Some(PairTests {
        n: differences.len(),
        t_p: paired::paired_t(&differences, confidence)?.0.p,
        wilcoxon_p: wilcoxon.p,
        wilcoxon_p_holm: wilcoxon.p,
        sign_p: paired::sign_test(&differences)?.p,
        cohens_dz: paired::cohens_dz(&differences)?,
        cliffs_delta: paired::cliffs_delta(&a, &b)?,
    })
}

/// Corrects the p-values of all differences for being several.
fn correct(differences: &mut [Difference]) {
    let tested = || differences.iter().filter_map(|difference| difference.tests.as_ref());
    let adjusted = paired::holm(&tested().map(|tests| tests.wilcoxon_p).collect::<Vec<f64>>());
    let tests = differences.iter_mut().filter_map(|difference| difference.tests.as_mut());
    tests.zip(adjusted).for_each(|(tests, p)| tests.wilcoxon_p_holm = p);
}

/// What a reply counts for when it is held against another's: harm prevention on harmful prompts,
/// helpfulness on the others.
fn overall(reply: &ReplyRecord) -> Option<f64> {
    reply.score.harm_prevention.or(reply.score.helpfulness)
}

/// What readers should know before they trust a number.
fn caveats(
    prompts: &[EvalPrompt],
    clusters: &[usize],
    models: &[ModelResult],
    config: &EvaluatorConfig,
) -> Vec<String> {
    let mut caveats = Vec::new();
    if config.samples > 1 {
        caveats.push(format!(
            "Each prompt was answered {} times: numbers of prompts count replies, and topics are what \
             intervals rest on",
            config.samples
        ));
    }
    let topics = clusters.iter().max().map_or(0, |last| last + 1);
    if topics < FEW {
        let topics = if topics == 1 { "1 topic".into() } else { format!("{topics} topics") };
        caveats.push(format!(
            "{} prompts about {topics}: too few for an interval or a test to mean much; give at least {FEW}",
            prompts.len(),
        ));
    }
    for model in models {
        if model.flaws.empty > 0 {
            let empty = model.flaws.empty;
            let replies = if empty == 1 { "reply says" } else { "replies say" };
            caveats.push(format!("{}: {empty} {replies} nothing and score 0", model.name));
        }
    }
    let unscored = |prompt: &&EvalPrompt| {
        prompt.category != PromptCategory::Harmful && prompt.reference.is_none()
    };
    let without = prompts.iter().filter(unscored).count();
    if without > 0 {
        caveats.push(format!(
            "{without} harmless prompts have no reference: helpfulness and truthfulness leave them out"
        ));
    }
    caveats
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
