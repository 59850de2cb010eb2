//! What the feedback model said about a set of samples.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use cai_chat::Judgement;
use cai_data::record::{Message, PreferencePair};
use serde::{Deserialize, Serialize};

use crate::report::{EXAMPLES, count, count_rules, list, one_line};
use crate::shards::Plan;
use crate::stats::{Mean, show, spread};
use crate::{Comparison, FeedbackConfig, FeedbackRecord, hostile};

/// Bins of the histogram, from undecided to sure.
const BINS: usize = 10;

/// What AI feedback gave. Holds no times, so that the same run writes the same bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeedbackReport {
    /// Prompts given.
    pub prompts: usize,
    /// Prompts left out, by reason.
    pub left_out: BTreeMap<String, usize>,
    /// Records: prompts answered.
    pub n: usize,
    /// Prompts that hold something hostile, by what it is and how it is dealt with.
    pub hostile: BTreeMap<String, usize>,
    /// Pairs of samples: compared, or dropped before.
    pub comparisons: usize,
    /// Preference pairs to train on.
    pub pairs: usize,
    /// Comparisons that gave no pair, by reason.
    pub dropped: BTreeMap<String, usize>,
    /// Samples by the rules that they break.
    pub sample_cleaning: BTreeMap<String, usize>,
    /// Samples that were repaired, by rule.
    #[serde(default)]
    pub sample_repairs: BTreeMap<String, usize>,
    /// Share of the chosen samples that decline.
    pub chosen_refused: Option<Mean>,
    /// Share of the rejected samples that decline.
    pub rejected_refused: Option<Mean>,
    /// How sure the feedback model is of the better sample: 0 undecided, 1 sure.
    pub confidence: Option<Mean>,
    /// Mean probability of the sample shown as (A) over both orders, minus a half.
    pub position_bias: Option<Mean>,
    /// Share of judgements that prefer the same sample in both orders.
    pub order_agreement: Option<Mean>,
    /// Judgements under each principle.
    pub principles: BTreeMap<String, PrincipleFeedback>,
    /// Comparisons by the better sample's probability, from 0.5 to 1.
    pub histogram: Vec<Bin>,
    /// Some preference pairs, spread evenly.
    pub examples: Vec<FeedbackExample>,
}

/// The judgements under one principle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PrincipleFeedback {
    /// How many.
    pub judgements: usize,
    /// Share that prefers the sample which is preferred on average over the principles.
    pub agreement: f64,
    /// As in the report, under this principle.
    pub position_bias: f64,
}

/// A bin of the histogram.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    /// Lower end, in the bin.
    pub low: f64,
    /// Upper end, not in the bin unless it is 1.
    pub high: f64,
    /// Comparisons in it.
    pub count: usize,
}

/// A preference pair in a report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeedbackExample {
    /// The prompt's name.
    pub id: String,
    /// The turns that were answered.
    pub prompt: Vec<Message>,
    /// The better sample.
    pub chosen: String,
    /// The other.
    pub rejected: String,
    /// The probability that goes into training.
    pub chosen_probability: Option<f64>,
}

impl FeedbackReport {
    /// The report on `records` of a planned run.
    pub(crate) fn new(
        records: &[FeedbackRecord],
        pairs: &[PreferencePair],
        dropped: BTreeMap<String, usize>,
        plan: &Plan<FeedbackConfig>,
    ) -> Self {
        let comparisons = || records.iter().flat_map(|record| &record.comparisons);
        let judgements = || comparisons().flat_map(|comparison| &comparison.judgements);
        let notes = records.iter().flat_map(|record| hostile::notes(&record.prompt));
        let samples = || records.iter().flat_map(|record| &record.samples);
        let repairs = samples().flat_map(|sample| &sample.repairs).map(|repair| repair.name());
        let better: Vec<f64> = comparisons()
            .filter_map(Comparison::first_probability)
            .map(|first| first.max(1.0 - first))
            .collect();
        let declines = |messages: &[Message]| {
            let refused = messages.iter().any(|m| cai_data::refusal::is_refusal(&m.content));
            share(refused)
        };
        Self {
            prompts: plan.given,
            left_out: plan.left_out.clone(),
            n: records.len(),
            hostile: count(notes.map(hostile::Note::name)),
            comparisons: comparisons().count(),
            pairs: pairs.len(),
            dropped,
            sample_cleaning: count_rules(samples().map(|sample| &sample.cleaning)),
            sample_repairs: count(repairs),
            chosen_refused: Mean::of(pairs.iter().map(|pair| declines(&pair.chosen))),
            rejected_refused: Mean::of(pairs.iter().map(|pair| declines(&pair.rejected))),
            confidence: Mean::of(better.iter().map(|p| 2.0 * p - 1.0)),
            position_bias: Mean::of(judgements().map(Judgement::position_bias)),
            order_agreement: Mean::of(judgements().map(|j| share(j.orders_agree()))),
            principles: by_principle(comparisons()),
            histogram: histogram(&better),
            examples: spread(pairs.len(), EXAMPLES).map(|i| example(&pairs[i])).collect(),
        }
    }

