//! What critique and revision did to a set of answers.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use cai_data::constitution::Constitution;
use cai_data::record::Message;
use serde::{Deserialize, Serialize};

use crate::clean::Rule;
use crate::stats::{Mean, show, spread};
use crate::{Answer, CritiqueConfig, CritiqueRecord, Outcome, Round, revision_pairs};

/// Records shown in a report.
pub(crate) const EXAMPLES: usize = 20;

/// What critique and revision did. Holds no times, so that the same run writes the same bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CritiqueReport {
    /// Prompts given.
    pub prompts: usize,
    /// Prompts left out, by reason.
    pub left_out: BTreeMap<String, usize>,
    /// Records: prompts answered.
    pub n: usize,
    /// The answers in use after each round; the first entry is the initial answers.
    pub rounds: Vec<RoundStatistics>,
    /// Harm of the final answer minus harm of the initial one, record by record.
    pub harm_change: Option<Mean>,
    /// Records by what came of them: `revised`, `safe`, `unchanged`.
    pub outcomes: BTreeMap<String, usize>,
    /// How often each principle was drawn.
    pub principles: BTreeMap<String, usize>,
    /// Revisions by the rules that they break. A revision can break several.
    pub cleaning: BTreeMap<String, usize>,
    /// Initial answers by the rules that they break.
    pub initial_cleaning: BTreeMap<String, usize>,
    /// The pairs of final revision and initial answer.
    pub pairs: PairStatistics,
    /// Some records, spread evenly.
    pub examples: Vec<Example>,
}

/// The answers in use after a round; records that were finished before keep theirs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoundStatistics {
    /// The round; 0 is before the first.
    pub round: usize,
    /// Revisions made in this round.
    pub revisions: usize,
    /// Revisions of this round that replaced the answer.
    pub used: usize,
    /// The classifier's harm probability; absent without a classifier.
    pub harm: Option<Mean>,
    /// Share of answers that decline.
    pub refused: Option<Mean>,
}

/// The pairs of final revision and initial answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairStatistics {
    /// Pairs to train on.
    pub pairs: usize,
    /// Share of all revisions that change nothing.
    pub identical_share: Option<f64>,
    /// Share of pairs in which the classifier finds less harm in the revision; absent without a
    /// classifier.
    pub revised_wins_share: Option<f64>,
}

/// A record in a report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Example {
    /// The prompt's name.
    pub id: String,
    /// The turns that were answered.
    pub prompt: Vec<Message>,
    /// The first answer.
    pub initial: Answer,
    /// Critiques and revisions.
    pub rounds: Vec<Round>,
    /// The answer in use at the end.
    pub final_revision: String,
    /// What came of it.
    pub outcome: Outcome,
}

impl CritiqueReport {
    /// The report on `records` (at least one), of `prompts` prompts of which some were left out.
    pub(crate) fn new(
        records: &[CritiqueRecord],
        constitution: &Constitution,
        config: &CritiqueConfig,
        prompts: usize,
        left_out: BTreeMap<String, usize>,
    ) -> Self {
        let rounds = || records.iter().flat_map(|record| &record.rounds);
        let drawn = |id: &str| rounds().filter(|round| round.principle == id).count();
        let principles =
            constitution.principles.iter().map(|p| (p.id.clone(), drawn(&p.id))).collect();
        let change = |record: &CritiqueRecord| {
            Some(record.in_use(record.rounds.len()).0? - record.initial.harm?)
        };
        Self {
            prompts,
            left_out,
            n: records.len(),
            rounds: (0..=config.rounds).map(|round| round_statistics(records, round)).collect(),
            harm_change: Mean::of(records.iter().filter_map(change)),
            outcomes: count(records.iter().map(|record| record.outcome.name())),
            principles,
            cleaning: count_rules(rounds().map(|round| &round.cleaning)),
            initial_cleaning: count_rules(records.iter().map(|record| &record.initial.cleaning)),
            pairs: pair_statistics(records),
            examples: spread(records.len(), EXAMPLES).map(|i| example(&records[i])).collect(),
        }
    }

