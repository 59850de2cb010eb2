//! Means with intervals.

use serde::{Deserialize, Serialize};

/// A mean and its 95 % interval by the normal approximation.
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
    /// The mean of `values`; `None` without any.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let values: Vec<f64> = values.into_iter().collect();
        let n = values.len();
        if n == 0 {
            return None;
        }
        let mean = values.iter().sum::<f64>() / n as f64;
        let margin = (n > 1).then(|| {
            let squares: f64 = values.iter().map(|x| (x - mean).powi(2)).sum();
            1.96 * (squares / ((n - 1) * n) as f64).sqrt()
        });
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
    fn examples_are_spread() {
        assert_eq!(spread(10, 4).collect::<Vec<_>>(), [0, 2, 5, 7]);
        assert_eq!(spread(2, 4).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(spread(0, 4).count(), 0);
    }
}
