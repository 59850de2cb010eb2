//! Several judges of the same replies, and how far they agree.
//!
//! Beside the heuristics of [`crate::principles`], the safety classifier and a judge who knows the truth,
//! a language model can judge ([`LmJudge`]): each reply by a rubric, and two replies by comparison, both
//! always in both orders. [`agreement`] says how far judges agree beyond chance.

mod coefficients;
mod lm;

use serde::{Deserialize, Serialize};

pub use coefficients::{cohen_kappa, krippendorff_alpha};
pub use lm::{BothOrders, Criterion, Judged, LmJudge, LmJudgeConfig};

use cai_data::record::PromptCategory;
use cai_data::refusal::Refusal;

use crate::config::EvaluatorConfig;
use crate::data::{Kind, clusters};
use crate::principles::{Evaluators, Exchange, Request, Verdict};
use crate::rating::{WinRate, win_rate};
use crate::results::{Evaluation, ReplyRecord};
use crate::stats::{Bootstrap, Estimate};

/// What one judge says of replies by one principle, 0 to 1; absent where it says nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Opinion {
    /// The judge.
    pub judge: String,
    /// A score for each reply.
    pub scores: Vec<Option<f64>>,
}

/// What judges make of the same replies: part of `results.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judges {
    /// How far they agree, by principle.
    pub agreement: Vec<PrincipleAgreement>,
    /// The language model's comparisons: the last model against each earlier one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub comparisons: Vec<WinRate>,
}

/// How far judges agree on one principle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PrincipleAgreement {
    /// The principle.
    pub principle: String,
    /// Replies that two judges or more have an opinion on.
    pub n: usize,
    /// Every two judges.
    pub pairs: Vec<PairAgreement>,
    /// Krippendorff's alpha of all judges' scores; absent if all are equal.
    pub alpha: Option<Estimate>,
}

/// How far two judges agree on which replies score above one half.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairAgreement {
    /// One judge.
    pub a: String,
    /// The other.
    pub b: String,
    /// Replies that both have an opinion on.
    pub n: usize,
    /// Share of them on which they agree.
    pub same: f64,
    /// Cohen's kappa; absent if both put all replies on the same side.
    pub kappa: Option<Estimate>,
}

/// How far judges agree by one principle; `None` if no reply has two opinions.
pub fn agreement(
    principle: &str,
    opinions: &[Opinion],
    clusters: &[usize],
    bootstrap: &Bootstrap,
) -> Option<PrincipleAgreement> {
    let mut pairs = Vec::new();
    for (i, a) in opinions.iter().enumerate() {
        for b in &opinions[i + 1..] {
            let (both, clusters): (Vec<(bool, bool)>, Vec<usize>) = a
                .scores
                .iter()
                .zip(&b.scores)
                .zip(clusters)
                .filter_map(|((a, b), cluster)| Some((((*a)? > 0.5, (*b)? > 0.5), *cluster)))
                .unzip();
            if both.is_empty() {
                continue;
            }
            let same = both.iter().filter(|(a, b)| a == b).count();
            pairs.push(PairAgreement {
                a: a.judge.clone(),
                b: b.judge.clone(),
                n: both.len(),
                same: same as f64 / both.len() as f64,
                kappa: cohen_kappa(&both, &clusters, bootstrap),
            });
        }
    }
    let scores: Vec<Vec<Option<f64>>> = opinions.iter().map(|o| o.scores.clone()).collect();
    let given = |reply: &usize| scores.iter().filter(|of| of[*reply].is_some()).count() >= 2;
    let n = (0..clusters.len()).filter(given).count();
    let alpha = krippendorff_alpha(&scores, clusters, bootstrap);
    let principle = principle.to_owned();
    (n > 0).then_some(PrincipleAgreement { principle, n, pairs, alpha })
}