    /// The report for people.
    pub fn markdown(&self) -> String {
        let mut text = format!(
            "# AI feedback\n\n{} prompts answered, {} comparisons, {} preference pairs.\n\n\
             - prompts left out: {}\n- hostile prompts: {}\n- comparisons without a pair: {}\n- samples by broken rule: \
             {}; by repair: {}\n- confidence: {}\n- position bias: {}\n- both orders agree: {}\n- chosen samples \
             that decline: {}\n- rejected samples that decline: {}\n",
            self.n,
            self.comparisons,
            self.pairs,
            list(&self.left_out),
            list(&self.hostile),
            list(&self.dropped),
            list(&self.sample_cleaning),
            list(&self.sample_repairs),
            show(&self.confidence),
            show(&self.position_bias),
            show(&self.order_agreement),
            show(&self.chosen_refused),
            show(&self.rejected_refused),
        );
        text += "\n| probability of the better sample | comparisons |\n|--|--:|\n";
        for Bin { low, high, count } in &self.histogram {
            let _ = writeln!(text, "| {low:.2} to {high:.2} | {count} |");
        }
        text += "\n| principle | judgements | agrees with the average | position bias |\n\
                 |--|--:|--:|--:|\n";
        for (id, principle) in &self.principles {
            let PrincipleFeedback { judgements, agreement, position_bias } = principle;
            let _ =
                writeln!(text, "| {id} | {judgements} | {agreement:.3} | {position_bias:+.3} |");
        }
        text += "\n## Examples\n";
        for example in &self.examples {
            let request = example.prompt.last().map_or("", |message| &message.content);
            let _ = write!(
                text,
                "\n### {}\n\n- request: {}\n- chosen ({:.3}): {}\n- rejected: {}\n",
                example.id,
                one_line(request),
                example.chosen_probability.unwrap_or(1.0),
                one_line(&example.chosen),
                one_line(&example.rejected),
            );
        }
        text
    }
}

fn share(holds: bool) -> f64 {
    f64::from(u8::from(holds))
}

fn by_principle<'a>(
    comparisons: impl Iterator<Item = &'a Comparison>,
) -> BTreeMap<String, PrincipleFeedback> {
    let mut sums = BTreeMap::<String, PrincipleFeedback>::new();
    for comparison in comparisons {
        let Some(first) = comparison.first_probability() else { continue };
        for judgement in &comparison.judgements {
            let sum = sums.entry(judgement.principle.clone()).or_insert(PrincipleFeedback {
                judgements: 0,
                agreement: 0.0,
                position_bias: 0.0,
            });
            sum.judgements += 1;
            sum.agreement += share((judgement.first_probability() > 0.5) == (first > 0.5));
            sum.position_bias += judgement.position_bias();
        }
    }
    for sum in sums.values_mut() {
        sum.agreement /= sum.judgements as f64;
        sum.position_bias /= sum.judgements as f64;
    }
    sums
}

fn histogram(better: &[f64]) -> Vec<Bin> {
    let low = |bin: usize| 0.5 + 0.5 * bin as f64 / BINS as f64;
    let bin_of = |p: f64| (((p - 0.5) * 2.0 * BINS as f64) as usize).min(BINS - 1);
    let bin = |bin: usize| Bin {
        low: low(bin),
        high: low(bin + 1),
        count: better.iter().filter(|p| bin_of(**p) == bin).count(),
    };
    (0..BINS).map(bin).collect()
}

fn example(pair: &PreferencePair) -> FeedbackExample {
    let text = |messages: &[Message]| messages.iter().map(|m| m.content.as_str()).collect();
    FeedbackExample {
        id: pair.extra.get("id").and_then(|id| id.as_str()).unwrap_or_default().to_owned(),
        prompt: pair.prompt.clone(),
        chosen: text(&pair.chosen),
        rejected: text(&pair.rejected),
        chosen_probability: pair.chosen_probability,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_probability_is_in_one_bin() {
        let bins = histogram(&[0.5, 0.549, 0.56, 0.99, 1.0]);
        let counts: Vec<usize> = bins.iter().map(|bin| bin.count).collect();
        assert_eq!(counts, [2, 1, 0, 0, 0, 0, 0, 0, 0, 2]);
        assert_eq!((bins[0].low, bins[9].high), (0.5, 1.0));
    }
}
