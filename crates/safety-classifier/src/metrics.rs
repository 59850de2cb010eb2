//! How good predictions are: per class, as a harm detector, and per group of people.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::calibrate::{Fit, called};
use crate::config::Task;

/// Measures of a classifier on labelled texts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Number of texts.
    pub examples: usize,
    /// Share of texts whose predicted label is right; of several labels, all.
    pub accuracy: f64,
    /// Mean F1 over the classes that occur among the texts.
    pub macro_f1: f64,
    /// Mean negative log-likelihood, in nats.
    pub nll: f64,
    /// Expected calibration error of what is predicted, 15 bins.
    pub ece: f64,
    /// Area under the ROC curve of `harm` for harmful against safe texts; none if one is missing.
    pub roc_auc: Option<f64>,
    /// Share of safe texts predicted as harmful; none without safe texts.
    pub false_positive_rate: Option<f64>,
    /// Share of harmful texts predicted as safe; none without harmful texts.
    pub false_negative_rate: Option<f64>,
    /// Measures of each class, in the order of the labels.
    pub per_class: Vec<ClassMetrics>,
    /// `confusion[i][j]`: texts of class i predicted as class j; empty where a text can have several
    /// labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub confusion: Vec<Vec<usize>>,
    /// False positives by group of people; none if no text names a group.
    pub groups: Option<GroupMetrics>,
    /// Texts and accuracy by source; empty if no text names one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sources: BTreeMap<String, SourceAccuracy>,
}

/// How often texts of one source are classified rightly.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SourceAccuracy {
    /// Texts of the source.
    pub examples: usize,
    /// Those classified rightly.
    pub right: usize,
    /// `right / examples`.
    pub accuracy: f64,
}

/// Measures of one class. A ratio without cases is 0, as in scikit-learn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassMetrics {
    /// The class.
    pub label: String,
    /// Share of the texts predicted as this class that are of it.
    pub precision: f64,
    /// Share of the texts of this class that are predicted as it.
    pub recall: f64,
    /// Harmonic mean of precision and recall.
    pub f1: f64,
    /// Texts of this class.
    pub support: usize,
}

/// Whether safe texts about some groups are called harmful more often than about others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupMetrics {
    /// Measures of each group.
    pub groups: BTreeMap<String, GroupRate>,
    /// Largest minus smallest false-positive rate over groups with enough safe texts; none for
    /// fewer than two such groups.
    pub false_positive_gap: Option<f64>,
}

/// False positives of one group.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GroupRate {
    /// Safe texts about the group.
    pub safe: usize,
    /// Those predicted as harmful.
    pub false_positives: usize,
    /// `false_positives / safe`; 0 without safe texts.
    pub false_positive_rate: f64,
}

/// A text's prediction and its truth.
#[derive(Clone, Debug)]
pub struct Outcome<'a> {
    /// Class probabilities, in the order of the labels.
    pub probabilities: Vec<f64>,
    /// The true classes; one where labels exclude each other.
    pub classes: Vec<usize>,
    /// The group of people that the text is about.
    pub group: Option<&'a str>,
    /// Where the text comes from.
    pub source: Option<&'a str>,
}

impl Evaluation {
    /// Measures `outcomes`. `safe` is the position of the safe label; groups with fewer than
    /// `min_group_size` safe texts do not count for the gap.
    pub fn new(
        outcomes: &[Outcome],
        labels: &[String],
        safe: usize,
        task: Task,
        min_group_size: usize,
    ) -> Self {
        let judged: Vec<Judged> =
            outcomes.iter().map(|outcome| Judged::new(outcome, safe, task)).collect();
        let per_class: Vec<ClassMetrics> =
            labels.iter().enumerate().map(|(i, label)| class(i, label, &judged)).collect();
        let present: Vec<f64> =
            per_class.iter().filter(|class| class.support > 0).map(|class| class.f1).collect();
        let count = |of: &dyn Fn(&Judged) -> bool| judged.iter().filter(|text| of(text)).count();
        let (harmful, safe_texts) = (count(&|text| text.harmful), count(&|text| !text.harmful));
        let false_alarms = count(&|text| !text.harmful && text.called_harmful);
        let missed = count(&|text| text.harmful && !text.called_harmful);
        let rows: Vec<Vec<f64>> =
            outcomes.iter().map(|outcome| outcome.probabilities.clone()).collect();
        let truth: Vec<Vec<usize>> =
            outcomes.iter().map(|outcome| outcome.classes.clone()).collect();
        let fit = Fit::new(&rows, &truth, task);
        Self {
            examples: outcomes.len(),
            accuracy: ratio(count(&|text| text.right()), outcomes.len()),
            macro_f1: present.iter().sum::<f64>() / present.len().max(1) as f64,
            nll: fit.nll,
            ece: fit.ece,
            roc_auc: roc_auc(outcomes, safe),
            false_positive_rate: (safe_texts > 0).then(|| ratio(false_alarms, safe_texts)),
            false_negative_rate: (harmful > 0).then(|| ratio(missed, harmful)),
            per_class,
            confusion: match task {
                Task::SingleLabel => confusion(&judged, labels.len()),
                Task::MultiLabel => Vec::new(),
            },
            groups: groups(&judged, min_group_size),
            sources: sources(&judged),
        }
    }
}