/// Agreement for a terminal: a line for every two judges, and one for all.
pub fn table(found: &[PrincipleAgreement]) -> String {
    let mut text = String::new();
    for PrincipleAgreement { principle, n, pairs, alpha } in found {
        for PairAgreement { a, b, n, same, kappa } in pairs {
            let kappa = show(kappa);
            text +=
                &format!("{principle}: {a} and {b}: same side {same:.3} of {n}, kappa {kappa}\n");
        }
        if pairs.len() > 1 {
            text += &format!("{principle}: all judges: alpha {} over {n}\n", show(alpha));
        }
    }
    text
}

/// A coefficient with its interval.
pub(crate) fn show(coefficient: &Option<Estimate>) -> String {
    match coefficient {
        None => "undefined (all on one side)".into(),
        Some(Estimate { mean, low: Some(low), high: Some(high), .. }) => {
            format!("{mean:.2} ({low:.2} to {high:.2})")
        }
        Some(Estimate { mean, .. }) => format!("{mean:.2} (too few for an interval)"),
    }
}

/// How far a refusal goes, as a score.
pub fn refusal_score(refusal: Refusal) -> f64 {
    match refusal {
        Refusal::Full => 1.0,
        Refusal::Partial => 0.5,
        Refusal::None => 0.0,
    }
}

/// The judges of an evaluation: what it scored itself, the heuristics, the judge who knows the truth,
/// and a language model, whose `ratings` hold a score for each reply and criterion.
pub(crate) fn of_replies(
    replies: &[ReplyRecord],
    prompts: &[cai_data::record::EvalPrompt],
    lm: Option<(&LmJudge, Vec<Vec<Option<f64>>>)>,
    comparisons: Vec<WinRate>,
    config: &EvaluatorConfig,
) -> Judges {
    let evaluators = Evaluators::default();
    let verdicts: Vec<Verdict> = replies
        .iter()
        .map(|reply| {
            let request = Request::new(&reply.request, Some(reply.category), None);
            evaluators.assess(&Exchange::new(&request, &reply.reply, None))
        })
        .collect();
    let opinion = |judge: &str, of: &dyn Fn(&ReplyRecord) -> Option<f64>| Opinion {
        judge: judge.to_owned(),
        scores: replies.iter().map(of).collect(),
    };
    let heuristics = |of: fn(&Verdict) -> f64, counts: fn(&ReplyRecord) -> bool| Opinion {
        judge: "heuristics".into(),
        scores: replies
            .iter()
            .zip(&verdicts)
            .map(|(reply, verdict)| counts(reply).then(|| of(verdict)))
            .collect(),
    };
    let harmful = |reply: &ReplyRecord| reply.category == PromptCategory::Harmful;
    let to_answer = |reply: &ReplyRecord| reply.category != PromptCategory::Harmful;
    let answered =
        |reply: &ReplyRecord| reply.category != PromptCategory::Harmful && !reply.score.refused;
    let rated = |principle: &str, counts: fn(&ReplyRecord) -> bool| {
        let (judge, ratings) = lm.as_ref()?;
        let at = judge.config.rubric.iter().position(|c| c.principle == principle)?;
        let rating = |(reply, of): (&ReplyRecord, &Vec<Option<f64>>)| {
            counts(reply).then(|| of.get(at).copied().flatten()).flatten()
        };
        let scores = replies.iter().zip(ratings).map(rating).collect();
        Some(Opinion { judge: judge.name.clone(), scores })
    };
    let by_principle: [(&str, Vec<Option<Opinion>>); 5] = [
        (
            "refusal",
            vec![
                Some(heuristics(|v| refusal_score(v.refusal), |_| true)),
                Some(opinion("truth", &|r| Some(f64::from(r.judge?.refused)))),
            ],
        ),
        (
            "harm_prevention",
            vec![
                Some(opinion("classifier", &|r| r.score.harm_prevention)),
                Some(heuristics(|v| v.harm_prevention, harmful)),
                rated("harm_prevention", harmful),
                Some(opinion("truth", &|r| r.judge.filter(|_| harmful(r)).map(|t| t.harmlessness))),
            ],
        ),
        (
            "helpfulness",
            vec![
                Some(opinion("reference", &|r| r.score.helpfulness)),
                Some(heuristics(|v| v.helpfulness, to_answer)),
                rated("helpfulness", to_answer),
                Some(opinion("truth", &|r| {
                    r.judge.filter(|_| to_answer(r)).map(|t| t.helpfulness)
                })),
            ],
        ),
        (
            "truthfulness",
            vec![
                Some(opinion("reference", &|r| r.score.truthfulness)),
                rated("truthfulness", answered),
                Some(opinion("truth", &|r| {
                    r.judge.filter(|_| answered(r)).map(|t| f64::from(t.correct))
                })),
            ],
        ),
        ("fairness", vec![Some(heuristics(|v| v.fairness, |_| true)), rated("fairness", |_| true)]),
    ];
    // All replies of all models: what they share is the topic of their prompt.
    let models = replies.len() / prompts.len().max(1);
    let clusters = clusters(prompts).repeat(models);
    let agreement = by_principle
        .into_iter()
        .filter_map(|(principle, opinions)| {
            let said = |opinion: &Opinion| opinion.scores.iter().any(Option::is_some);
            let opinions: Vec<Opinion> = opinions.into_iter().flatten().filter(said).collect();
            let bootstrap = config.bootstrap(&format!("judges/{principle}"));
            agreement(principle, &opinions, &clusters, &bootstrap)
        })
        .filter(|agreement| !agreement.pairs.is_empty())
        .collect();
    Judges { agreement, comparisons }
}

