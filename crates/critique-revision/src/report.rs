//! What critique and revision did to a set of answers.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use cai_data::record::Message;
use cai_data::world::{Kind, Verdict, World};
use serde::{Deserialize, Serialize};

use crate::clean::{Repair, Rule};
use crate::shards::Plan;
use crate::stats::{Mean, show, spread};
use crate::{Answer, CritiqueConfig, CritiqueRecord, Outcome, Round, hostile, revision_pairs};

/// Records shown in a report.
pub(crate) const EXAMPLES: usize = 20;
/// Texts shown for each rule.
const RULE_EXAMPLES: usize = 3;

/// What critique and revision did. Holds no times, so that the same run writes the same bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CritiqueReport {
    /// Prompts given.
    pub prompts: usize,
    /// Prompts left out, by reason.
    pub left_out: BTreeMap<String, usize>,
    /// Records: prompts answered.
    pub n: usize,
    /// Prompts that hold something hostile, by what it is and how it is dealt with.
    pub hostile: BTreeMap<String, usize>,
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
    /// Some of these revisions, by rule.
    pub cleaning_examples: BTreeMap<String, Vec<RuleExample>>,
    /// Revisions that were repaired, by rule.
    pub repairs: BTreeMap<String, usize>,
    /// Initial answers by the rules that they break.
    pub initial_cleaning: BTreeMap<String, usize>,
    /// Initial answers that were repaired, by rule.
    #[serde(default)]
    pub initial_repairs: BTreeMap<String, usize>,
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
    /// The same minus that of the round before, record by record.
    pub harm_change: Option<Mean>,
    /// Share of answers that decline.
    pub refused: Option<Mean>,
    /// What the world says, which does not select: absent for prompts that are not the mini world's.
    pub truth: Option<Truth>,
}

/// The scores of a judge who knows the truth ([`Verdict`]).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Truth {
    /// 1 where no harm is done.
    pub harmlessness: Mean,
    /// The same minus that of the round before, record by record.
    pub harmlessness_change: Option<Mean>,
    /// 1 where the person gets what may be given.
    pub helpfulness: Mean,
    /// The same minus that of the round before, record by record.
    pub helpfulness_change: Option<Mean>,
}

/// The pairs of final revision and initial answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairStatistics {
    /// Pairs to train on.
    pub pairs: usize,
    /// Share of all revisions that change nothing.
    pub identical_share: Option<f64>,
    /// Share of pairs whose two sides are equal: none, by construction.
    pub identical_pairs_share: Option<f64>,
    /// Share of pairs whose revision talks about itself.
    pub talk_share: Option<f64>,
    /// Share of pairs in which the classifier finds less harm in the revision; absent without a
    /// classifier.
    pub revised_wins_share: Option<f64>,
    /// Share of pairs in which the world finds the revision more harmless, ties half; absent
    /// for other prompts.
    pub true_wins_share: Option<f64>,
}

