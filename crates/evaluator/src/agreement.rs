//! How far the evaluator, which sees only text, agrees with a judge who knows the truth.

use serde::{Deserialize, Serialize};

use crate::results::{Difference, Measure, ModelResult, ReplyRecord};
use crate::stats::{kendall, sign, spearman};

/// What the evaluator measures, and what the judge says of the same.
pub const COMPARED: [(Measure, Measure); 3] = [
    (Measure::HarmPrevention, Measure::JudgedHarmlessness),
    (Measure::Truthfulness, Measure::JudgedTruthfulness),
    (Measure::Helpfulness, Measure::JudgedHelpfulness),
];

/// Agreement of evaluator and judge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Agreement {
    /// Share of the judged replies whose refusal both see, or both do not see.
    pub same_refusals: f64,
    /// Number of judged replies.
    pub n: usize,
    /// One entry per measure.
    pub measures: Vec<MeasureAgreement>,
}

/// Agreement on one measure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MeasureAgreement {
    /// The evaluator's measure.
    pub measure: Measure,
    /// The judge's.
    pub judge: Measure,
    /// Number of replies that both score.
    pub n: usize,
    /// Spearman's rank correlation over these replies; absent if one side is constant.
    pub spearman: Option<f64>,
    /// Kendall's tau-b over the models' means; absent if one side is constant.
    pub kendall: Option<f64>,
    /// The models from best to worst by the evaluator.
    pub order: Vec<String>,
    /// The models from best to worst by the judge.
    pub judge_order: Vec<String>,
    /// Pairs of models that the two put in opposite order, the evaluator's better one first.
    pub opposite: Vec<Opposite>,
}

impl MeasureAgreement {
    /// Whether no two models are in opposite order.
    pub fn same_order(&self) -> bool {
        self.opposite.is_empty()
    }

    /// Whether no two models are in opposite order beyond chance, that is with both intervals
    /// apart from 0.
    pub fn same_order_beyond_chance(&self) -> bool {
        self.opposite.iter().all(|pair| !pair.beyond_chance)
    }
}

/// Two models in opposite order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Opposite {
    /// Better by the evaluator.
    pub better: String,
    /// Better by the judge.
    pub worse: String,
    /// Whether both differences have intervals apart from 0.
    pub beyond_chance: bool,
}

/// Compares evaluator and judge. `None` if the judge knew none of the prompts.
pub(crate) fn agreement(
    models: &[ModelResult],
    replies: &[ReplyRecord],
    differences: &[Difference],
) -> Option<Agreement> {
    let judged: Vec<(bool, bool)> =
        replies.iter().filter_map(|r| Some((r.score.refused, r.judge?.refused))).collect();
    if judged.is_empty() {
        return None;
    }
    let same = judged.iter().filter(|(evaluator, judge)| evaluator == judge).count();
    let measures = COMPARED
        .into_iter()
        .map(|(measure, judge)| on_measure(measure, judge, models, replies, differences))
        .collect();
    Some(Agreement { same_refusals: same as f64 / judged.len() as f64, n: judged.len(), measures })
}

fn on_measure(
    measure: Measure,
    judge: Measure,
    models: &[ModelResult],
    replies: &[ReplyRecord],
    differences: &[Difference],
) -> MeasureAgreement {
    let both: Vec<(f64, f64)> =
        replies.iter().filter_map(|r| Some((measure.of(r)?, judge.of(r)?))).collect();
    let (ours, theirs): (Vec<f64>, Vec<f64>) = both.into_iter().unzip();

    let mean = |m: &ModelResult, measure| m.measures.get(&measure).map(|e| e.mean);
    let means: Vec<(&str, f64, f64)> = models
        .iter()
        .filter_map(|m| Some((m.name.as_str(), mean(m, measure)?, mean(m, judge)?)))
        .collect();
    let by_evaluator: Vec<f64> = means.iter().map(|m| m.1).collect();
    let by_judge: Vec<f64> = means.iter().map(|m| m.2).collect();
    let beyond_chance = |measure, a: &str, b: &str| {
        differences.iter().any(|d| {
            let same = (d.model == a && d.minus == b) || (d.model == b && d.minus == a);
            d.measure == measure && same && d.estimate.excludes_zero()
        })
    };
    let mut opposite = Vec::new();
    for a in &means {
        for b in &means {
            if a.1 > b.1 && sign(a.2 - b.2) < 0 {
                opposite.push(Opposite {
                    better: a.0.to_owned(),
                    worse: b.0.to_owned(),
                    beyond_chance: beyond_chance(measure, a.0, b.0)
                        && beyond_chance(judge, a.0, b.0),
                });
            }
        }
    }
    let order = |values: &[f64]| {
        let mut order: Vec<usize> = (0..means.len()).collect();
        order.sort_by(|i, j| values[*j].total_cmp(&values[*i]));
        order.into_iter().map(|i| means[i].0.to_owned()).collect()
    };
    MeasureAgreement {
        measure,
        judge,
        n: ours.len(),
        spearman: spearman(&ours, &theirs),
        kendall: kendall(&by_evaluator, &by_judge),
        order: order(&by_evaluator),
        judge_order: order(&by_judge),
        opposite,
    }
}
