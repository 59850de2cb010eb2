//! The study in tables and figures: means over seeds, with t-intervals.

use std::{fmt::Write as _, path::Path};

use anyhow::Result;
use evaluator::{Measure, figures::line_chart};

use super::{
    StudyConfig,
    results::{CRITIQUED, DIRECT, MEASURES, Revised, SeedResults, of_principles},
};

/// The 97.5 % quantiles of Student's t with 1, 2, … degrees of freedom.
const T: [f64; 10] = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228];

/// A mean over seeds and half its 95 % t-interval, which takes two seeds at least.
fn mean(values: &[f64]) -> (f64, Option<f64>) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let half = (values.len() > 1).then(|| {
        let squares: f64 = values.iter().map(|x| (x - mean).powi(2)).sum();
        let t = T.get(values.len() - 2).copied().unwrap_or(1.96);
        t * (squares / (n - 1.0) / n).sqrt()
    });
    (mean, half)
}

/// "0.50 ± 0.10", with a sign for differences; a dash without values.
fn show(values: &[f64], signed: bool) -> String {
    if values.is_empty() {
        return "–".into();
    }
    let (mean, half) = mean(values);
    let half = half.map_or(String::new(), |half| format!(" ± {half:.3}"));
    if signed { format!("{mean:+.3}{half}") } else { format!("{mean:.3}{half}") }
}

type Score = fn(&Revised) -> &Vec<f64>;

/// A score after each number of revisions, of every seed.
fn by_round(results: &[SeedResults], name: &str, score: Score) -> Vec<Vec<f64>> {
    let of_seed = |seed: &SeedResults| seed.revised.get(name).map(|revised| score(revised).clone());
    let seeds: Vec<Vec<f64>> = results.iter().filter_map(of_seed).collect();
    let rounds = seeds.iter().map(Vec::len).min().unwrap_or(0);
    (0..rounds).map(|round| seeds.iter().map(|scores| scores[round]).collect()).collect()
}

fn harmlessness(revised: &Revised) -> &Vec<f64> {
    &revised.harmlessness
}

/// The tables.
pub fn markdown(config: &StudyConfig, results: &[SeedResults]) -> String {
    let mut text = format!(
        "# Study\n\nMeans over {} seeds, ± half a 95 % t-interval over the seeds. The scores are those \
         of the judge who knows the truth, unless said otherwise.\n",
        results.len()
    );
    let _ = writeln!(
        text,
        "\n## Revisions\n\n{} red-team prompts, {} rounds, none ends early.\n\n| revisions | harmlessness | \
         change | harmlessness, direct | helpfulness | helpfulness, direct | by the classifier |\n\
         |--:|--:|--:|--:|--:|--:|--:|",
        config.prompts, config.rounds
    );
    let helpfulness: Score = |revised| &revised.helpfulness;
    let classifier: Score = |revised| &revised.harm_prevention;
    let critiqued = by_round(results, CRITIQUED, harmlessness);
    let columns = [
        (DIRECT, harmlessness as Score),
        (CRITIQUED, helpfulness),
        (DIRECT, helpfulness),
        (CRITIQUED, classifier),
    ]
    .map(|(name, score)| by_round(results, name, score));
    for (round, values) in critiqued.iter().enumerate() {
        let change: Vec<f64> = match round {
            0 => Vec::new(),
            _ => {
                values.iter().zip(&critiqued[round - 1]).map(|(now, before)| now - before).collect()
            }
        };
        let _ = write!(text, "| {round} | {} | {} |", show(values, false), show(&change, true));
        for column in &columns {
            let values = column.get(round).map_or(&[][..], Vec::as_slice);
            let _ = write!(text, " {} |", show(values, false));
        }
        text.push('\n');
    }

    text += "\n## Number of principles\n\n| principles | harmlessness after all rounds | helpfulness |\n|--:|--:|--:|\n";
    for &count in &config.principles {
        let name = of_principles(count);
        let last = |score| by_round(results, &name, score).pop().unwrap_or_default();
        let (harmless, helpful) = (last(harmlessness), last(helpfulness));
        let _ =
            writeln!(text, "| {count} | {} | {} |", show(&harmless, false), show(&helpful, false));
    }

    text += "\n## Models\n\nOn the evaluation prompts.\n\n| model |";
    MEASURES.iter().for_each(|measure| text += &format!(" {} |", measure.key()));
    text += "\n|--|--:|--:|--:|--:|\n";
    let names = || results.first().into_iter().flat_map(|seed| &seed.models).map(|(name, _)| name);
    for name in names() {
        let _ = write!(text, "| {name} |");
        for measure in MEASURES {
            let values: Vec<f64> =
                results.iter().filter_map(|seed| seed.model(name, measure)).collect();
            let _ = write!(text, " {} |", show(&values, false));
        }
        text.push('\n');
    }
    text += "\n| difference |";
    MEASURES.iter().for_each(|measure| text += &format!(" {} |", measure.key()));
    text += "\n|--|--:|--:|--:|--:|\n";
    let base = "dpo";
    let others = names().filter(|name| name.starts_with("dpo-") || *name == "sl-cai");
    for other in others {
        let _ = write!(text, "| {base} minus {other} |");
        for measure in MEASURES {
            let difference =
                |seed: &SeedResults| Some(seed.model(base, measure)? - seed.model(other, measure)?);
            let values: Vec<f64> = results.iter().filter_map(difference).collect();
            let _ = write!(text, " {} |", show(&values, true));
        }
        text.push('\n');
    }
    text
}

