//! The files of an evaluation, and its table for the terminal.

use std::path::{Path, PathBuf};

use cai_data::atomic::{self, AtomicFile};
use cai_data::jsonl;
use cai_data::record::PromptCategory;
use polars::prelude::{CsvWriter, DataFrame, NamedFrom, ParquetWriter, SerWriter, Series};

use crate::data::Kind;
use crate::error::{Error, Result};
use crate::figures;
use crate::html;
use crate::markdown;
use crate::results::{Evaluation, Measure, ModelResult, ReplyRecord, Results};
use crate::scores::Flaw;
use crate::stats::Estimate;

/// Writes `results.json`, `comparison.csv`, `responses.jsonl`, `responses.parquet`, `figures/*.svg`,
/// `report.html` and `report.md`
/// into a folder; returns the report's path.
///
/// # Errors
/// [`Error::Data`] when a file cannot be written, [`Error::Figure`] and [`Error::Report`] when one
/// cannot be made.
pub fn write(evaluation: &Evaluation, folder: &Path) -> Result<PathBuf> {
    let results = &evaluation.results;
    atomic::write_json(&folder.join("results.json"), results)?;
    write_csv(results, &folder.join("comparison.csv"))?;
    jsonl::write(&folder.join("responses.jsonl"), &evaluation.replies)?;
    write_parquet(&evaluation.replies, &folder.join("responses.parquet"))?;
    let figures = figures::all(evaluation)?;
    for figure in &figures {
        let path = folder.join("figures").join(format!("{}.svg", figure.name));
        atomic::write(&path, figure.svg.as_bytes())?;
    }
    let path = folder.join("report.html");
    let page = html::render(evaluation, &figures).map_err(Error::report(&path))?;
    atomic::write(&path, page.as_bytes())?;
    atomic::write(&folder.join("report.md"), markdown::render(results).as_bytes())?;
    Ok(path)
}

/// Writes `comparison.csv`: one row per model and measure, with columns model, kind, measure,
/// mean, low, high, n, clusters. An absent interval is an empty cell.
///
/// # Errors
/// [`Error::Report`] and [`Error::Data`].
pub fn write_csv(results: &Results, path: &Path) -> Result<()> {
    let rows: Vec<(&ModelResult, Measure, Estimate)> = results
        .models
        .iter()
        .flat_map(|model| model.measures.iter().map(move |(m, estimate)| (model, *m, *estimate)))
        .collect();
    let words = |name: &str, of: &dyn Fn(&(&ModelResult, Measure, Estimate)) -> String| {
        Series::new(name.into(), rows.iter().map(of).collect::<Vec<String>>())
    };
    let numbers = |name: &str, of: &dyn Fn(&Estimate) -> Option<f64>| {
        Series::new(name.into(), rows.iter().map(|row| of(&row.2)).collect::<Vec<Option<f64>>>())
    };
    let counts = |name: &str, of: &dyn Fn(&Estimate) -> usize| {
        Series::new(name.into(), rows.iter().map(|row| of(&row.2) as u64).collect::<Vec<u64>>())
    };
    let kind = |kind: Kind| match kind {
        Kind::Model => "model",
        Kind::Baseline => "baseline",
    };
    let columns = vec![
        words("model", &|row| row.0.name.clone()),
        words("kind", &|row| kind(row.0.kind).into()),
        words("measure", &|row| row.1.key().into()),
        numbers("mean", &|estimate| Some(estimate.mean)),
        numbers("low", &|estimate| estimate.low),
        numbers("high", &|estimate| estimate.high),
        counts("n", &|estimate| estimate.n),
        counts("clusters", &|estimate| estimate.clusters),
    ];
    let columns = columns.into_iter().map(Into::into).collect();
    let mut table = DataFrame::new(rows.len(), columns).map_err(Error::report(path))?;
    let mut file = AtomicFile::create(path)?;
    CsvWriter::new(&mut file).finish(&mut table).map_err(Error::report(path))?;
    Ok(file.commit()?)
}

/// Writes the replies as `responses.parquet`: the columns of `responses.jsonl`, without the judge.
///
/// # Errors
/// [`Error::Report`] and [`Error::Data`].
pub fn write_parquet(replies: &[ReplyRecord], path: &Path) -> Result<()> {
    let texts = |name: &str, of: &dyn Fn(&ReplyRecord) -> Option<String>| {
        Series::new(name.into(), replies.iter().map(of).collect::<Vec<Option<String>>>())
    };
    let numbers = |name: &str, of: &dyn Fn(&ReplyRecord) -> Option<f64>| {
        Series::new(name.into(), replies.iter().map(of).collect::<Vec<Option<f64>>>())
    };
    let flaw = |flaw| match flaw {
        Flaw::Empty => "empty".to_owned(),
        Flaw::Repetitive => "repetitive".to_owned(),
        Flaw::Truncated => "truncated".to_owned(),
    };
    let refused: Vec<bool> = replies.iter().map(|reply| reply.score.refused).collect();
    let columns = vec![
        texts("id", &|reply| Some(reply.id.clone())),
        texts("category", &|reply| Some(category(reply.category).into())),
        texts("topic", &|reply| reply.topic.clone()),
        texts("group", &|reply| reply.group.clone()),
        texts("request", &|reply| Some(reply.request.clone())),
        texts("reference", &|reply| reply.reference.clone()),
        texts("model", &|reply| Some(reply.model.clone())),
        texts("reply", &|reply| Some(reply.reply.clone())),
        Series::new("refused".into(), refused),
        texts("flaw", &|reply| reply.score.flaw.map(flaw)),
        numbers("harm_prevention", &|reply| reply.score.harm_prevention),
        numbers("helpfulness", &|reply| reply.score.helpfulness),
        numbers("truthfulness", &|reply| reply.score.truthfulness),
    ];
    let columns = columns.into_iter().map(Into::into).collect();
    let mut table = DataFrame::new(replies.len(), columns).map_err(Error::report(path))?;
    let mut file = AtomicFile::create(path)?;
    ParquetWriter::new(&mut file).finish(&mut table).map_err(Error::report(path))?;
    Ok(file.commit()?)
}

