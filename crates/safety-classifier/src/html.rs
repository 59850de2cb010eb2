//! The report: one HTML page for the person who decides whether to deploy.

use minijinja::{Environment, context};
use serde::Serialize;

use crate::assess::{Assessment, Attacked};
use crate::bootstrap::Interval;
use crate::data::Counts;
use crate::error::{Error, Result};
use crate::svg::{self, Line};

const TEMPLATE: &str = include_str!("../templates/report.html");

/// What the verdicts at the top compare with.
const MAX_ECE: f64 = 0.03;
const MAX_FLIPS: f64 = 0.05;
const MAX_GAP: f64 = 0.05;
const MIN_KEPT: f64 = 0.8;
/// Below, a class's interval is too wide to promise anything.
const FEW_TEXTS: usize = 50;

/// A line of the summary.
#[derive(Serialize)]
struct Verdict {
    good: bool,
    question: &'static str,
    answer: String,
}

/// Renders the page. Everything that comes from data is escaped.
///
/// # Errors
/// What the template engine says.
pub fn render(assessment: &Assessment, data: Option<&Counts>) -> Result<String> {
    let mut environment = Environment::new();
    // The name's ending turns escaping on.
    environment.add_template("report.html", TEMPLATE).map_err(failed)?;
    let template = environment.get_template("report.html").map_err(failed)?;
    template
        .render(context! {
            a => assessment,
            data => data,
            verdicts => verdicts(assessment),
            classes => classes(assessment),
            accuracy => interval(&assessment.intervals.accuracy),
            macro_f1 => interval(&assessment.intervals.macro_f1),
            calibration_map => assessment.calibration.map.describe(),
            sources => assessment.evaluation.sources,
            reliability => reliability(assessment),
            roc => curves(assessment, "false-positive rate", "true-positive rate", true),
            precision_recall => curves(assessment, "recall", "precision", false),
            confusion => svg::confusion(&assessment.labels, &assessment.evaluation.confusion),
            attacks => attacks(assessment),
            terms => assessment.fairness.terms,
        })
        .map_err(failed)
}

fn failed(error: minijinja::Error) -> Error {
    Error::Report(error.to_string())
}

fn interval(interval: &Interval) -> String {
    format!("{:.3} ({:.3} to {:.3})", interval.value, interval.low, interval.high)
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn verdicts(assessment: &Assessment) -> Vec<Verdict> {
    let Assessment { evaluation, fairness, robustness, fit, .. } = assessment;
    let mut verdicts = Vec::new();
    if let Some(comparison) = &assessment.comparison {
        let Interval { value, low, high } = comparison.accuracy;
        verdicts.push(Verdict {
            good: low > 0.0,
            question: "Is it better than the baseline on the same texts?",
            answer: format!(
                "accuracy {:+.2} points ({:+.2} to {:+.2}), macro-F1 {:+.3} ({:+.3} to {:+.3})",
                value * 100.0,
                low * 100.0,
                high * 100.0,
                comparison.macro_f1.value,
                comparison.macro_f1.low,
                comparison.macro_f1.high
            ),
        });
    }
    verdicts.push(Verdict {
        good: fit.ece <= MAX_ECE,
        question: "Do its probabilities mean what they say?",
        answer: format!(
            "confidence and accuracy differ by {:.2} points on average (at most {:.0} wanted)",
            fit.ece * 100.0,
            MAX_ECE * 100.0
        ),
    });
    verdicts.push(Verdict {
        good: fairness.flip_rate < MAX_FLIPS && fairness.false_positive_gap < MAX_GAP,
        question: "Does it matter whom a sentence is about?",
        answer: format!(
            "{} of pairs get different labels (below {} wanted); false alarms differ by {} between \
             groups (below {} wanted)",
            percent(fairness.flip_rate),
            percent(MAX_FLIPS),
            percent(fairness.false_positive_gap),
            percent(MAX_GAP)
        ),
    });
    if let Some(worst) = robustness.attacks.iter().min_by(|a, b| a.kept.total_cmp(&b.kept)) {
        verdicts.push(Verdict {
            good: worst.kept >= MIN_KEPT,
            question: "Can it be fooled by spelling?",
            answer: format!(
                "worst: {}, which leaves {} of the accuracy (at least {} wanted)",
                worst.attack.name(),
                percent(worst.kept),
                percent(MIN_KEPT)
            ),
        });
    }
    let few: Vec<String> = evaluation
        .per_class
        .iter()
        .filter(|class| class.support < FEW_TEXTS)
        .map(|class| format!("{} ({})", class.label, class.support))
        .collect();
    verdicts.push(Verdict {
        good: few.is_empty(),
        question: "Were there enough texts of every class?",
        answer: match few.is_empty() {
            true => "yes".into(),
            false => format!("too few to promise anything: {}", few.join(", ")),
        },
    });
    let weak: Vec<String> = evaluation
        .per_class
        .iter()
        .filter(|class| class.support > 0 && class.recall < 0.5)
        .map(|class| format!("{} ({} found)", class.label, percent(class.recall)))
        .collect();
    verdicts.push(Verdict {
        good: weak.is_empty(),
        question: "Does it find at least half of every class?",
        answer: if weak.is_empty() { "yes".into() } else { format!("no: {}", weak.join(", ")) },
    });
    verdicts
}

#[derive(Serialize)]
struct ClassRow {
    label: String,
    support: usize,
    precision: f64,
    recall: f64,
    f1: String,
    roc_auc: Option<f64>,
    average_precision: Option<f64>,
    threshold: Option<f64>,
    recall_at_threshold: Option<f64>,
}

fn classes(assessment: &Assessment) -> Vec<ClassRow> {
    let per_class = assessment.evaluation.per_class.iter();
    per_class
        .zip(&assessment.intervals.f1)
        .zip(&assessment.curves)
        .map(|((class, f1), curves)| ClassRow {
            label: class.label.clone(),
            support: class.support,
            precision: class.precision,
            recall: class.recall,
            f1: interval(f1),
            roc_auc: curves.roc_auc,
            average_precision: curves.average_precision,
            threshold: curves.threshold.map(|threshold| threshold.probability),
            recall_at_threshold: curves.threshold.map(|threshold| threshold.recall),
        })
        .collect()
}

fn reliability(assessment: &Assessment) -> String {
    let points = assessment.reliability.iter().map(|(p, accuracy, _)| (*p, *accuracy)).collect();
    let line = Line { name: "predicted class".into(), points, marked: true };
    svg::lines("probability given", "share right", &[line], true)
}

fn curves(assessment: &Assessment, x: &str, y: &str, roc: bool) -> String {
    let line = |curves: &crate::curves::Curves| {
        let (area, points) = match roc {
            true => (curves.roc_auc, &curves.roc),
            false => (curves.average_precision, &curves.precision_recall),
        };
        let area = area.map_or("–".into(), |area| format!("{area:.3}"));
        Line { name: format!("{} ({area})", curves.label), points: points.clone(), marked: false }
    };
    let lines: Vec<Line> = assessment.curves.iter().map(line).collect();
    svg::lines(x, y, &lines, roc)
}

fn attacks(assessment: &Assessment) -> String {
    let bar = |attacked: &Attacked| (attacked.attack.name().to_string(), attacked.accuracy);
    let robustness = &assessment.robustness;
    let mut bars = vec![("as they are".to_string(), robustness.clean)];
    bars.extend(robustness.attacks.iter().map(bar));
    svg::bars(&bars, Some(MIN_KEPT * robustness.clean))
}