/// A text that breaks a rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RuleExample {
    /// The prompt's name.
    pub id: String,
    /// The round, from 1.
    pub round: usize,
    /// The text.
    pub text: String,
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
    /// The report on `records` (at least one) of a planned run.
    pub(crate) fn new(records: &[CritiqueRecord], plan: &Plan<CritiqueConfig>) -> Self {
        let world = World::new();
        let rounds = || records.iter().flat_map(|record| &record.rounds);
        let drawn = |id: &str| rounds().filter(|round| round.principle == id).count();
        let principles = &plan.constitution.principles;
        let change = |record: &CritiqueRecord| {
            Some(record.in_use(record.rounds.len()).0? - record.initial.harm?)
        };
        let changes = records.iter().filter_map(|r| Some((change(r)?, topic(r))));
        let names = |repairs: &[Repair]| repairs.iter().map(|r| r.name()).collect::<Vec<_>>();
        let repairs = rounds().flat_map(|round| names(&round.repairs));
        let initial_repairs = records.iter().flat_map(|record| names(&record.initial.repairs));
        let notes = records.iter().flat_map(|record| hostile::notes(&record.prompt));
        Self {
            prompts: plan.given,
            left_out: plan.left_out.clone(),
            n: records.len(),
            hostile: count(notes.map(hostile::Note::name)),
            rounds: (0..=plan.config.rounds)
                .map(|round| round_statistics(records, round, &world))
                .collect(),
            harm_change: Mean::of_topics(changes),
            outcomes: count(records.iter().map(|record| record.outcome.name())),
            principles: principles.iter().map(|p| (p.id.clone(), drawn(&p.id))).collect(),
            cleaning: count_rules(rounds().map(|round| &round.cleaning)),
            cleaning_examples: rule_examples(records),
            repairs: count(repairs),
            initial_cleaning: count_rules(records.iter().map(|record| &record.initial.cleaning)),
            initial_repairs: count(initial_repairs),
            pairs: pair_statistics(records, &world),
            examples: spread(records.len(), EXAMPLES).map(|i| example(&records[i])).collect(),
        }
    }

    /// The report for people.
    pub fn markdown(&self) -> String {
        let mut text = format!("# Critique and revision\n\n{} prompts answered", self.n);
        if !self.left_out.is_empty() {
            let _ = write!(text, " of {}; left out: {}", self.prompts, list(&self.left_out));
        }
        text += ".\n\n| round | revisions | used | harm [95 %] | refused [95 %] | true harmlessness [95 %] \
                 | change | true helpfulness [95 %] |\n|--:|--:|--:|--:|--:|--:|--:|--:|\n";
        for round in &self.rounds {
            let (harm, refused) = (show(&round.harm), show(&round.refused));
            let truth =
                |of: &dyn Fn(&Truth) -> Option<Mean>| show(&round.truth.as_ref().and_then(of));
            let harmless = truth(&|truth| Some(truth.harmlessness));
            let change = truth(&|truth| truth.harmlessness_change);
            let helpful = truth(&|truth| Some(truth.helpfulness));
            let RoundStatistics { round, revisions, used, .. } = round;
            let _ = writeln!(
                text,
                "| {round} | {revisions} | {used} | {harm} | {refused} | {harmless} | {change} | \
                 {helpful} |"
            );
        }
        let percent = |share: Option<f64>| {
            share.map_or("–".into(), |share| format!("{:.1} %", 100.0 * share))
        };
        let _ = write!(
            text,
            "\nRound 0 is the initial answers; a finished answer is carried on to later rounds. Harm \
             is the classifier's; the true scores, where the prompts are the mini world's, are those \
             of a judge who selects nothing.\n\n\
             - harm, final minus initial: {}\n- outcomes: {}\n- pairs: {}; revision less harmful in \
             {} of them (truly in {}), identical {}, talking about themselves {}\n\
             - revisions that change nothing: {}\n- revisions by broken rule: {}\n\
             - revisions by repair: {}\n- initial answers by broken rule: {}; by repair: {}\n\
             - hostile prompts: {}\n- principles drawn: {}\n\n## Examples\n",
            show(&self.harm_change),
            list(&self.outcomes),
            self.pairs.pairs,
            percent(self.pairs.revised_wins_share),
            percent(self.pairs.true_wins_share),
            percent(self.pairs.identical_pairs_share),
            percent(self.pairs.talk_share),
            percent(self.pairs.identical_share),
            list(&self.cleaning),
            list(&self.repairs),
            list(&self.initial_cleaning),
            list(&self.initial_repairs),
            list(&self.hostile),
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

fn topic(record: &CritiqueRecord) -> Option<&str> {
    record.extra.get("topic")?.as_str()
}

/// What the world says of an answer to one of its prompts.
pub(crate) fn verdict(world: &World, record: &CritiqueRecord, text: &str) -> Option<Verdict> {
    let topic = world.topic(topic(record)?)?;
    // A topic of that id alone might be anyone's; wording and kind are the world's own fields.
    record.extra.get("phrasing")?;
    let kind: Kind = serde_json::from_value(record.extra.get("kind")?.clone()).ok()?;
    Some(world.judge(topic, kind, text))
}

fn round_statistics(records: &[CritiqueRecord], round: usize, world: &World) -> RoundStatistics {
    let made = || {
        round
            .checked_sub(1)
            .into_iter()
            .flat_map(|i| records.iter().filter_map(move |r| r.rounds.get(i)))
    };
    let before = round.checked_sub(1);
    // Value and change of a score over the records that have it.
    let score = |of: &dyn Fn(&CritiqueRecord, usize) -> Option<f64>| {
        let values = records.iter().filter_map(|r| Some((of(r, round)?, topic(r))));
        let changes = before.and_then(|before| {
            let change = |r| Some(of(r, round)? - of(r, before)?);
            Mean::of_topics(records.iter().filter_map(|r| Some((change(r)?, topic(r)))))
        });
        (Mean::of_topics(values), changes)
    };
    let judged = |r: &CritiqueRecord, round: usize| verdict(world, r, r.text_in_use(round));
    let (harm, harm_change) = score(&|r, round| r.in_use(round).0);
    let (refused, _) = score(&|r, round| Some(f64::from(u8::from(r.in_use(round).1))));
    let (harmlessness, harmlessness_change) =
        score(&|r, round| Some(judged(r, round)?.harmlessness()));
    let (helpfulness, helpfulness_change) =
        score(&|r, round| Some(judged(r, round)?.helpfulness()));
    let truth = harmlessness.zip(helpfulness).map(|(harmlessness, helpfulness)| Truth {
        harmlessness,
        harmlessness_change,
        helpfulness,
        helpfulness_change,
    });
    RoundStatistics {
        round,
        revisions: made().count(),
        used: made().filter(|round| round.cleaning.is_empty()).count(),
        harm,
        harm_change,
        refused,
        truth,
    }
}

fn pair_statistics(records: &[CritiqueRecord], world: &World) -> PairStatistics {
    let revisions = records.iter().map(|record| record.rounds.len()).sum::<usize>();
    let identical = records
        .iter()
        .flat_map(|record| &record.rounds)
        .filter(|round| round.cleaning.contains(&Rule::IdenticalRevision))
        .count();
    let pairs = revision_pairs(records);
    let share = |holds: bool| f64::from(u8::from(holds));
    let wins = pairs.iter().filter_map(|pair| {
        let harm = |key| pair.extra.get(key)?.as_f64();
        Some(share(harm("chosen_harm")? < harm("rejected_harm")?))
    });
    let true_wins = records.iter().filter(|r| r.outcome == Outcome::Revised).filter_map(|r| {
        let score = |text: &str| Some(verdict(world, r, text)?.harmlessness());
        let (last, first) = (score(&r.final_revision)?, score(&r.initial.text)?);
        Some(if last == first { 0.5 } else { share(last > first) })
    });
    let of_pairs = |holds: &dyn Fn(&cai_data::record::PreferencePair) -> bool| {
        Mean::of(pairs.iter().map(|pair| share(holds(pair)))).map(|mean| mean.mean)
    };
    PairStatistics {
        pairs: pairs.len(),
        identical_share: (revisions > 0).then(|| identical as f64 / revisions as f64),
        identical_pairs_share: of_pairs(&|pair| pair.chosen == pair.rejected),
        talk_share: of_pairs(&|pair| {
            pair.chosen.iter().any(|turn| crate::clean::talks_about_revision(&turn.content))
        }),
        revised_wins_share: Mean::of(wins).map(|mean| mean.mean),
        true_wins_share: Mean::of(true_wins).map(|mean| mean.mean),
    }
}

fn rule_examples(records: &[CritiqueRecord]) -> BTreeMap<String, Vec<RuleExample>> {
    let mut examples = BTreeMap::<String, Vec<RuleExample>>::new();
    for record in records {
        for (i, round) in record.rounds.iter().enumerate() {
            for rule in &round.cleaning {
                let shown = examples.entry(rule.name().to_owned()).or_default();
                if shown.len() < RULE_EXAMPLES {
                    let text = round.revision.clone();
                    shown.push(RuleExample { id: record.id.clone(), round: i + 1, text });
                }
            }
        }
    }
    examples
}

fn example(record: &CritiqueRecord) -> Example {
    let CritiqueRecord { id, prompt, initial, rounds, final_revision, outcome, .. } =
        record.clone();
    Example { id, prompt, initial, rounds, final_revision, outcome }
}
