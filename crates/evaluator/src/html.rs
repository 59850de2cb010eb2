//! The report: one HTML page that needs nothing else.

use std::collections::BTreeMap;

use cai_data::record::PromptCategory;
use minijinja::{Environment, context};
use serde::Serialize;

use crate::data::Kind;
use crate::figures::Figure;
use crate::judges::show;
use crate::results::{Evaluation, Measure, ModelResult, ReplyRecord, Results};
use crate::scores::Flaw;
use crate::stats::Estimate;

const TEMPLATE: &str = include_str!("../templates/report.html");

/// Renders the report. Everything that models and prompts say is escaped.
///
/// # Errors
/// What the template engine says.
pub fn render(evaluation: &Evaluation, figures: &[Figure]) -> Result<String, minijinja::Error> {
    let results = &evaluation.results;
    let mut environment = Environment::new();
    // The name's ending turns escaping on.
    environment.add_template("report.html", TEMPLATE)?;
    let figures: BTreeMap<_, _> = figures
        .iter()
        .map(|figure| (figure.name, context! { svg => figure.svg, caption => figure.caption }))
        .collect();
    environment.get_template("report.html")?.render(context! {
        prompts => results.prompts,
        prompts_sha256 => results.prompts_sha256,
        scorer => results.scorer_fingerprint,
        settings => results.settings,
        findings => findings(results),
        caveats => results.caveats,
        ratings => ratings(results),
        wins => wins(results),
        percent => format!("{:.0}", results.settings.confidence * 100.0),
        chance => format!("{:.0}", 100.0 - results.settings.confidence * 100.0),
        judged => results.agreement.is_some(),
        models => models(results),
        principles => Measure::PRINCIPLES.map(Measure::label),
        differences => differences(results),
        fairness => fairness(results),
        agreement => agreement(results),
        judges => judges(results),
        same_refusals => results.agreement.as_ref().map(|a| number(a.same_refusals)),
        comparisons => results.judges.as_ref().map(|judges| &judges.comparisons),
        figures => figures,
        categories => examples(evaluation),
    })
}

/// What was found, in sentences: the last model against the others, and what it refuses.
pub(crate) fn findings(results: &Results) -> Vec<String> {
    let models = || results.models.iter().filter(|model| model.kind == Kind::Model);
    let Some(last) = models().next_back() else {
        return Vec::new();
    };
    let mut findings = Vec::new();
    for other in models().filter(|other| other.name != last.name) {
        let said = [Measure::HarmPrevention, Measure::Helpfulness].map(|measure| {
            let change = results.difference(measure, &last.name, &other.name)?;
            let (low, high) = (signed(change.low?), signed(change.high?));
            let verb = match (measure, change.excludes_zero(), change.mean > 0.0) {
                (Measure::HarmPrevention, true, true) => "keeps from harm more often",
                (Measure::HarmPrevention, true, false) => "keeps from harm less often",
                (Measure::HarmPrevention, false, _) => "keeps from harm as often, but for chance",
                (_, true, true) => "is more helpful",
                (_, true, false) => "is less helpful",
                (_, false, _) => "is as helpful, but for chance",
            };
            Some(format!("{verb} ({}, interval {low} to {high})", signed(change.mean)))
        });
        let said: Vec<String> = said.into_iter().flatten().collect();
        if !said.is_empty() {
            findings.push(format!("Against {}, {} {}", other.name, last.name, said.join(", and ")));
        }
    }
    let refused = |measure| last.measures.get(&measure).map(|e| format!("{:.0} %", e.mean * 100.0));
    if let [Some(harmful), Some(harmless)] =
        [Measure::RefusedHarmful, Measure::RefusedHarmless].map(refused)
    {
        findings.push(format!(
            "{} refuses {harmful} of the harmful and {harmless} of the harmless prompts",
            last.name
        ));
    }
    findings
}

/// Name, Elo points and their interval, strongest first.
fn ratings(results: &Results) -> Vec<(String, String, String)> {
    let mut ratings: Vec<_> = results.ratings.iter().collect();
    ratings.sort_by(|a, b| b.elo.total_cmp(&a.elo));
    let interval = |low: Option<f64>, high: Option<f64>| match (low, high) {
        (Some(low), Some(high)) => format!("{low:.0} to {high:.0}"),
        _ => "no interval: one topic".into(),
    };
    ratings
        .into_iter()
        .map(|r| (r.model.clone(), format!("{:.0}", r.elo), interval(r.low, r.high)))
        .collect()
}

/// A win rate as its cell shows it, and how strongly the cell is coloured.
type WinCell = (String, String);

/// One row per model: its win rate against each model in order.
fn wins(results: &Results) -> Vec<(String, Vec<Option<WinCell>>)> {
    let rate = |model: &str, against: &str| {
        let found = results.wins.iter().find(|w| w.model == model && w.against == against)?;
        let strength = format!("{:.0}", found.rate * 60.0);
        Some((format!("{:.0} %", found.rate * 100.0), strength))
    };
    let names = || results.models.iter().map(|model| model.name.as_str());
    names()
        .map(|model| (model.to_owned(), names().map(|other| rate(model, other)).collect()))
        .collect()
}

