//! One class against the rest at every threshold: ROC and precision–recall curves, and the threshold
//! that reaches a chosen precision.

use serde::{Deserialize, Serialize};

/// Points that a drawn curve keeps.
const DRAWN: usize = 200;

/// How well a score finds the texts of one class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Curves {
    /// The class.
    pub label: String,
    /// Texts of the class.
    pub positives: usize,
    /// Area under the ROC curve; none without texts of both kinds.
    pub roc_auc: Option<f64>,
    /// Average precision: the area under the precision–recall curve; none without texts of the class.
    pub average_precision: Option<f64>,
    /// Where the chosen precision is reached.
    pub threshold: Option<Threshold>,
    /// False- and true-positive rate at falling thresholds.
    pub roc: Vec<(f64, f64)>,
    /// Recall and precision at falling thresholds.
    pub precision_recall: Vec<(f64, f64)>,
}

/// A threshold and what it gives on the texts it was found on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Threshold {
    /// The least probability at which the class is called.
    pub probability: f64,
    /// Share of the texts called that are of the class.
    pub precision: f64,
    /// Share of the texts of the class that are called.
    pub recall: f64,
}

impl Curves {
    /// The curves of `scores` for the texts that `truth` marks. The threshold is the lowest one at
    /// which precision is at least `precision`; none if no threshold is.
    pub fn new(label: &str, scores: &[f64], truth: &[bool], precision: f64) -> Self {
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
        let positives = truth.iter().filter(|&&positive| positive).count();
        let negatives = truth.len() - positives;
        let share = |part: usize, whole: usize| part as f64 / whole.max(1) as f64;
        let (mut hits, mut false_alarms) = (0, 0);
        let (mut area, mut average, mut threshold) = (0.0, 0.0, None);
        let (mut roc, mut precision_recall) = (vec![(0.0, 0.0)], Vec::new());
        for tied in order.chunk_by(|&a, &b| scores[a] == scores[b]) {
            let found = tied.iter().filter(|&&i| truth[i]).count();
            let wrong = tied.len() - found;
            // Within a tie the curve is straight.
            area +=
                share(wrong, negatives) * (share(hits, positives) + share(found, positives) / 2.0);
            hits += found;
            false_alarms += wrong;
            let (recall, exact) = (share(hits, positives), share(hits, hits + false_alarms));
            average += share(found, positives) * exact;
            roc.push((share(false_alarms, negatives), recall));
            precision_recall.push((recall, exact));
            if exact >= precision {
                let probability = scores[tied[0]];
                threshold = Some(Threshold { probability, precision: exact, recall });
            }
        }
        Self {
            label: label.into(),
            positives,
            roc_auc: (positives > 0 && negatives > 0).then_some(area),
            average_precision: (positives > 0).then_some(average),
            threshold: threshold.filter(|_| positives > 0),
            roc: thinned(roc),
            precision_recall: thinned(precision_recall),
        }
    }
}

/// The probability that `of_first` is greater than `of_second`, ties half.
pub fn auroc(of_first: &[f64], of_second: &[f64]) -> Option<f64> {
    let scores: Vec<f64> = of_first.iter().chain(of_second).copied().collect();
    let truth: Vec<bool> = (0..scores.len()).map(|i| i < of_first.len()).collect();
    Curves::new("", &scores, &truth, 1.0).roc_auc
}

/// Enough points for a figure, the last one always.
fn thinned(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    let last = points.len().saturating_sub(1);
    let step = points.len().div_ceil(DRAWN).max(1);
    let keep = |(i, _): &(usize, (f64, f64))| i % step == 0 || *i == last;
    points.into_iter().enumerate().filter(keep).map(|(_, point)| point).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_and_threshold_by_hand() {
        let scores = [0.9, 0.8, 0.7, 0.6, 0.6];
        let truth = [true, false, true, true, false];
        let found = Curves::new("a", &scores, &truth, 0.6);
        // Of six pairs: 0.9 wins two, 0.7 one, 0.6 ties one and loses one.
        assert!((found.roc_auc.unwrap() - 3.5 / 6.0).abs() < 1e-12, "{found:?}");
        let average = 1.0 / 3.0 + 2.0 / 3.0 / 3.0 + 3.0 / 5.0 / 3.0;
        assert!((found.average_precision.unwrap() - average).abs() < 1e-12);
        assert_eq!(found.threshold.unwrap().probability, 0.6);
        assert_eq!(Curves::new("a", &scores, &truth, 0.9).threshold.unwrap().recall, 1.0 / 3.0);
    }

    #[test]
    fn one_kind_of_text_gives_no_made_up_numbers() {
        let found = Curves::new("a", &[0.1, 0.2], &[false, false], 0.5);
        assert_eq!((found.roc_auc, found.average_precision, found.threshold), (None, None, None));
        assert_eq!(auroc(&[], &[0.1]), None);
        assert_eq!(auroc(&[0.5], &[0.1]), Some(1.0));
    }
}
