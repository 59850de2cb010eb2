//! Intervals by resampling texts with replacement (Efron and Tibshirani, An Introduction to the
//! Bootstrap, chapter 13: percentiles).

use cai_data::seed::Seed;
use rand::RngExt;
use serde::{Deserialize, Serialize};

/// Resamples of an interval.
const RESAMPLES: usize = 1000;

/// A number and its 95 % interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The number on all texts.
    pub value: f64,
    /// The 2.5 % percentile of the resamples.
    pub low: f64,
    /// The 97.5 % percentile.
    pub high: f64,
}

/// The statistics of classes and predictions whose intervals are wanted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Intervals {
    /// Share of texts classified rightly.
    pub accuracy: Interval,
    /// Mean F1 over the classes that occur.
    pub macro_f1: Interval,
    /// F1 of each class, in the order of the labels.
    pub f1: Vec<Interval>,
}

/// Two classifiers on the same texts: the first minus the second.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Accuracy of the second.
    pub baseline_accuracy: f64,
    /// Difference of accuracy.
    pub accuracy: Interval,
    /// Difference of macro-F1 over the classes with at least `min_support` texts.
    pub macro_f1: Interval,
    /// Texts that a class needs to count for `macro_f1`.
    pub min_support: usize,
}

/// Counts of (true class, predicted class).
type Confusion = Vec<Vec<usize>>;

/// Intervals of one classifier's measures.
pub fn intervals(classes: &[usize], predicted: &[usize], n: usize, seed: Seed) -> Intervals {
    let statistics = |confusion: &Confusion| {
        let mut values = vec![accuracy(confusion), macro_f1(confusion, 1)];
        values.extend((0..n).map(|class| f1(confusion, class)));
        values
    };
    let found = resample(classes.len(), seed, |indices| {
        statistics(&confusion(classes, predicted, n, indices))
    });
    Intervals { accuracy: found[0], macro_f1: found[1], f1: found[2..].to_vec() }
}

/// Intervals of the difference between two classifiers' predictions, paired text by text.
pub fn compare(
    classes: &[usize],
    predicted: &[usize],
    baseline: &[usize],
    n: usize,
    min_support: usize,
    seed: Seed,
) -> Comparison {
    let large: Vec<usize> = (0..n)
        .filter(|class| classes.iter().filter(|other| *other == class).count() >= min_support)
        .collect();
    let mean_f1 = |confusion: &Confusion| {
        large.iter().map(|&class| f1(confusion, class)).sum::<f64>() / large.len().max(1) as f64
    };
    let found = resample(classes.len(), seed, |indices| {
        let ours = confusion(classes, predicted, n, indices);
        let theirs = confusion(classes, baseline, n, indices);
        vec![accuracy(&ours) - accuracy(&theirs), mean_f1(&ours) - mean_f1(&theirs)]
    });
    let all: Vec<usize> = (0..classes.len()).collect();
    let baseline_accuracy = accuracy(&confusion(classes, baseline, n, &all));
    Comparison { baseline_accuracy, accuracy: found[0], macro_f1: found[1], min_support }
}

/// Each statistic of all texts, with its interval over resamples.
fn resample(texts: usize, seed: Seed, statistics: impl Fn(&[usize]) -> Vec<f64>) -> Vec<Interval> {
    let all: Vec<usize> = (0..texts).collect();
    let values = statistics(&all);
    if texts == 0 {
        return values
            .into_iter()
            .map(|value| Interval { value, low: value, high: value })
            .collect();
    }
    let mut rng = seed.derive("bootstrap").rng();
    let mut drawn = vec![Vec::with_capacity(RESAMPLES); values.len()];
    for _ in 0..RESAMPLES {
        let indices: Vec<usize> = (0..texts).map(|_| rng.random_range(0..texts)).collect();
        for (list, value) in drawn.iter_mut().zip(statistics(&indices)) {
            list.push(value);
        }
    }
    values
        .into_iter()
        .zip(drawn)
        .map(|(value, mut list)| {
            list.sort_by(f64::total_cmp);
            let at = |share: f64| list[((list.len() - 1) as f64 * share).round() as usize];
            Interval { value, low: at(0.025), high: at(0.975) }
        })
        .collect()
}

fn confusion(classes: &[usize], predicted: &[usize], n: usize, indices: &[usize]) -> Confusion {
    let mut confusion = vec![vec![0; n]; n];
    for &i in indices {
        confusion[classes[i]][predicted[i]] += 1;
    }
    confusion
}

fn accuracy(confusion: &Confusion) -> f64 {
    let right: usize = (0..confusion.len()).map(|i| confusion[i][i]).sum();
    right as f64 / confusion.iter().flatten().sum::<usize>().max(1) as f64
}

fn f1(confusion: &Confusion, class: usize) -> f64 {
    let support: usize = confusion[class].iter().sum();
    let predicted: usize = confusion.iter().map(|row| row[class]).sum();
    2.0 * confusion[class][class] as f64 / (support + predicted).max(1) as f64
}

fn macro_f1(confusion: &Confusion, min_support: usize) -> f64 {
    let present: Vec<f64> = (0..confusion.len())
        .filter(|&class| confusion[class].iter().sum::<usize>() >= min_support)
        .map(|class| f1(confusion, class))
        .collect();
    present.iter().sum::<f64>() / present.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_hold_the_value_and_paired_ones_are_narrow() {
        let classes: Vec<usize> = (0..400).map(|i| i % 2).collect();
        let theirs: Vec<usize> =
            (0..400).map(|i| if i % 10 == 0 { 1 - i % 2 } else { i % 2 }).collect();
        let ours: Vec<usize> =
            (0..400).map(|i| if i % 20 == 0 { 1 - i % 2 } else { i % 2 }).collect();
        let alone = intervals(&classes, &ours, 2, Seed(1));
        assert!((alone.accuracy.value - 0.95).abs() < 1e-12);
        assert!(alone.accuracy.low < 0.95 && alone.accuracy.high > 0.95);
        let paired = compare(&classes, &ours, &theirs, 2, 100, Seed(1));
        assert!((paired.accuracy.value - 0.05).abs() < 1e-12, "{paired:?}");
        assert!(paired.accuracy.low > 0.0 && paired.macro_f1.low > 0.0);
        assert!((paired.baseline_accuracy - 0.9).abs() < 1e-12);
    }

    #[test]
    fn no_text_is_no_panic() {
        assert_eq!(intervals(&[], &[], 2, Seed(1)).accuracy.value, 0.0);
    }
}