/// A number with its interval and what it rests on, as cells show it.
#[derive(Serialize)]
struct Cell {
    mean: String,
    interval: String,
    n: usize,
    clusters: usize,
    clear: bool,
}

fn cell(estimate: Option<&Estimate>, show: fn(f64) -> String) -> Option<Cell> {
    estimate.map(|estimate| Cell {
        mean: show(estimate.mean),
        interval: match (estimate.low, estimate.high) {
            (Some(low), Some(high)) => format!("{} to {}", show(low), show(high)),
            _ => "no interval: one topic".into(),
        },
        n: estimate.n,
        clusters: estimate.clusters,
        clear: estimate.excludes_zero(),
    })
}

fn number(value: f64) -> String {
    format!("{value:.2}")
}

/// With a sign, the minus a proper one, and zero without.
fn signed(value: f64) -> String {
    let rounded = (value * 100.0).round() / 100.0;
    if rounded == 0.0 { "0.00".into() } else { format!("{rounded:+.2}").replace('-', "−") }
}

#[derive(Serialize)]
struct ModelView<'a> {
    name: &'a str,
    baseline: bool,
    fingerprint: &'a str,
    principles: Vec<Option<Cell>>,
    refusals: Vec<Option<Cell>>,
    unanswered: usize,
    empty: usize,
    repetitive: usize,
    truncated: usize,
}

fn models(results: &Results) -> Vec<ModelView<'_>> {
    results.models.iter().map(model_view).collect()
}

fn model_view(model: &ModelResult) -> ModelView<'_> {
    let cells = |measures: &[Measure]| {
        measures.iter().map(|measure| cell(model.measures.get(measure), number)).collect()
    };
    ModelView {
        name: &model.name,
        baseline: model.kind == Kind::Baseline,
        fingerprint: &model.fingerprint,
        principles: cells(&Measure::PRINCIPLES),
        refusals: cells(&Measure::REFUSALS),
        unanswered: model.unanswered,
        empty: model.flaws.empty,
        repetitive: model.flaws.repetitive,
        truncated: model.flaws.truncated,
    }
}

#[derive(Serialize)]
struct DifferenceView<'a> {
    model: &'a str,
    minus: &'a str,
    principles: Vec<Option<Cell>>,
}

/// Later models first: what the last training stage brought is what readers look for.
fn differences(results: &Results) -> Vec<DifferenceView<'_>> {
    let names: Vec<&str> = results
        .models
        .iter()
        .filter(|model| model.kind == Kind::Model)
        .chain(results.models.iter().filter(|model| model.kind == Kind::Baseline))
        .map(|model| model.name.as_str())
        .collect();
    let is_model = |name: &str| results.model(name).is_some_and(|m| m.kind == Kind::Model);
    let mut views = Vec::new();
    for (i, model) in names.iter().enumerate().rev() {
        if !is_model(model) {
            continue;
        }
        let earlier = names[..i].iter().rev();
        let baselines = names.iter().filter(|name| !is_model(name));
        for minus in earlier.chain(baselines) {
            let difference =
                |measure| cell(results.difference(measure, model, minus).as_ref(), signed);
            let principles = Measure::PRINCIPLES.into_iter().map(difference).collect();
            views.push(DifferenceView { model, minus, principles });
        }
    }
    views
}

#[derive(Serialize)]
struct FairnessView<'a> {
    model: &'a str,
    score: Option<Cell>,
    by_chance: String,
    harm_prevention_gap: Option<String>,
    helpfulness_gap: Option<String>,
    groups: Vec<GroupView<'a>>,
}

#[derive(Serialize)]
struct GroupView<'a> {
    name: &'a str,
    harm_prevention: Option<Cell>,
    helpfulness: Option<Cell>,
}

fn fairness(results: &Results) -> Vec<FairnessView<'_>> {
    results.models.iter().filter_map(fairness_view).collect()
}

fn fairness_view(model: &ModelResult) -> Option<FairnessView<'_>> {
    let fairness = model.fairness.as_ref()?;
    let groups = fairness.groups.iter().map(|group| GroupView {
        name: &group.group,
        harm_prevention: cell(group.harm_prevention.as_ref(), number),
        helpfulness: cell(group.helpfulness.as_ref(), number),
    });
    Some(FairnessView {
        model: &model.name,
        score: cell(model.measures.get(&Measure::Fairness), number),
        by_chance: number(fairness.by_chance),
        harm_prevention_gap: fairness.harm_prevention_gap.map(number),
        helpfulness_gap: fairness.helpfulness_gap.map(number),
        groups: groups.collect(),
    })
}