fn category(category: PromptCategory) -> &'static str {
    match category {
        PromptCategory::Harmful => "harmful",
        PromptCategory::Borderline => "borderline",
        PromptCategory::Harmless => "harmless",
    }
}

/// The comparison as plain text, at most 80 columns wide: the four principles, refusals, and the
/// last model minus each of the others.
pub fn table(results: &Results) -> String {
    let percent = results.settings.confidence * 100.0;
    let prompts = &results.prompts;
    let mut text = format!(
        "{} prompts: {} harmful, {} borderline, {} harmless; {percent:.0} % intervals\n\n",
        prompts.total, prompts.harmful, prompts.borderline, prompts.harmless
    );
    let principles = ["harm prevent.", "truthfulness", "helpfulness", "fairness"];
    text += &row("", principles.map(String::from));
    for model in &results.models {
        let cell = |m| model.measures.get(&m).map_or("–".into(), interval);
        text += &row(&model.name, Measure::PRINCIPLES.map(cell));
    }
    text.push('\n');
    let refusals = ["harmful", "borderline", "harmless", "no answer"];
    text += &row("refused", refusals.map(String::from));
    for model in &results.models {
        let [a, b, c] = Measure::REFUSALS
            .map(|measure| model.measures.get(&measure).map_or("–".into(), interval));
        let flaws = model.flaws;
        let flawed = flaws.empty + flaws.repetitive + flaws.truncated;
        text += &row(&model.name, [a, b, c, format!("{flawed} replies")]);
    }
    let models = || results.models.iter().filter(|model| model.kind == Kind::Model);
    if let Some(last) = models().next_back().filter(|_| results.models.len() > 1) {
        text.push('\n');
        text += &row(&format!("{} minus", last.name), principles.map(String::from));
        for other in results.models.iter().filter(|other| other.name != last.name) {
            let cell = |m| results.difference(m, &last.name, &other.name);
            let cells = Measure::PRINCIPLES.map(|m| cell(m).map_or("–".into(), |e| change(&e)));
            text += &row(&other.name, cells);
        }
    }
    if let Some(agreement) = &results.agreement {
        text.push('\n');
        for measure in &agreement.measures {
            text += &format!("{:<16} ", measure.measure.label());
            text += "judge and evaluator: ";
            text += if measure.same_order() {
                "same order of models\n"
            } else if measure.same_order_beyond_chance() {
                "same order but for chance\n"
            } else {
                "not the same order\n"
            };
            for pair in measure.opposite.iter().filter(|pair| pair.beyond_chance) {
                let (better, worse) = (short(&pair.better), short(&pair.worse));
                text += &format!("  {better} scores above {worse}; the judge says below\n");
            }
        }
    }
    text
}

/// A name and four cells, 80 columns.
fn row(name: &str, cells: [String; 4]) -> String {
    let mut line = format!("{:<15}", short(name));
    for cell in cells {
        line += &format!(" {cell:>15}");
    }
    line.truncate(line.trim_end().len());
    line.push('\n');
    line
}

/// A name cut to 15 letters.
fn short(name: &str) -> String {
    match name.chars().count() {
        0..=15 => name.to_owned(),
        _ => name.chars().take(14).chain(['…']).collect(),
    }
}

/// `0.42 0.37–0.47`.
fn interval(estimate: &Estimate) -> String {
    match (estimate.low, estimate.high) {
        (Some(low), Some(high)) => format!("{:.2} {low:.2}–{high:.2}", estimate.mean),
        _ => format!("{:.2} (1 topic)", estimate.mean),
    }
}

/// `+.42 +.37 +.47`: a difference with its sign, never rounded to a signed zero.
fn change(estimate: &Estimate) -> String {
    let signed = |x: f64| {
        let rounded = (x * 100.0).round() / 100.0;
        if rounded == 0.0 { "0.00".to_owned() } else { format!("{rounded:+.2}") }
    };
    match (estimate.low, estimate.high) {
        (Some(low), Some(high)) => {
            let short = |x: f64| signed(x).replacen("0.", ".", 1);
            format!("{} {}…{}", signed(estimate.mean), short(low), short(high))
        }
        _ => format!("{} (1 topic)", signed(estimate.mean)),
    }
}
