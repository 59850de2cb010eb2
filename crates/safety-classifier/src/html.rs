//! The report: one HTML page for the person who decides whether to deploy.

use cai_chart::{Line, Look};
use minijinja::{Environment, context};
use serde::Serialize;

use crate::assess::{Assessment, Attacked};
use crate::bootstrap::Interval;
use crate::data::Counts;
use crate::error::{Error, Result};

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
/// [`Error::Report`] when the page, [`Error::Figure`] when one of its figures cannot be made.
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
            reliability => reliability(assessment)?,
            roc => roc(assessment)?,
            precision_recall => precision_recall(assessment)?,
            confusion => confusion(assessment)?,
            attacks => attacks(assessment)?,
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

fn confusion(assessment: &Assessment) -> Result<String> {
    let counts = &assessment.evaluation.confusion;
    Ok(cai_chart::matrix("Confusion", &assessment.labels, counts)?)
}

fn reliability(assessment: &Assessment) -> Result<String> {
    let points = assessment.reliability.iter().map(|(p, accuracy, _)| (*p, *accuracy)).collect();
    let line = Line { look: Look::new("predicted class", 0), points, marked: true };
    Ok(cai_chart::curves("Reliability", "probability given", "share right", &[line], true)?)
}

fn roc(assessment: &Assessment) -> Result<String> {
    let curves = assessment.curves.iter().enumerate();
    let lines: Vec<Line> =
        curves.map(|(i, class)| line(i, &class.label, class.roc_auc, &class.roc)).collect();
    Ok(cai_chart::curves("ROC", "false-positive rate", "true-positive rate", &lines, true)?)
}

fn precision_recall(assessment: &Assessment) -> Result<String> {
    let curves = assessment.curves.iter().enumerate();
    let lines: Vec<Line> = curves
        .map(|(i, class)| line(i, &class.label, class.average_precision, &class.precision_recall))
        .collect();
    Ok(cai_chart::curves("Precision and recall", "recall", "precision", &lines, false)?)
}

/// The `i`-th class's line, with the area under it in its name.
fn line(i: usize, label: &str, area: Option<f64>, points: &[(f64, f64)]) -> Line {
    let area = area.map_or("–".into(), |area| format!("{area:.3}"));
    Line { look: Look::new(format!("{label} ({area})"), i), points: points.to_vec(), marked: false }
}

fn attacks(assessment: &Assessment) -> Result<String> {
    let robustness = &assessment.robustness;
    let row = |attacked: &Attacked| (attacked.attack.name().to_owned(), attacked.accuracy);
    let mut rows = vec![("as they are".to_owned(), robustness.clean)];
    rows.extend(robustness.attacks.iter().map(row));
    let show = |accuracy: f64| format!("{accuracy:.3}");
    let limit = (MIN_KEPT * robustness.clean, "least wanted");
    Ok(cai_chart::rows("Accuracy after each change", &rows, show, Some(limit))?)
}