#[derive(Serialize)]
struct AgreementView<'a> {
    label: &'static str,
    /// The name of its figure.
    figure: &'static str,
    n: usize,
    spearman: Option<String>,
    kendall: Option<String>,
    order: &'a [String],
    judge_order: &'a [String],
    opposite: Vec<String>,
    means: Vec<(&'a str, Option<Cell>, Option<Cell>)>,
}

fn agreement(results: &Results) -> Vec<AgreementView<'_>> {
    let measures = results.agreement.iter().flat_map(|agreement| &agreement.measures);
    measures
        .map(|agreement| AgreementView {
            label: agreement.measure.label(),
            figure: agreement.judge.key(),
            n: agreement.n,
            spearman: agreement.spearman.map(number),
            kendall: agreement.kendall.map(number),
            order: &agreement.order,
            judge_order: &agreement.judge_order,
            opposite: agreement
                .opposite
                .iter()
                .map(|pair| {
                    let chance = if pair.beyond_chance { "beyond chance" } else { "within chance" };
                    format!("{} and {} ({chance})", pair.better, pair.worse)
                })
                .collect(),
            means: results
                .models
                .iter()
                .map(|model| {
                    let of = |measure| cell(model.measures.get(&measure), number);
                    (model.name.as_str(), of(agreement.measure), of(agreement.judge))
                })
                .collect(),
        })
        .collect()
}

/// How far judges agree on one principle, as a table.
#[derive(Serialize)]
struct JudgesView<'a> {
    principle: String,
    n: usize,
    alpha: String,
    /// Two judges, the share of replies on which they agree, and kappa.
    pairs: Vec<(&'a str, &'a str, usize, String, String)>,
}

fn judges(results: &Results) -> Vec<JudgesView<'_>> {
    let agreement = results.judges.iter().flat_map(|judges| &judges.agreement);
    agreement
        .map(|of| JudgesView {
            principle: of.principle.replace('_', " "),
            n: of.n,
            alpha: show(&of.alpha),
            pairs: of
                .pairs
                .iter()
                .map(|p| (p.a.as_str(), p.b.as_str(), p.n, number(p.same), show(&p.kappa)))
                .collect(),
        })
        .collect()
}

#[derive(Serialize)]
struct CategoryView<'a> {
    title: &'static str,
    shown: usize,
    total: usize,
    prompts: Vec<ExampleView<'a>>,
}

#[derive(Serialize)]
struct ExampleView<'a> {
    request: &'a str,
    reference: Option<&'a str>,
    group: Option<&'a str>,
    replies: Vec<ReplyView<'a>>,
}

#[derive(Serialize)]
struct ReplyView<'a> {
    model: &'a str,
    text: &'a str,
    refused: bool,
    flaw: Option<&'static str>,
    score: Option<String>,
    judged: Option<String>,
}

/// Prompts of each category, evenly spread, with the replies of all models.
fn examples(evaluation: &Evaluation) -> Vec<CategoryView<'_>> {
    let results = &evaluation.results;
    let mut by_prompt: BTreeMap<&str, Vec<&ReplyRecord>> = BTreeMap::new();
    for reply in &evaluation.replies {
        by_prompt.entry(&reply.id).or_default().push(reply);
    }
    let first_model = &evaluation.replies[..results.prompts.total.min(evaluation.replies.len())];
    let categories = [
        (PromptCategory::Harmful, "Harmful prompts"),
        (PromptCategory::Borderline, "Borderline prompts: harmless, but they sound harmful"),
        (PromptCategory::Harmless, "Harmless prompts"),
    ];
    let mut views = Vec::new();
    for (category, title) in categories {
        let of_category: Vec<&ReplyRecord> =
            first_model.iter().filter(|reply| reply.category == category).collect();
        let shown = results.settings.examples_per_category.min(of_category.len());
        let prompts = (0..shown)
            .map(|i| of_category[i * of_category.len() / shown])
            .map(|prompt| ExampleView {
                request: &prompt.request,
                reference: prompt.reference.as_deref(),
                group: prompt.group.as_deref(),
                replies: by_prompt[prompt.id.as_str()].iter().map(|reply| view(reply)).collect(),
            })
            .collect();
        if shown > 0 {
            views.push(CategoryView { title, shown, total: of_category.len(), prompts });
        }
    }
    views
}

fn view(reply: &ReplyRecord) -> ReplyView<'_> {
    let harmful = reply.category == PromptCategory::Harmful;
    let (measure, judge) = if harmful {
        (Measure::HarmPrevention, Measure::JudgedHarmlessness)
    } else {
        (Measure::Helpfulness, Measure::JudgedHelpfulness)
    };
    let flaw = reply.score.flaw.map(|flaw| match flaw {
        Flaw::Empty => "empty",
        Flaw::Repetitive => "loop",
        Flaw::Truncated => "cut off",
    });
    ReplyView {
        model: &reply.model,
        text: &reply.reply,
        refused: reply.score.refused,
        flaw,
        score: measure
            .of(reply)
            .map(|score| format!("{} {score:.2}", measure.label().to_lowercase())),
        judged: judge.of(reply).map(number),
    }
}
