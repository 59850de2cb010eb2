//! Tests and effect sizes for two models on the same prompts.
//!
//! Each function says the same as the one of SciPy that it names; a test compares them on committed
//! cases to 1e-9. Distributions are those of `statrs`.

use serde::{Deserialize, Serialize};
use statrs::distribution::{Binomial, ContinuousCDF, DiscreteCDF, Normal, StudentsT};

use crate::stats::{quantile, ranks};

/// A test statistic and its two-sided p-value.
#[derive(Copy, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Test {
    /// The statistic.
    pub statistic: f64,
    /// Two-sided p-value.
    pub p: f64,
}

/// What is done with pairs that do not differ, in Wilcoxon's test.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Zeros {
    /// Left out before ranking (Wilcoxon 1945; SciPy's `zero_method="wilcox"`).
    LeftOut,
    /// Ranked, and their ranks left out (Pratt 1959; `zero_method="pratt"`).
    Ranked,
}

/// Student's t-test of the mean difference with its interval, as `scipy.stats.ttest_rel`: the test, and
/// the ends of the interval. `None` for fewer than two pairs, or if all differ by the same.
pub fn paired_t(differences: &[f64], confidence: f64) -> Option<(Test, f64, f64)> {
    let (mean, spread) = mean_and_spread(differences)?;
    let n = differences.len() as f64;
    let error = spread / n.sqrt();
    if error <= 0.0 {
        return None;
    }
    let student = StudentsT::new(0.0, 1.0, n - 1.0).ok()?;
    let statistic = mean / error;
    let reach = student.inverse_cdf(0.5 + confidence / 2.0) * error;
    let p = 2.0 * student.cdf(-statistic.abs());
    Some((Test { statistic, p }, mean - reach, mean + reach))
}

/// Wilcoxon's signed-rank test by the normal approximation with correction for ties, without correction
/// for continuity, as `scipy.stats.wilcoxon(method="asymptotic", correction=False)`. `None` if no pair
/// differs.
pub fn wilcoxon(differences: &[f64], zeros: Zeros) -> Option<Test> {
    let kept: Vec<f64> = match zeros {
        Zeros::LeftOut => differences.iter().copied().filter(|d| *d != 0.0).collect(),
        Zeros::Ranked => differences.to_vec(),
    };
    let zero = kept.iter().filter(|d| **d == 0.0).count() as f64;
    let sizes: Vec<f64> = kept.iter().map(|d| d.abs()).collect();
    let ranks = ranks(&sizes);
    let sum = |sign: f64| -> f64 {
        kept.iter().zip(&ranks).filter(|(d, _)| **d * sign > 0.0).map(|(_, rank)| rank).sum()
    };
    let statistic = sum(1.0).min(sum(-1.0));
    let n = kept.len() as f64;
    let mut tied: Vec<f64> =
        kept.iter().zip(&ranks).filter(|(d, _)| **d != 0.0).map(|(_, rank)| *rank).collect();
    tied.sort_by(f64::total_cmp);
    let ties: f64 = tied
        .chunk_by(|a, b| a == b)
        .map(|group| (group.len() as f64).powi(3) - group.len() as f64)
        .sum();
    let mean = n * (n + 1.0) / 4.0 - zero * (zero + 1.0) / 4.0;
    let cubes = |n: f64| n * (n + 1.0) * (2.0 * n + 1.0);
    let spread = ((cubes(n) - cubes(zero) - ties / 2.0) / 24.0).sqrt();
    if spread.is_nan() || spread <= 0.0 {
        return None;
    }
    let z = (statistic - mean) / spread;
    Some(Test { statistic, p: 2.0 * standard_normal()?.cdf(-z.abs()) })
}

/// The sign test: whether more pairs differ one way than chance would have it, pairs that do not differ
/// left out; as `scipy.stats.binomtest(positive, positive + negative, 0.5)`. `None` if no pair differs.
pub fn sign_test(differences: &[f64]) -> Option<Test> {
    let positive = differences.iter().filter(|d| **d > 0.0).count() as u64;
    let negative = differences.iter().filter(|d| **d < 0.0).count() as u64;
    if positive + negative == 0 {
        return None;
    }
    let chance = Binomial::new(0.5, positive + negative).ok()?;
    let p = (2.0 * chance.cdf(positive.min(negative))).min(1.0);
    Some(Test { statistic: positive as f64, p })
}

