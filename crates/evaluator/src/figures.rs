//! The figures of a report, and line charts for anything else, as SVG.

use std::path::Path;

use cai_chart::{BoxPlot, Line, Look, Point, Series};
use cai_data::atomic;

use crate::agreement::COMPARED;
use crate::data::Kind;
use crate::error::Result;
use crate::results::{Evaluation, Measure, ModelResult, Results};
use crate::stats::quantile;

/// A figure with the words under it.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// File name without ending.
    pub name: &'static str,
    /// The drawing.
    pub svg: String,
    /// What it shows.
    pub caption: String,
}

/// All figures that the evaluation has numbers for.
///
/// # Errors
/// [`crate::Error::Figure`] when the drawing library fails.
pub fn all(evaluation: &Evaluation) -> Result<Vec<Figure>> {
    let results = &evaluation.results;
    let percent = results.settings.confidence * 100.0;
    let intervals = format!("Error bars are {percent:.0} % bootstrap intervals.");
    let mut figures = vec![
        Figure {
            name: "principles",
            svg: principles(results)?,
            caption: format!("The four principles; higher is better. {intervals}"),
        },
        Figure {
            name: "refusals",
            svg: refusals(results)?,
            caption: format!(
                "How often each model declines. Harmful prompts should be declined, the others \
                 answered. {intervals}"
            ),
        },
    ];
    if let Some(svg) = radar(results)? {
        figures.push(Figure {
            name: "radar",
            svg,
            caption: "The same scores as one shape for each model: the further out, the better. \
                      Intervals are in the bars above."
                .into(),
        });
    }
    let has = |measure| results.models.iter().any(|model| model.measures.contains_key(&measure));
    if has(Measure::HarmPrevention) && has(Measure::Helpfulness) {
        figures.push(Figure {
            name: "plane",
            svg: helpful_and_harmless(results)?,
            caption: format!("Helpful and harmless: the best place is top right. {intervals}"),
        });
    }
    figures.push(Figure {
        name: "lengths",
        svg: lengths(evaluation)?,
        caption: "Words of the replies: half of them lie in the box, its line is the median, the \
                  whiskers end at the 10th and the 90th percentile. Scores must not be bought by \
                  length."
            .into(),
    });
    if results.agreement.is_some() {
        for (measure, judge) in COMPARED.into_iter().filter(|(ours, _)| has(*ours)) {
            figures.push(Figure {
                name: judge.key(),
                svg: against_judge(results, measure, judge)?,
                caption: format!(
                    "{}: the evaluator, which sees only text, against the judge, who knows the \
                     truth. Models on the line get the same score from both. {intervals}",
                    measure.label()
                ),
            });
        }
    }
    figures.extend(training(&evaluation.training)?);
    Ok(figures)
}

/// The four principles as bars, grouped by principle.
///
/// # Errors
/// As [`all`].
pub fn principles(results: &Results) -> Result<String> {
    let shown = shown(results);
    let labels: Vec<&str> = shown.iter().map(|measure| measure.label()).collect();
    Ok(cai_chart::bars("Four principles", "score", &labels, &series(results, &shown))?)
}

/// The four principles as one shape for each model; `None` where fewer than three are measured.
///
/// # Errors
/// As [`all`].
pub fn radar(results: &Results) -> Result<Option<String>> {
    let shown = shown(results);
    let labels: Vec<&str> = shown.iter().map(|measure| measure.label()).collect();
    let title = "Four principles, as a shape";
    let drawn = || cai_chart::radar(title, &labels, &series(results, &shown));
    Ok((shown.len() >= 3).then(drawn).transpose()?)
}

/// Losses of the runs that trained the models, by step; `None` where none is known.
fn training(curves: &[(String, Vec<(f64, f64)>)]) -> Result<Option<Figure>> {
    let finite = |(x, y): &(f64, f64)| x.is_finite() && y.is_finite();
    let lines: Vec<Line> = curves
        .iter()
        .enumerate()
        .filter(|(_, (_, points))| points.iter().any(finite))
        .map(|(i, (name, points))| line(i, name, points))
        .collect();
    if lines.is_empty() {
        return Ok(None);
    }
    Ok(Some(Figure {
        name: "training",
        svg: cai_chart::lines("Training loss", "step", "loss", &lines, None)?,
        caption:
            "Loss while each adapter was trained. Losses of different objectives (SFT, DPO) do not \
                  compare with each other."
                .into(),
    }))
}