/// Harmlessness by the number of revisions, with and without critiques and by number of principles,
/// and the models' harmlessness by seed.
///
/// # Errors
///
/// When a figure cannot be drawn or written.
pub fn figures(results: &[SeedResults], dir: &Path) -> Result<()> {
    let line = |name: &str| {
        let points = by_round(results, name, harmlessness);
        let points =
            points.iter().enumerate().map(|(round, values)| (round as f64, mean(values).0));
        (name.to_owned(), points.collect::<Vec<_>>())
    };
    let draw = |title: &str, lines: &[(String, Vec<(f64, f64)>)], file: &str| {
        line_chart(title, lines, "revisions", "harmlessness (truth)", &dir.join(file), None)
    };
    draw("Harmlessness by number of revisions", &[line(CRITIQUED), line(DIRECT)], "revisions.svg")?;
    let names = results.first().into_iter().flat_map(|seed| seed.revised.keys());
    let mut counted: Vec<&String> = names.filter(|name| name.ends_with("principles")).collect();
    counted.sort_by_key(|name| name.split(' ').next().and_then(|n| n.parse::<usize>().ok()));
    let lines: Vec<_> = counted.into_iter().map(|name| line(name)).collect();
    draw("Harmlessness by number of principles", &lines, "principles.svg")?;

    let names = results.first().into_iter().flat_map(|seed| &seed.models);
    let lines: Vec<_> = names
        .map(|(name, _)| {
            let points = results.iter().enumerate().filter_map(|(i, seed)| {
                Some((i as f64 + 1.0, seed.model(name, Measure::JudgedHarmlessness)?))
            });
            (name.clone(), points.collect::<Vec<_>>())
        })
        .collect();
    let (title, path) = ("Harmlessness of the models, seed by seed", dir.join("models.svg"));
    Ok(line_chart(title, &lines, "seed", "harmlessness (truth)", &path, None)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn means_have_t_intervals() {
        let (mean, half) = mean(&[1.0, 2.0, 3.0]);
        assert!((mean - 2.0).abs() < 1e-12);
        assert!((half.unwrap() - 4.303 / 3f64.sqrt()).abs() < 1e-9);
        assert_eq!(super::mean(&[1.0]).1, None);
        assert_eq!(show(&[], true), "–");
    }

    #[test]
    fn tables_hold_rounds_principles_and_differences() {
        let revised = |scores: [f64; 2]| Revised {
            harmlessness: scores.into(),
            helpfulness: scores.into(),
            harm_prevention: scores.into(),
        };
        let model = |name: &str, score: f64| {
            let measures = MEASURES.map(|measure| (measure.key().to_owned(), score));
            (name.to_owned(), BTreeMap::from(measures))
        };
        let results: Vec<SeedResults> = (0..3u8)
            .map(|i| SeedResults {
                seed: i.into(),
                revised: BTreeMap::from([
                    (CRITIQUED.to_owned(), revised([0.1, 0.5])),
                    (DIRECT.to_owned(), revised([0.1, 0.4])),
                    (of_principles(4), revised([0.1, 0.6])),
                ]),
                models: vec![model("sl-cai", 0.5), model("dpo", 0.75), model("dpo-hard", 0.7)],
            })
            .collect();
        let config = StudyConfig {
            name: "study".into(),
            base: "b".into(),
            seeds: vec![0, 1, 2],
            set: Vec::new(),
            prompts: 9,
            rounds: 1,
            principles: vec![4],
            dpo: BTreeMap::new(),
        };
        let text = markdown(&config, &results);
        for row in [
            "| 1 | 0.500 ± 0.000 | +0.400 ± 0.000 | 0.400 ± 0.000 |",
            "| 4 | 0.600 ± 0.000 |",
            "| dpo minus sl-cai | +0.250 ± 0.000 |",
            "| dpo minus dpo-hard | +0.050 ± 0.000 |",
        ] {
            assert!(text.contains(row), "{row}\n{text}");
        }
        let dir = tempfile::tempdir().unwrap();
        figures(&results, dir.path()).unwrap();
        assert!(dir.path().join("models.svg").exists());
    }
}