/// Cohen's dz: the mean difference in units of the differences' standard deviation. `None` for fewer
/// than two pairs, or if all differ by the same.
pub fn cohens_dz(differences: &[f64]) -> Option<f64> {
    let (mean, spread) = mean_and_spread(differences)?;
    (spread > 0.0).then(|| mean / spread)
}

/// Cliff's delta: how much more often a value of `a` is above one of `b` than below, over all pairs of
/// values; from −1 to 1. `None` if a side is empty.
pub fn cliffs_delta(a: &[f64], b: &[f64]) -> Option<f64> {
    let mut sorted = b.to_vec();
    sorted.sort_by(f64::total_cmp);
    let balance = |x: &f64| {
        let below = sorted.partition_point(|y| y < x);
        let above = sorted.len() - sorted.partition_point(|y| y <= x);
        below as f64 - above as f64
    };
    let pairs = (a.len() * b.len()) as f64;
    (pairs > 0.0).then(|| a.iter().map(balance).sum::<f64>() / pairs)
}

/// Holm's correction: p-values adjusted for being several (Holm 1979), in the order given.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|i, j| p[*i].total_cmp(&p[*j]));
    let mut adjusted = vec![0.0; p.len()];
    let mut largest = 0.0f64;
    for (rank, i) in order.into_iter().enumerate() {
        largest = largest.max(((p.len() - rank) as f64 * p[i]).min(1.0));
        adjusted[i] = largest;
    }
    adjusted
}

/// The bias-corrected and accelerated interval (Efron and Tibshirani, An Introduction to the Bootstrap,
/// section 14.3), as `scipy.stats.bootstrap(method="BCa")` computes it: `resampled` are the statistic on
/// resamples, `left_out` the statistic with each item (or cluster) left out. `None` if either is empty
/// or does not vary.
pub fn bca(
    estimate: f64,
    resampled: &[f64],
    left_out: &[f64],
    confidence: f64,
) -> Option<(f64, f64)> {
    let normal = standard_normal()?;
    let mut sorted = resampled.to_vec();
    sorted.sort_by(f64::total_cmp);
    let below = sorted.partition_point(|x| *x < estimate);
    let up_to = sorted.partition_point(|x| *x <= estimate);
    let share = (below + up_to) as f64 / (2 * sorted.len()) as f64;
    if !(share > 0.0 && share < 1.0) {
        return None;
    }
    let bias = normal.inverse_cdf(share);
    let mean = left_out.iter().sum::<f64>() / left_out.len() as f64;
    let power = |n: i32| left_out.iter().map(|x| (mean - x).powi(n)).sum::<f64>();
    let acceleration = power(3) / (6.0 * power(2).powf(1.5));
    if !acceleration.is_finite() {
        return None;
    }
    let end = |tail: f64| {
        let z = bias + normal.inverse_cdf(tail);
        quantile(&sorted, normal.cdf(bias + z / (1.0 - acceleration * z)))
    };
    Some((end((1.0 - confidence) / 2.0)?, end((1.0 + confidence) / 2.0)?))
}

/// Mean and standard error of values that come in clusters, such as several samples per prompt: the
/// error rests on the clusters' residual sums, with the correction G/(G−1) for few clusters (CR1).
/// `None` for fewer than two clusters.
pub fn clustered_error(values: &[f64], clusters: &[usize]) -> Option<(f64, f64)> {
    let number = clusters.iter().max()? + 1;
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let mut sums = vec![None; number];
    for (value, cluster) in values.iter().zip(clusters) {
        *sums[*cluster].get_or_insert(0.0) += value - mean;
    }
    let used: Vec<f64> = sums.into_iter().flatten().collect();
    let g = used.len() as f64;
    let squares: f64 = used.iter().map(|sum| sum * sum).sum();
    (g >= 2.0).then(|| (mean, (g / (g - 1.0) * squares).sqrt() / n))
}

fn mean_and_spread(values: &[f64]) -> Option<(f64, f64)> {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|x| (x - mean).powi(2)).sum();
    (values.len() >= 2).then(|| (mean, (squares / (n - 1.0)).sqrt()))
}

/// The quantile of the standard normal distribution.
pub(crate) fn normal_quantile(share: f64) -> Option<f64> {
    Some(standard_normal()?.inverse_cdf(share))
}

fn standard_normal() -> Option<Normal> {
    Normal::new(0.0, 1.0).ok()
}