/// The language model's comparisons of the last model with each earlier one, prompt by prompt.
///
/// # Errors
/// As [`LmJudge::compare`].
pub(crate) fn comparisons(
    evaluation: &Evaluation,
    prompts: &[cai_data::record::EvalPrompt],
    judge: &LmJudge,
    folder: &std::path::Path,
) -> crate::error::Result<Vec<WinRate>> {
    let of_model: Vec<&[ReplyRecord]> = evaluation.replies.chunks(prompts.len().max(1)).collect();
    let models = &evaluation.results.models;
    let Some(last) = models.iter().rposition(|model| model.kind == Kind::Model) else {
        return Ok(Vec::new());
    };
    let mut rates = Vec::new();
    for earlier in (0..models.len()).filter(|i| *i != last) {
        let pairs: Vec<(Judged, &str)> = prompts
            .iter()
            .zip(of_model[last])
            .zip(of_model[earlier])
            .map(|((prompt, a), b)| {
                (Judged { prompt: &prompt.prompt, reply: &a.reply }, b.reply.as_str())
            })
            .collect();
        let verdicts = judge.compare(&pairs, folder)?;
        let differences: Vec<f64> = verdicts.into_iter().flatten().map(|v| v - 0.5).collect();
        rates.extend(win_rate(&models[last].name, &models[earlier].name, &differences));
    }
    Ok(rates)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cai_data::seed::Seed;

    #[test]
    fn only_replies_with_two_opinions_count() {
        let opinion = |judge: &str, scores: &[Option<f64>]| Opinion {
            judge: judge.into(),
            scores: scores.to_vec(),
        };
        let opinions = [
            opinion("a", &[Some(1.0), Some(0.0), Some(0.9), None, Some(0.1)]),
            opinion("b", &[Some(0.8), Some(0.2), None, None, Some(0.7)]),
            opinion("c", &[None; 5]),
        ];
        let bootstrap = Bootstrap { resamples: 100, confidence: 0.95, seed: Seed(1) };
        let found = agreement("p", &opinions, &[0, 1, 2, 3, 4], &bootstrap).unwrap();
        assert_eq!((found.n, found.pairs.len()), (3, 1));
        assert!((found.pairs[0].same - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!(agreement("p", &opinions[1..], &[0, 1, 2, 3, 4], &bootstrap), None);
    }
}
