//! Sums with weights, so that a mean over unequal batches is the true mean.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Named averages in the making: for each name a sum and the weight it is divided by.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Metrics(BTreeMap<String, Average>);

/// A sum and its weight.
#[derive(Copy, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Average {
    sum: f64,
    weight: f64,
}

impl Metrics {
    /// No metric yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `sum` (over items of total `weight`) to `name`, which is TRL's name for it without
    /// `eval_`.
    pub fn add(&mut self, name: &str, sum: f64, weight: f64) {
        let average = self.0.entry(name.to_owned()).or_default();
        average.sum += sum;
        average.weight += weight;
    }

    /// Adds all sums and weights of `other`.
    pub fn merge(&mut self, other: &Metrics) {
        for (name, average) in &other.0 {
            self.add(name, average.sum, average.weight);
        }
    }

    /// The mean of `name`; `None` if it was never added or has no weight.
    pub fn mean(&self, name: &str) -> Option<f64> {
        let average = self.0.get(name)?;
        (average.weight != 0.0).then(|| average.sum / average.weight)
    }

    /// The means of all metrics that have a weight, by name.
    pub fn means(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0.keys().filter_map(|name| Some((name.as_str(), self.mean(name)?)))
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// One line of the log: metrics at a step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LogEntry {
    /// Optimiser steps done; 0 is before training.
    pub step: usize,
    /// Passes over the training examples done.
    pub epoch: f64,
    /// Values by TRL's names.
    #[serde(flatten)]
    pub metrics: BTreeMap<String, f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_are_weighted() {
        let mut a = Metrics::new();
        a.add("loss", 6.0, 2.0);
        let mut b = Metrics::new();
        b.add("loss", 3.0, 1.0);
        b.add("accuracy", 0.0, 0.0);
        a.merge(&b);
        assert_eq!(a.mean("loss"), Some(3.0));
        assert_eq!(a.mean("accuracy"), None);
        assert_eq!(a.means().collect::<Vec<_>>(), vec![("loss", 3.0)]);
    }

    #[test]
    fn log_entries_survive_json_bit_for_bit() {
        let metrics = BTreeMap::from([
            ("loss".to_owned(), 0.1 + 0.2),
            ("num_tokens".to_owned(), 4096.0),
            ("tiny".to_owned(), 5e-324),
        ]);
        let entry = LogEntry { step: 3, epoch: 1.0 / 3.0, metrics };
        let text = serde_json::to_string(&entry).unwrap();
        assert_eq!(serde_json::from_str::<LogEntry>(&text).unwrap(), entry);
    }
}