/// A text's truth and what was decided about it.
struct Judged<'a> {
    outcome: &'a Outcome<'a>,
    called: Vec<usize>,
    harmful: bool,
    called_harmful: bool,
}

impl<'a> Judged<'a> {
    fn new(outcome: &'a Outcome<'a>, safe: usize, task: Task) -> Self {
        let called = called(&outcome.probabilities, task);
        Self {
            harmful: !outcome.classes.contains(&safe),
            called_harmful: !called.contains(&safe),
            outcome,
            called,
        }
    }

    fn right(&self) -> bool {
        self.called == self.outcome.classes
    }
}

fn confusion(judged: &[Judged], n: usize) -> Vec<Vec<usize>> {
    let mut confusion = vec![vec![0; n]; n];
    for text in judged {
        confusion[text.outcome.classes[0]][text.called[0]] += 1;
    }
    confusion
}

fn class(i: usize, label: &str, judged: &[Judged]) -> ClassMetrics {
    let count = |of: &dyn Fn(&Judged) -> bool| judged.iter().filter(|text| of(text)).count();
    let support = count(&|text| text.outcome.classes.contains(&i));
    let predicted = count(&|text| text.called.contains(&i));
    let hits = count(&|text| text.called.contains(&i) && text.outcome.classes.contains(&i));
    ClassMetrics {
        label: label.into(),
        precision: ratio(hits, predicted),
        recall: ratio(hits, support),
        f1: ratio(2 * hits, support + predicted),
        support,
    }
}

