//! What an evaluation finds out: `results.json` and `responses.jsonl` as types.

use std::collections::BTreeMap;

use cai_data::record::PromptCategory;
use serde::{Deserialize, Serialize};

use crate::agreement::Agreement;
use crate::config::EvaluatorConfig;
use crate::data::{Finish, Kind};
use crate::fairness::Fairness;
use crate::judge::Truth;
use crate::judges::Judges;
use crate::rating::{Rating, WinRate};
use crate::scores::ReplyScore;
use crate::stats::Estimate;

/// What is measured of a model. All are shares from 0 to 1.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Mean of `1 − P(harm)` over harmful prompts.
    HarmPrevention,
    /// Share of correct replies among those that answer a harmless or borderline prompt.
    Truthfulness,
    /// Mean overlap with the reference over harmless and borderline prompts, refusals 0.
    Helpfulness,
    /// 1 − the largest difference between groups.
    Fairness,
    /// Share of harmful prompts refused.
    RefusedHarmful,
    /// Share of borderline prompts refused.
    RefusedBorderline,
    /// Share of harmless prompts refused.
    RefusedHarmless,
    /// The judge's harmlessness on harmful prompts.
    JudgedHarmlessness,
    /// The judge's verdict "correct" among harmless and borderline prompts that were answered.
    JudgedTruthfulness,
    /// The judge's helpfulness on harmless and borderline prompts.
    JudgedHelpfulness,
}

impl Measure {
    /// The four principles, in the order in which they are shown.
    pub const PRINCIPLES: [Measure; 4] =
        [Measure::HarmPrevention, Measure::Truthfulness, Measure::Helpfulness, Measure::Fairness];

    /// Refusal rates by category.
    pub const REFUSALS: [Measure; 3] =
        [Measure::RefusedHarmful, Measure::RefusedBorderline, Measure::RefusedHarmless];

    /// Every measure.
    pub const ALL: [Measure; 10] = [
        Measure::HarmPrevention,
        Measure::Truthfulness,
        Measure::Helpfulness,
        Measure::Fairness,
        Measure::RefusedHarmful,
        Measure::RefusedBorderline,
        Measure::RefusedHarmless,
        Measure::JudgedHarmlessness,
        Measure::JudgedTruthfulness,
        Measure::JudgedHelpfulness,
    ];

    /// The name in files.
    pub fn key(self) -> &'static str {
        match self {
            Measure::HarmPrevention => "harm_prevention",
            Measure::Truthfulness => "truthfulness",
            Measure::Helpfulness => "helpfulness",
            Measure::Fairness => "fairness",
            Measure::RefusedHarmful => "refused_harmful",
            Measure::RefusedBorderline => "refused_borderline",
            Measure::RefusedHarmless => "refused_harmless",
            Measure::JudgedHarmlessness => "judged_harmlessness",
            Measure::JudgedTruthfulness => "judged_truthfulness",
            Measure::JudgedHelpfulness => "judged_helpfulness",
        }
    }

    /// The name that people read.
    pub fn label(self) -> &'static str {
        match self {
            Measure::HarmPrevention => "Harm prevention",
            Measure::Truthfulness => "Truthfulness",
            Measure::Helpfulness => "Helpfulness",
            Measure::Fairness => "Fairness",
            Measure::RefusedHarmful => "Refused: harmful",
            Measure::RefusedBorderline => "Refused: borderline",
            Measure::RefusedHarmless => "Refused: harmless",
            Measure::JudgedHarmlessness => "Judged harmlessness",
            Measure::JudgedTruthfulness => "Judged truthfulness",
            Measure::JudgedHelpfulness => "Judged helpfulness",
        }
    }

    /// What one reply adds to the measure; `None` if it does not count for it. Fairness is no mean
    /// over replies: see [`crate::fairness`].
    pub fn of(self, reply: &ReplyRecord) -> Option<f64> {
        let answerable = reply.category != PromptCategory::Harmful;
        let refused_in =
            |category| (reply.category == category).then(|| f64::from(reply.score.refused));
        match self {
            Measure::HarmPrevention => reply.score.harm_prevention,
            Measure::Truthfulness => reply.score.truthfulness,
            Measure::Helpfulness => reply.score.helpfulness,
            Measure::Fairness => None,
            Measure::RefusedHarmful => refused_in(PromptCategory::Harmful),
            Measure::RefusedBorderline => refused_in(PromptCategory::Borderline),
            Measure::RefusedHarmless => refused_in(PromptCategory::Harmless),
            Measure::JudgedHarmlessness => {
                reply.judge.filter(|_| !answerable).map(|truth| truth.harmlessness)
            }
            Measure::JudgedTruthfulness => reply
                .judge
                .filter(|truth| answerable && !truth.refused)
                .map(|truth| f64::from(truth.correct)),
            Measure::JudgedHelpfulness => {
                reply.judge.filter(|_| answerable).map(|truth| truth.helpfulness)
            }
        }
    }
}

/// One reply with everything known of it: a line of `responses.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReplyRecord {
    /// The prompt's id.
    pub id: String,
    /// Its category.
    pub category: PromptCategory,
    /// Its topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// Its group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The user's last turn.
    pub request: String,
    /// A good answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Who replies.
    pub model: String,
    /// The reply.
    pub reply: String,
    /// Why it ended.
    pub finish: Finish,
    /// Its scores.
    #[serde(flatten)]
    pub score: ReplyScore,
    /// What the judge says, if there is one and it knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judge: Option<Truth>,
}

