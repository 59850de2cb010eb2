//! The report's numbers as Markdown, for places that show no page: an issue, a terminal.

use std::fmt::Write;

use crate::html::findings;
use crate::judges::{Judges, show};
use crate::results::{Measure, Results};
use crate::stats::Estimate;

/// What was found, what to doubt, and the tables of the report.
pub fn render(results: &Results) -> String {
    let prompts = &results.prompts;
    let mut text = format!(
        "# Models side by side\n\n{} prompts: {} harmful, {} borderline, {} harmless. Intervals of \
         {:.0} %.\n",
        prompts.total,
        prompts.harmful,
        prompts.borderline,
        prompts.harmless,
        results.settings.confidence * 100.0
    );
    list(&mut text, "What was found", &findings(results));
    list(&mut text, "Caveats", &results.caveats);
    table(&mut text, "The four principles", results, &Measure::PRINCIPLES);
    table(&mut text, "Refusals", results, &Measure::REFUSALS);
    if let Some(judges) = &results.judges {
        agreement(&mut text, judges);
    }
    text
}

fn agreement(text: &mut String, judges: &Judges) {
    *text += "\n## How far judges agree\n\n| Principle | Judges | Replies | Agree on | Cohen's kappa |\n";
    *text += "|---|---|---:|---:|---:|\n";
    for of in &judges.agreement {
        for pair in &of.pairs {
            let (a, b, n, same) = (&pair.a, &pair.b, pair.n, pair.same);
            let kappa = show(&pair.kappa);
            let _ = writeln!(text, "| {} | {a}, {b} | {n} | {same:.2} | {kappa} |", of.principle);
        }
        if of.pairs.len() > 1 {
            let (n, alpha) = (of.n, show(&of.alpha));
            let _ = writeln!(text, "| {} | all | {n} | | alpha {alpha} |", of.principle);
        }
    }
}

fn list(text: &mut String, title: &str, lines: &[String]) {
    if !lines.is_empty() {
        *text += &format!("\n## {title}\n\n");
        lines.iter().for_each(|line| *text += &format!("- {line}.\n"));
    }
}

fn table(text: &mut String, title: &str, results: &Results, measures: &[Measure]) {
    let labels: Vec<&str> = measures.iter().map(|measure| measure.label()).collect();
    *text += &format!("\n## {title}\n\n| Model | {} |\n", labels.join(" | "));
    *text += &format!("|---{}|\n", "|---:".repeat(measures.len()));
    for model in &results.models {
        let cells: Vec<String> =
            measures.iter().map(|m| model.measures.get(m).map_or("–".into(), cell)).collect();
        // Names hold letters, digits, dots, dashes and underscores only: nothing to escape.
        let _ = writeln!(text, "| {} | {} |", model.name, cells.join(" | "));
    }
}

fn cell(estimate: &Estimate) -> String {
    match (estimate.low, estimate.high) {
        (Some(low), Some(high)) => format!("{:.2} ({low:.2} to {high:.2})", estimate.mean),
        _ => format!("{:.2}", estimate.mean),
    }
}
