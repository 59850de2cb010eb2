//! The reports as files: JSON for programs, Markdown for a terminal, HTML with figures for people.

use std::collections::BTreeMap;
use std::path::Path;

use cai_chart::{Look, Series};
use cai_data::atomic;
use minijinja::{Environment, Value, context};

use crate::report::CritiqueReport;
use crate::stats::{Mean, show};
use crate::{Error, FeedbackReport, Result};

const STYLE: &str = include_str!("../templates/style.css");
const CRITIQUE: &str = include_str!("../templates/critique.html");
const FEEDBACK: &str = include_str!("../templates/feedback.html");

/// Writes `report.json`, `report.md` and `report.html`.
pub(crate) fn write_critique_report(report: &CritiqueReport, dir: &Path) -> Result<()> {
    atomic::write_json(&dir.join("report.json"), report)?;
    atomic::write(&dir.join("report.md"), report.markdown().as_bytes())?;
    Ok(atomic::write(&dir.join("report.html"), critique_html(report)?.as_bytes())?)
}

/// Writes `feedback_report.json`, `feedback_report.md` and `feedback_report.html`.
pub(crate) fn write_feedback_report(report: &FeedbackReport, dir: &Path) -> Result<()> {
    atomic::write_json(&dir.join("feedback_report.json"), report)?;
    atomic::write(&dir.join("feedback_report.md"), report.markdown().as_bytes())?;
    Ok(atomic::write(&dir.join("feedback_report.html"), feedback_html(report)?.as_bytes())?)
}

fn critique_html(report: &CritiqueReport) -> Result<String> {
    let line = |of: &dyn Fn(&crate::RoundStatistics) -> Option<Mean>| -> Vec<Option<Mean>> {
        report.rounds.iter().map(of).collect()
    };
    let harmless = line(&|round| {
        let Mean { mean, low, high, n } = round.harm?;
        Some(Mean { mean: 1.0 - mean, low: high.map(|h| 1.0 - h), high: low.map(|l| 1.0 - l), n })
    });
    let series = [
        ("harmlessness, by the classifier", harmless),
        ("harmlessness, true", line(&|round| Some(round.truth.as_ref()?.harmlessness))),
        ("helpfulness, true", line(&|round| Some(round.truth.as_ref()?.helpfulness))),
        ("declines", line(&|round| round.refused)),
    ];
    let shown: Vec<Series> = series
        .into_iter()
        .filter(|(_, line)| line.iter().any(Option::is_some))
        .enumerate()
        .map(|(i, (name, line))| Series {
            look: Look::new(name, i),
            values: line.into_iter().map(|mean| mean.map(Into::into)).collect(),
        })
        .collect();
    let rows: Vec<_> = report
        .rounds
        .iter()
        .map(|round| {
            let truth = round.truth.as_ref();
            context! {
                round => round.round, revisions => round.revisions, used => round.used,
                cells => [
                    show(&round.harm),
                    show(&round.refused),
                    show(&truth.map(|truth| truth.harmlessness)),
                    show(&truth.and_then(|truth| truth.harmlessness_change)),
                    show(&truth.map(|truth| truth.helpfulness)),
                    show(&truth.and_then(|truth| truth.helpfulness_change)),
                ],
            }
        })
        .collect();
    let usage = cai_chart::rows("Principles drawn", &counts(&report.principles), whole, None)?;
    let cleaning = counts(&report.cleaning);
    let cleaning = cai_chart::rows("Revisions by broken rule", &cleaning, whole, None)?;
    let pairs = &report.pairs;
    let goals = [
        goal("pairs whose sides are equal", pairs.identical_pairs_share, "below 5 %", |p| p < 0.05),
        goal(
            "pairs in which the revision does less harm (classifier)",
            pairs.revised_wins_share,
            "above 60 %",
            |p| p > 0.6,
        ),
        goal("the same, truly (ties half)", pairs.true_wins_share, "above 60 %", |p| p > 0.6),
        goal("pairs whose revision talks about itself", pairs.talk_share, "below 2 %", |p| {
            p < 0.02
        }),
    ];
    render(
        CRITIQUE,
        context! {
            report,
            rows,
            goals,
            change => show(&report.harm_change),
            scores => cai_chart::rounds("Scores by round", &shown)?,
            usage,
            cleaning,
        },
    )
}

fn feedback_html(report: &FeedbackReport) -> Result<String> {
    let histogram: Vec<(String, f64)> = report
        .histogram
        .iter()
        .map(|bin| (format!("{:.2} to {:.2}", bin.low, bin.high), bin.count as f64))
        .collect();
    let bias: Vec<(String, f64)> = report
        .principles
        .iter()
        .map(|(id, principle)| (id.clone(), principle.position_bias))
        .collect();
    let histogram = cai_chart::rows("Probability of the better sample", &histogram, whole, None)?;
    let signed = |value| format!("{value:+.3}");
    let bias = cai_chart::rows("Position bias by principle", &bias, signed, None)?;
    let facts = [
        ("confidence (0 undecided, 1 sure)", show(&report.confidence)),
        ("position bias (0 none; above: prefers (A))", show(&report.position_bias)),
        ("both orders agree", show(&report.order_agreement)),
        ("chosen samples that decline", show(&report.chosen_refused)),
        ("rejected samples that decline", show(&report.rejected_refused)),
    ];
    render(
        FEEDBACK,
        context! {
            report,
            facts,
            histogram,
            bias,
        },
    )
}

/// A share with what is wanted of it.
fn goal(name: &str, share: Option<f64>, wanted: &str, holds: fn(f64) -> bool) -> Value {
    let shown = share.map_or("–".into(), |share| format!("{:.1} %", 100.0 * share));
    context! { name, shown, wanted, met => share.map(holds) }
}

fn counts(counts: &BTreeMap<String, usize>) -> Vec<(String, f64)> {
    counts.iter().map(|(name, count)| (name.clone(), *count as f64)).collect()
}

fn whole(value: f64) -> String {
    format!("{value:.0}")
}

/// Fills a template in; everything that models and prompts say is escaped.
fn render(template: &str, values: Value) -> Result<String> {
    let filled = || -> std::result::Result<String, minijinja::Error> {
        let mut environment = Environment::new();
        // The name's ending turns escaping on.
        environment.add_template("report.html", template)?;
        environment.get_template("report.html")?.render(context! { style => STYLE, ..values })
    };
    filled()
        .map_err(|error| Error::Report { what: "report.html".into(), reason: format!("{error:#}") })
}
