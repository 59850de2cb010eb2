//! Means with intervals.

use std::collections::BTreeMap;

use cai_chart::Span;
use serde::{Deserialize, Serialize};

/// A mean and its 95 % interval by the normal approximation. Prompts about one topic are not
/// independent: where topics are known, whole topics count as draws (the variance of a cluster
/// sample; Cochran, Sampling Techniques, section 9A).
#[derive(Copy, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mean {
    /// The mean.
    pub mean: f64,
    /// Lower end of the interval; absent for fewer than two values.
    pub low: Option<f64>,
    /// Upper end of the interval.
    pub high: Option<f64>,
    /// Number of values.
    pub n: usize,
}

impl Mean {
    /// The mean of independent `values`; `None` without any.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        Self::of_topics(values.into_iter().map(|value| (value, None)))
    }

    /// The mean of values with their topics; a value without one is a topic of its own. `None`
    /// without any.
    pub fn of_topics<'a>(values: impl IntoIterator<Item = (f64, Option<&'a str>)>) -> Option<Self> {
        let values: Vec<(f64, Option<&str>)> = values.into_iter().collect();
        let n = values.len();
        if n == 0 {
            return None;
        }
        let mean = values.iter().map(|(value, _)| value).sum::<f64>() / n as f64;
        // Sum of the deviations within each topic.
        let mut topics = BTreeMap::<&str, f64>::new();
        let mut own = Vec::new();
        for (value, topic) in &values {
            match topic {
                Some(topic) => *topics.entry(topic).or_default() += value - mean,
                None => own.push(value - mean),
            }
        }
        let count = (topics.len() + own.len()) as f64;
        let squares: f64 = topics.values().chain(&own).map(|sum| sum * sum).sum();
        let margin =
            (count > 1.0).then(|| 1.96 * (count / (count - 1.0) * squares).sqrt() / n as f64);
        Some(Self { mean, low: margin.map(|m| mean - m), high: margin.map(|m| mean + m), n })
    }

    /// For a table: the mean and its interval.
    pub(crate) fn show(&self) -> String {
        match (self.low, self.high) {
            (Some(low), Some(high)) => format!("{:.3} [{low:.3}, {high:.3}]", self.mean),
            _ => format!("{:.3}", self.mean),
        }
    }
}

impl From<Mean> for Span {
    fn from(Mean { mean, low, high, .. }: Mean) -> Span {
        Span { value: mean, low, high }
    }
}

/// For a table: a mean that may be absent.
pub(crate) fn show(mean: &Option<Mean>) -> String {
    mean.as_ref().map_or("–".into(), Mean::show)
}

/// Positions of at most `wanted` of `count` items, spread evenly.
pub(crate) fn spread(count: usize, wanted: usize) -> impl Iterator<Item = usize> {
    let shown = count.min(wanted);
    (0..shown).map(move |i| i * count / shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_has_an_interval_from_two_values_on() {
        let mean = Mean::of([0.0, 1.0, 1.0, 0.0]).unwrap();
        // Standard error: √(1/3) / 2.
        assert!((mean.high.unwrap() - 0.5 - 1.96 * (1.0f64 / 3.0).sqrt() / 2.0).abs() < 1e-12);
        assert_eq!((mean.mean, mean.n), (0.5, 4));
        assert_eq!(Mean::of([2.0]).unwrap().low, None);
        assert_eq!(Mean::of([]), None);
    }

    #[test]
    fn topics_widen_the_interval_when_their_values_agree() {
        let values = |topics: usize| {
            (0..40).map(move |i| {
                (f64::from(i / 10 % 2 == 0), (topics > 0).then(|| ["a", "b", "c", "d"][i / 10]))
            })
        };
        let width = |mean: Mean| mean.high.unwrap() - mean.low.unwrap();
        let apart = width(Mean::of_topics(values(0)).unwrap());
        let together = width(Mean::of_topics(values(4)).unwrap());
        // Four draws, not forty: √(1/3)·… against √(1/39)·….
        assert!((together / apart - (39.0f64 / 3.0).sqrt()).abs() < 1e-9, "{}", together / apart);
    }

    #[test]
    fn examples_are_spread() {
        assert_eq!(spread(10, 4).collect::<Vec<_>>(), [0, 2, 5, 7]);
        assert_eq!(spread(2, 4).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(spread(0, 4).count(), 0);
    }
}