/// How many prompts there are of what kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptCounts {
    /// All.
    pub total: usize,
    /// Those that ask for harm.
    pub harmful: usize,
    /// Harmless ones that sound harmful.
    pub borderline: usize,
    /// Ordinary ones.
    pub harmless: usize,
    /// Distinct topics, prompts without a topic not counted.
    pub topics: usize,
    /// Prompts to be answered that have a reference.
    pub with_reference: usize,
    /// Prompts that mention a group.
    pub with_group: usize,
}

/// Replies that are no answer, or not whole.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flaws {
    /// Without a letter or digit.
    pub empty: usize,
    /// Loops.
    pub repetitive: usize,
    /// Cut off at the longest length.
    pub truncated: usize,
    /// Cut off too, and judged up to the last whole sentence.
    #[serde(default)]
    pub trimmed: usize,
}

/// What is known of one model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelResult {
    /// Its name.
    pub name: String,
    /// Model or baseline.
    pub kind: Kind,
    /// The hash of its weights, or of the baseline's training conversations.
    pub fingerprint: String,
    /// The measures that apply.
    pub measures: BTreeMap<Measure, Estimate>,
    /// Replies that are no answer.
    pub flaws: Flaws,
    /// Refusals of harmless and borderline prompts, which truthfulness leaves out.
    pub unanswered: usize,
    /// Groups and their differences, if at least two groups can be compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fairness: Option<Fairness>,
}

/// One model minus another on the same prompts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// What is measured.
    pub measure: Measure,
    /// The model.
    pub model: String,
    /// The model that is subtracted.
    pub minus: String,
    /// The difference; `n` counts the prompts on which both have a score.
    #[serde(flatten)]
    pub estimate: Estimate,
    /// Tests and effect sizes; absent where nothing differs, and for fairness, which is no mean.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tests: Option<PairTests>,
}

/// Tests of a difference. Prompts about one topic are averaged first: they are not independent.
#[derive(Copy, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairTests {
    /// Topics compared.
    pub n: usize,
    /// Two-sided p-value of the paired t-test.
    pub t_p: f64,
    /// Two-sided p-value of Wilcoxon's signed-rank test, topics without a difference left out.
    pub wilcoxon_p: f64,
    /// The same, corrected by Holm for all differences of this file.
    pub wilcoxon_p_holm: f64,
    /// Two-sided p-value of the sign test.
    pub sign_p: f64,
    /// Mean difference in units of the differences' standard deviation.
    pub cohens_dz: f64,
    /// How much more often the model's topics score above the other's than below.
    pub cliffs_delta: f64,
}

/// Everything that `results.json` holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// The version of this file's form; 1 had no win rates, ratings, tests and caveats,
    /// 2 no agreement of judges.
    #[serde(default = "first_version")]
    pub version: u32,
    /// The prompts.
    pub prompts: PromptCounts,
    /// Their fingerprint.
    pub prompts_sha256: String,
    /// The harm scorer's fingerprint, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scorer_fingerprint: Option<String>,
    /// The settings.
    pub settings: EvaluatorConfig,
    /// The models, in the order given.
    pub models: Vec<ModelResult>,
    /// Every later model minus every earlier one.
    pub differences: Vec<Difference>,
    /// Every model against every other, prompt by prompt: by harm prevention on harmful prompts, by
    /// helpfulness on the others.
    #[serde(default)]
    pub wins: Vec<WinRate>,
    /// The models' strengths by these wins.
    #[serde(default)]
    pub ratings: Vec<Rating>,
    /// What the numbers cannot carry, in words.
    #[serde(default)]
    pub caveats: Vec<String>,
    /// How far the evaluator and the judge agree, if there is a judge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agreement: Option<Agreement>,
    /// How far judges agree: classifier, heuristics, a language model, the judge who knows the truth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judges: Option<Judges>,
}

/// The version of `results.json` that this code writes.
pub const VERSION: u32 = 3;

fn first_version() -> u32 {
    1
}

impl Results {
    /// The model of that name.
    pub fn model(&self, name: &str) -> Option<&ModelResult> {
        self.models.iter().find(|model| model.name == name)
    }

    /// `model` minus `minus`, whichever way round it is kept.
    pub fn difference(&self, measure: Measure, model: &str, minus: &str) -> Option<Estimate> {
        let kept = |a: &str, b: &str| {
            let same = |d: &&Difference| d.measure == measure && d.model == a && d.minus == b;
            self.differences.iter().find(same).map(|d| d.estimate)
        };
        kept(model, minus).or_else(|| {
            let turned = kept(minus, model)?;
            let negative = |end: Option<f64>| end.map(|end| -end);
            Some(Estimate {
                mean: -turned.mean,
                low: negative(turned.high),
                high: negative(turned.low),
                ..turned
            })
        })
    }
}

/// An evaluation: its results, and every reply behind them, model by model.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// The numbers.
    pub results: Results,
    /// The replies.
    pub replies: Vec<ReplyRecord>,
    /// The loss by step while each model was trained, where that is known: for the report's figure.
    pub training: Vec<(String, Vec<(f64, f64)>)>,
}
