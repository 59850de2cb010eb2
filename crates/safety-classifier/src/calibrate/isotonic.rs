//! Isotonic regression: the non-decreasing step function nearest to the data.

use serde::{Deserialize, Serialize};

/// A non-decreasing map of probabilities, one per class (Zadrozny and Elkan, KDD 2002): linear
/// between knots, flat beyond them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Isotonic {
    /// Probabilities at the knots, ascending.
    pub from: Vec<f64>,
    /// What they become, non-decreasing.
    pub to: Vec<f64>,
}

/// A run of points that share one value.
struct Pool {
    sum: f64,
    weight: f64,
    /// Sum of the points' probabilities.
    from: f64,
}

impl Isotonic {
    /// Fits the share of `truth` as a function of `probability`, by pooling adjacent violators.
    pub fn fit(probability: &[f64], truth: &[bool]) -> Self {
        let mut order: Vec<usize> = (0..probability.len()).collect();
        order.sort_by(|&a, &b| probability[a].total_cmp(&probability[b]));
        let mut pools: Vec<Pool> = Vec::new();
        // Equal probabilities are one point, whatever their truths.
        for tied in order.chunk_by(|&a, &b| probability[a] == probability[b]) {
            let hits = tied.iter().filter(|&&i| truth[i]).count();
            let weight = tied.len() as f64;
            let mut pool = Pool { sum: hits as f64, weight, from: probability[tied[0]] * weight };
            // No pool's mean is below the one before.
            while let Some(last) = pools.pop_if(|last| last.mean() >= pool.mean()) {
                pool = Pool {
                    sum: last.sum + pool.sum,
                    weight: last.weight + pool.weight,
                    from: last.from + pool.from,
                };
            }
            pools.push(pool);
        }
        let from = rising(pools.iter().map(|pool| pool.from / pool.weight).collect());
        // One text more on each side: no probability becomes 0 or 1 on the word of a few texts.
        let to =
            pools.iter().map(|pool| (pool.sum + 0.5) / (pool.weight + 1.0)).collect::<Vec<_>>();
        Self { from, to: rising(to) }
    }

    /// The value at `probability`.
    pub fn apply(&self, probability: f64) -> f64 {
        let after = self.from.partition_point(|&knot| knot <= probability);
        match (after.checked_sub(1), self.from.get(after)) {
            // The knot before is at most `probability`, the one after above it.
            (Some(before), Some(&right)) => {
                let left = self.from[before];
                let share = (probability - left) / (right - left);
                self.to[before] + share * (self.to[after] - self.to[before])
            }
            (Some(last), None) => self.to[last],
            (None, _) => self.to.first().copied().unwrap_or(probability),
        }
    }

    /// Whether it is a map of probabilities.
    pub(crate) fn is_valid(&self) -> bool {
        let share = |value: &f64| (0.0..=1.0).contains(value);
        !self.from.is_empty()
            && self.from.len() == self.to.len()
            && self.from.is_sorted()
            && self.to.is_sorted()
            && self.from.iter().chain(&self.to).all(share)
    }
}

impl Pool {
    fn mean(&self) -> f64 {
        self.sum / self.weight
    }
}

/// Rounding, and the smoothing of small pools, may break the order by a little.
fn rising(mut values: Vec<f64>) -> Vec<f64> {
    for i in 1..values.len() {
        values[i] = values[i].max(values[i - 1]);
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_map_rises_and_follows_the_data() {
        let probability: Vec<f64> = (0..1000).map(|i| f64::from(i) / 1000.0).collect();
        // The truth is half as likely as claimed.
        let truth: Vec<bool> = (0..1000).map(|i| i * 7 % 1000 < i / 2).collect();
        let map = Isotonic::fit(&probability, &truth);
        assert!(map.is_valid());
        for p in [0.2, 0.5, 0.9] {
            assert!((map.apply(p) - p / 2.0).abs() < 0.1, "{p} {}", map.apply(p));
        }
        assert!(map.apply(1.0) <= 1.0 && map.apply(0.0) >= 0.0);
    }

    #[test]
    fn one_kind_of_truth_is_no_certainty() {
        let map = Isotonic::fit(&[0.1, 0.9], &[false, false]);
        assert!(map.is_valid() && map.apply(0.5) > 0.0);
    }
}