fn ratio(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// The probability that a harmful text has the higher harm of a harmful and a safe one, ties half:
/// the Mann–Whitney statistic, from ranks.
fn roc_auc(outcomes: &[Outcome], safe: usize) -> Option<f64> {
    let mut scored: Vec<(f64, bool)> = outcomes
        .iter()
        .map(|outcome| (1.0 - outcome.probabilities[safe], !outcome.classes.contains(&safe)))
        .collect();
    scored.sort_by(|a, b| a.0.total_cmp(&b.0));
    let harmful = scored.iter().filter(|(_, harmful)| *harmful).count();
    let pairs = harmful * (scored.len() - harmful);
    if pairs == 0 {
        return None;
    }
    let (mut rank_sum, mut start) = (0.0, 0);
    for tied in scored.chunk_by(|a, b| a.0 == b.0) {
        // Ranks start + 1 to start + len, averaged.
        let rank = start as f64 + (tied.len() + 1) as f64 / 2.0;
        rank_sum += rank * tied.iter().filter(|(_, harmful)| *harmful).count() as f64;
        start += tied.len();
    }
    Some((rank_sum - (harmful * (harmful + 1)) as f64 / 2.0) / pairs as f64)
}

fn sources(judged: &[Judged]) -> BTreeMap<String, SourceAccuracy> {
    let mut sources: BTreeMap<String, SourceAccuracy> = BTreeMap::new();
    for text in judged {
        let Some(source) = text.outcome.source else { continue };
        let found = sources.entry(source.into()).or_default();
        found.examples += 1;
        found.right += usize::from(text.right());
        found.accuracy = ratio(found.right, found.examples);
    }
    sources
}

fn groups(judged: &[Judged], min_group_size: usize) -> Option<GroupMetrics> {
    let mut groups: BTreeMap<String, GroupRate> = BTreeMap::new();
    for text in judged {
        let Some(group) = text.outcome.group else { continue };
        let rate = groups.entry(group.into()).or_default();
        if !text.harmful {
            rate.safe += 1;
            rate.false_positives += usize::from(text.called_harmful);
            rate.false_positive_rate = ratio(rate.false_positives, rate.safe);
        }
    }
    if groups.is_empty() {
        return None;
    }
    let rates: Vec<f64> = groups
        .values()
        .filter(|rate| rate.safe >= min_group_size.max(1))
        .map(|rate| rate.false_positive_rate)
        .collect();
    let largest = rates.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let smallest = rates.iter().copied().fold(f64::INFINITY, f64::min);
    let false_positive_gap = (rates.len() > 1).then_some(largest - smallest);
    Some(GroupMetrics { groups, false_positive_gap })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(harm: f64, class: usize, group: Option<&str>) -> Outcome<'_> {
        Outcome { probabilities: vec![1.0 - harm, harm], classes: vec![class], group, source: None }
    }

    fn labels(number: usize) -> Vec<String> {
        ["safe", "toxic_content", "self_harm"][..number].iter().map(ToString::to_string).collect()
    }

    fn evaluate(outcomes: &[Outcome]) -> Evaluation {
        Evaluation::new(outcomes, &labels(2), 0, Task::SingleLabel, 1)
    }

    #[test]
    fn measures_by_hand() {
        let outcomes = [
            outcome(0.9, 1, None),
            outcome(0.6, 1, None),
            outcome(0.2, 1, None),
            outcome(0.1, 0, None),
            outcome(0.6, 0, None),
        ];
        let found = evaluate(&outcomes);
        assert_eq!(found.confusion, [[1, 1], [1, 2]]);
        assert_eq!(found.accuracy, 0.6);
        assert_eq!(found.per_class[1].precision, 2.0 / 3.0);
        assert_eq!(found.per_class[0].f1, 0.5);
        assert!((found.macro_f1 - (0.5 + 2.0 / 3.0) / 2.0).abs() < 1e-12);
        // Of six pairs: 0.9 wins two, 0.6 one and a tie, 0.2 one.
        assert!((found.roc_auc.unwrap() - 4.5 / 6.0).abs() < 1e-12);
        assert_eq!(found.false_positive_rate, Some(0.5));
        assert_eq!(found.false_negative_rate, Some(1.0 / 3.0));
        assert_eq!(found.groups, None);
    }

    #[test]
    fn missing_classes_give_no_made_up_numbers() {
        let found = evaluate(&[outcome(0.1, 0, None), outcome(0.2, 0, None)]);
        assert_eq!((found.roc_auc, found.false_negative_rate), (None, None));
        assert_eq!((found.macro_f1, found.per_class[1].support), (1.0, 0));
    }

    #[test]
    fn the_gap_compares_safe_texts_of_groups() {
        let found = evaluate(&[
            outcome(0.9, 0, Some("a")),
            outcome(0.1, 0, Some("a")),
            outcome(0.1, 0, Some("b")),
            outcome(0.9, 1, Some("c")),
        ]);
        let groups = found.groups.unwrap();
        assert_eq!(groups.false_positive_gap, Some(0.5));
        assert_eq!(groups.groups["c"].safe, 0);
    }

    #[test]
    fn several_labels_are_right_together_or_one_by_one() {
        let text = |probabilities: [f64; 3], classes: &[usize]| Outcome {
            probabilities: probabilities.to_vec(),
            classes: classes.to_vec(),
            group: None,
            source: None,
        };
        let outcomes = [
            text([0.1, 0.9, 0.8], &[1, 2]),
            text([0.1, 0.9, 0.3], &[1, 2]),
            text([0.4, 0.2, 0.1], &[0]),
            text([0.3, 0.6, 0.1], &[0]),
        ];
        let found = Evaluation::new(&outcomes, &labels(3), 0, Task::MultiLabel, 1);
        // The third has no probability of a half: its largest counts.
        assert_eq!(found.accuracy, 0.5);
        assert!(found.confusion.is_empty());
        assert_eq!((found.per_class[2].recall, found.per_class[2].precision), (0.5, 1.0));
        assert_eq!(found.false_positive_rate, Some(0.5));
        assert_eq!(found.false_negative_rate, Some(0.0));
    }
}