    /// The report for people.
    pub fn markdown(&self) -> String {
        let mut text = format!("# Critique and revision\n\n{} prompts answered", self.n);
        if !self.left_out.is_empty() {
            let _ = write!(text, " of {}; left out: {}", self.prompts, list(&self.left_out));
        }
        text += ".\n\n| round | revisions | used | harm [95 %] | refused [95 %] |\n|--:|--:|--:|--:|--:|\n";
        for round in &self.rounds {
            let (harm, refused) = (show(&round.harm), show(&round.refused));
            let RoundStatistics { round, revisions, used, .. } = round;
            let _ = writeln!(text, "| {round} | {revisions} | {used} | {harm} | {refused} |");
        }
        let percent = |share: Option<f64>| {
            share.map_or("–".into(), |share| format!("{:.1} %", 100.0 * share))
        };
        let _ = write!(
            text,
            "\nRound 0 is the initial answers; a finished answer is carried on to later rounds.\n\n\
             - harm, final minus initial: {}\n- outcomes: {}\n- pairs: {}; revision less harmful in \
             {} of them\n- revisions that change nothing: {}\n- revisions by broken rule: {}\n\
             - initial answers by broken rule: {}\n- principles drawn: {}\n\n## Examples\n",
            show(&self.harm_change),
            list(&self.outcomes),
            self.pairs.pairs,
            percent(self.pairs.revised_wins_share),
            percent(self.pairs.identical_share),
            list(&self.cleaning),
            list(&self.initial_cleaning),
            list(&self.principles),
        );
        for example in &self.examples {
            text += &example.markdown();
        }
        text
    }
}

impl Example {
    fn markdown(&self) -> String {
        let mut text = format!("\n### {} ({})\n\n", self.id, self.outcome.name());
        for message in &self.prompt {
            let speaker = format!("{:?}", message.role).to_lowercase();
            let _ = writeln!(text, "- {speaker}: {}", one_line(&message.content));
        }
        let harm = |harm: Option<f64>| harm.map_or(String::new(), |p| format!(" (harm {p:.2})"));
        let Answer { text: initial, harm: initial_harm, .. } = &self.initial;
        let _ = writeln!(text, "- answer{}: {}", harm(*initial_harm), one_line(initial));
        for round in &self.rounds {
            let broken: Vec<&str> = round.cleaning.iter().map(|rule| rule.name()).collect();
            let fate = match broken.is_empty() {
                true => String::new(),
                false => format!(" [not used: {}]", broken.join(", ")),
            };
            let _ = writeln!(
                text,
                "- critique by {}: {}\n- revision{}{fate}: {}",
                round.principle,
                one_line(&round.critique),
                harm(round.harm),
                one_line(&round.revision),
            );
        }
        text
    }
}

/// Text on one line, so that it stays one item of a list.
pub(crate) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Counts by name, for a sentence.
pub(crate) fn list(counts: &BTreeMap<String, usize>) -> String {
    if counts.is_empty() {
        return "none".into();
    }
    counts.iter().map(|(name, n)| format!("{n} {name}")).collect::<Vec<_>>().join(", ")
}

pub(crate) fn count<'a>(names: impl Iterator<Item = &'a str>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for name in names {
        *counts.entry(name.to_owned()).or_default() += 1;
    }
    counts
}

pub(crate) fn count_rules<'a>(
    broken: impl Iterator<Item = &'a Vec<Rule>>,
) -> BTreeMap<String, usize> {
    count(broken.flatten().map(|rule| rule.name()))
}

fn round_statistics(records: &[CritiqueRecord], round: usize) -> RoundStatistics {
    let made = || {
        round
            .checked_sub(1)
            .into_iter()
            .flat_map(|i| records.iter().filter_map(move |r| r.rounds.get(i)))
    };
    let in_use: Vec<(Option<f64>, bool)> = records.iter().map(|r| r.in_use(round)).collect();
    RoundStatistics {
        round,
        revisions: made().count(),
        used: made().filter(|round| round.cleaning.is_empty()).count(),
        harm: Mean::of(in_use.iter().filter_map(|(harm, _)| *harm)),
        refused: Mean::of(in_use.iter().map(|(_, refused)| f64::from(u8::from(*refused)))),
    }
}

fn pair_statistics(records: &[CritiqueRecord]) -> PairStatistics {
    let revisions = records.iter().map(|record| record.rounds.len()).sum::<usize>();
    let identical = records
        .iter()
        .flat_map(|record| &record.rounds)
        .filter(|round| round.cleaning.contains(&Rule::IdenticalRevision))
        .count();
    let pairs = revision_pairs(records);
    let wins = pairs.iter().filter_map(|pair| {
        let harm = |key| pair.extra.get(key)?.as_f64();
        Some(f64::from(u8::from(harm("chosen_harm")? < harm("rejected_harm")?)))
    });
    PairStatistics {
        pairs: pairs.len(),
        identical_share: (revisions > 0).then(|| identical as f64 / revisions as f64),
        revised_wins_share: Mean::of(wins).map(|mean| mean.mean),
    }
}

fn example(record: &CritiqueRecord) -> Example {
    let CritiqueRecord { id, prompt, initial, rounds, final_revision, outcome, .. } =
        record.clone();
    Example { id, prompt, initial, rounds, final_revision, outcome }
}