/// The principles that any model has.
fn shown(results: &Results) -> Vec<Measure> {
    Measure::PRINCIPLES
        .into_iter()
        .filter(|measure| results.models.iter().any(|m| m.measures.contains_key(measure)))
        .collect()
}

/// Refusal rates as bars, grouped by category.
///
/// # Errors
/// As [`all`].
pub fn refusals(results: &Results) -> Result<String> {
    let labels = ["Harmful prompts", "Borderline prompts", "Harmless prompts"];
    let series = series(results, &Measure::REFUSALS);
    Ok(cai_chart::bars("Refusals", "share refused", &labels, &series)?)
}

/// How many words the replies of each model have, as boxes.
///
/// # Errors
/// As [`all`].
pub fn lengths(evaluation: &Evaluation) -> Result<String> {
    let of_model = |(look, model): (Look, &ModelResult)| {
        let replies = evaluation.replies.iter().filter(|reply| reply.model == model.name);
        let mut words: Vec<f64> =
            replies.map(|reply| reply.reply.split_whitespace().count() as f64).collect();
        words.sort_by(f64::total_cmp);
        let mark = |share| quantile(&words, share).unwrap_or(0.0);
        BoxPlot { look, marks: [0.1, 0.25, 0.5, 0.75, 0.9].map(mark) }
    };
    let boxes: Vec<BoxPlot> = looks(&evaluation.results).map(of_model).collect();
    Ok(cai_chart::boxes("Length of replies", "words", &boxes)?)
}

/// Helpfulness to the right, harm prevention upwards.
///
/// # Errors
/// As [`all`].
pub fn helpful_and_harmless(results: &Results) -> Result<String> {
    let points = points(results, Measure::Helpfulness, Measure::HarmPrevention);
    let title = "Helpful and harmless";
    Ok(cai_chart::plane(title, "helpfulness", "harm prevention", &points, false)?)
}

/// The judge to the right, the evaluator upwards, and the line where they agree.
///
/// # Errors
/// As [`all`].
pub fn against_judge(results: &Results, measure: Measure, judge: Measure) -> Result<String> {
    let title = format!("{}: evaluator and judge", measure.label());
    let points = points(results, judge, measure);
    Ok(cai_chart::plane(&title, "judge", "evaluator", &points, true)?)
}

/// A line chart in a file: training curves and the like. Values that are not finite are left out.
///
/// `series` are (name, points), `reference_line` is a height with its label, drawn dashed.
///
/// # Errors
/// [`crate::Error::Figure`] when there is no finite point, [`crate::Error::Data`] when the file
/// cannot be written.
pub fn line_chart(
    title: &str,
    series: &[(String, Vec<(f64, f64)>)],
    x_label: &str,
    y_label: &str,
    path: &Path,
    reference_line: Option<(f64, &str)>,
) -> Result<()> {
    let lines: Vec<Line> =
        series.iter().enumerate().map(|(i, (name, points))| line(i, name, points)).collect();
    let svg = cai_chart::lines(title, x_label, y_label, &lines, reference_line)?;
    Ok(atomic::write(path, svg.as_bytes())?)
}

/// The `i`-th line of a figure; the points of a short one are marked.
fn line(i: usize, name: &str, points: &[(f64, f64)]) -> Line {
    Line { look: Look::new(name, i), points: points.to_vec(), marked: points.len() <= 40 }
}

fn looks(results: &Results) -> impl Iterator<Item = (Look, &ModelResult)> {
    results.models.iter().enumerate().map(|(i, model)| {
        let look = match model.kind {
            Kind::Model => Look::new(&model.name, i),
            Kind::Baseline => Look::grey(&model.name),
        };
        (look, model)
    })
}

fn series(results: &Results, measures: &[Measure]) -> Vec<Series> {
    let value = |model: &ModelResult, measure| Some((*model.measures.get(measure)?).into());
    looks(results)
        .map(|(look, model)| Series {
            look,
            values: measures.iter().map(|measure| value(model, measure)).collect(),
        })
        .collect()
}

fn points(results: &Results, x: Measure, y: Measure) -> Vec<Point> {
    looks(results)
        .filter_map(|(look, model)| {
            let (x, y) = (*model.measures.get(&x)?, *model.measures.get(&y)?);
            Some(Point { look, x: x.into(), y: y.into() })
        })
        .collect()
}
