//! Means with bootstrap intervals, paired differences, and rank agreement.
//!
//! Prompts about one topic are not independent, so whole clusters are drawn (the cluster
//! bootstrap; Davison and Hinkley, Bootstrap Methods and their Application, section 3.8).
//! Intervals of means are bias-corrected and accelerated (BCa), those of fairness, which is no smooth
//! function of the data, percentiles (Efron and Tibshirani, An Introduction to the Bootstrap, chapters
//! 13 and 14).

use cai_chart::Span;
use cai_data::seed::Seed;
use rand::RngExt;
use serde::{Deserialize, Serialize};

use crate::paired::{bca, normal_quantile};

/// How intervals are made.
#[derive(Copy, Clone, Debug)]
pub struct Bootstrap {
    /// Number of resamples.
    pub resamples: usize,
    /// Share of the resamples within the interval.
    pub confidence: f64,
    /// Seed of the draws.
    pub seed: Seed,
}

/// A mean or a difference of means, its interval, and what it rests on.
#[derive(Copy, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The mean.
    pub mean: f64,
    /// Lower end of the interval; absent if there are fewer than two clusters.
    pub low: Option<f64>,
    /// Upper end of the interval.
    pub high: Option<f64>,
    /// Number of replies, or of pairs of replies.
    pub n: usize,
    /// Number of topics, or of prompts where no topics are given.
    pub clusters: usize,
}

impl Estimate {
    /// Whether the interval lies on one side of 0: a difference that chance does not explain.
    pub fn excludes_zero(&self) -> bool {
        self.low.is_some_and(|low| low > 0.0) || self.high.is_some_and(|high| high < 0.0)
    }
}

impl From<Estimate> for Span {
    fn from(Estimate { mean, low, high, .. }: Estimate) -> Span {
        Span { value: mean, low, high }
    }
}

/// Sum and number of the values of one cluster.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct Total {
    pub sum: f64,
    pub count: u32,
}

impl Total {
    pub(crate) fn add(&mut self, value: f64) {
        self.sum += value;
        self.count += 1;
    }
}

/// The mean of `values[i]`, each in cluster `clusters[i]`, with its interval. Absent values are
/// left out; `None` if all are absent.
pub fn mean(values: &[Option<f64>], clusters: &[usize], bootstrap: &Bootstrap) -> Option<Estimate> {
    let number = clusters.iter().max().map_or(0, |last| last + 1);
    let mut totals = vec![Total::default(); number];
    for (value, cluster) in values.iter().zip(clusters) {
        if let Some(value) = value {
            totals[*cluster].add(*value);
        }
    }
    totals.retain(|total| total.count > 0);
    if totals.is_empty() {
        return None;
    }
    let mean = weighted_mean(&totals, &vec![1; totals.len()])?;
    let interval = bootstrap.bca(mean, totals.len(), |weights| weighted_mean(&totals, weights));
    Some(Estimate {
        mean,
        low: interval.map(|(low, _)| low),
        high: interval.map(|(_, high)| high),
        n: totals.iter().map(|total| total.count as usize).sum(),
        clusters: totals.len(),
    })
}

/// The mean of `a[i] − b[i]` over the items that both have, with its interval: two models on the
/// same prompts.
pub fn difference(
    a: &[Option<f64>],
    b: &[Option<f64>],
    clusters: &[usize],
    bootstrap: &Bootstrap,
) -> Option<Estimate> {
    let pairs: Vec<Option<f64>> = a.iter().zip(b).map(|(a, b)| Some((*a)? - (*b)?)).collect();
    mean(&pairs, clusters, bootstrap)
}

/// A share with Wilson's score interval (Brown, Cai and DasGupta, Interval Estimation for a Binomial
/// Proportion, section 3.1.1), which holds at 0 and 1 too. `of` is at least 1, trials are independent.
pub fn wilson(successes: usize, of: usize, confidence: f64) -> Estimate {
    let (n, share) = (of as f64, successes as f64 / of as f64);
    let interval = normal_quantile((1.0 + confidence) / 2.0).map(|z| {
        let middle = (share + z * z / (2.0 * n)) / (1.0 + z * z / n);
        let half =
            z / (1.0 + z * z / n) * (share * (1.0 - share) / n + z * z / (4.0 * n * n)).sqrt();
        ((middle - half).max(0.0), (middle + half).min(1.0))
    });
    Estimate {
        mean: share,
        low: interval.map(|(low, _)| low),
        high: interval.map(|(_, high)| high),
        n: of,
        clusters: of,
    }
}

/// The mean over clusters that were drawn `weights[c]` times; `None` if none was.
pub(crate) fn weighted_mean(totals: &[Total], weights: &[u32]) -> Option<f64> {
    let (mut sum, mut count) = (0.0, 0);
    for (total, weight) in totals.iter().zip(weights) {
        sum += f64::from(*weight) * total.sum;
        count += u64::from(*weight) * u64::from(total.count);
    }
    (count > 0).then(|| sum / count as f64)
}

impl Bootstrap {
    /// The percentile interval of a statistic of `clusters` clusters. The statistic is given how
    /// often each cluster was drawn; resamples for which it is `None` are left out.
    ///
    /// `None` for fewer than two clusters: one cluster says nothing about variation.
    pub fn interval(
        &self,
        clusters: usize,
        statistic: impl Fn(&[u32]) -> Option<f64>,
    ) -> Option<(f64, f64)> {
        let mut drawn = self.draw(clusters, statistic)?;
        drawn.sort_by(f64::total_cmp);
        let tail = (1.0 - self.confidence) / 2.0;
        Some((quantile(&drawn, tail)?, quantile(&drawn, 1.0 - tail)?))
    }

    /// The bias-corrected and accelerated interval of a statistic whose value on all clusters is
    /// `estimate`; see [`bca`]. Where no resample differs, the interval is the estimate.
    pub fn bca(
        &self,
        estimate: f64,
        clusters: usize,
        statistic: impl Fn(&[u32]) -> Option<f64>,
    ) -> Option<(f64, f64)> {
        let drawn = self.draw(clusters, &statistic)?;
        let mut weights = vec![1u32; clusters];
        let mut without = |cluster: usize| {
            weights[cluster] = 0;
            let value = statistic(&weights);
            weights[cluster] = 1;
            value
        };
        let left_out: Vec<f64> = (0..clusters).filter_map(&mut without).collect();
        bca(estimate, &drawn, &left_out, self.confidence)
            .or_else(|| self.interval(clusters, statistic))
    }

    /// The statistic on resamples of the clusters; `None` for fewer than two clusters.
    fn draw(&self, clusters: usize, statistic: impl Fn(&[u32]) -> Option<f64>) -> Option<Vec<f64>> {
        if clusters < 2 {
            return None;
        }
        let mut rng = self.seed.rng();
        let mut weights = vec![0u32; clusters];
        let mut drawn = Vec::with_capacity(self.resamples);
        for _ in 0..self.resamples {
            weights.fill(0);
            for _ in 0..clusters {
                weights[rng.random_range(0..clusters as u32) as usize] += 1;
            }
            drawn.extend(statistic(&weights));
        }
        Some(drawn)
    }
}

/// The quantile of sorted values, interpolated linearly between neighbours.
pub(crate) fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let position = share * (sorted.len().checked_sub(1)?) as f64;
    let (below, above) = (position.floor() as usize, position.ceil() as usize);
    let between = position - below as f64;
    Some(sorted[below] + between * (sorted[above] - sorted[below]))
}

/// Spearman's rank correlation: Pearson's correlation of the ranks, equal values sharing their
/// mean rank. `None` if one side is constant.
pub fn spearman(a: &[f64], b: &[f64]) -> Option<f64> {
    let (a, b) = (ranks(a), ranks(b));
    let centre = (a.len() as f64 + 1.0) / 2.0;
    let moment = |x: &[f64], y: &[f64]| -> f64 {
        x.iter().zip(y).map(|(x, y)| (x - centre) * (y - centre)).sum()
    };
    let spread = (moment(&a, &a) * moment(&b, &b)).sqrt();
    (spread > 0.0).then(|| moment(&a, &b) / spread)
}

/// Ranks from 1, equal values sharing their mean rank.
pub(crate) fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|i, j| values[*i].total_cmp(&values[*j]));
    let mut ranks = vec![0.0; values.len()];
    for tied in order.chunk_by(|i, j| values[*i] == values[*j]) {
        let below = order.partition_point(|i| values[*i] < values[tied[0]]);
        let rank = below as f64 + (tied.len() as f64 + 1.0) / 2.0;
        tied.iter().for_each(|i| ranks[*i] = rank);
    }
    ranks
}

/// Kendall's tau-b of two lists, ties corrected for. `None` if one side is constant.
pub fn kendall(a: &[f64], b: &[f64]) -> Option<f64> {
    let (mut agreement, mut untied_a, mut untied_b) = (0i64, 0i64, 0i64);
    for i in 0..a.len() {
        for j in 0..i {
            let (by_a, by_b) = (sign(a[i] - a[j]), sign(b[i] - b[j]));
            agreement += by_a * by_b;
            untied_a += by_a.abs();
            untied_b += by_b.abs();
        }
    }
    let pairs = ((untied_a * untied_b) as f64).sqrt();
    (pairs > 0.0).then(|| agreement as f64 / pairs)
}

pub(crate) fn sign(x: f64) -> i64 {
    i64::from(x > 0.0) - i64::from(x < 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bootstrap(resamples: usize, seed: u64) -> Bootstrap {
        Bootstrap { resamples, confidence: 0.95, seed: Seed(seed) }
    }

    fn all(values: &[f64]) -> Vec<Option<f64>> {
        values.iter().copied().map(Some).collect()
    }

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-12
    }

    #[test]
    fn intervals_cover_the_true_mean_about_as_often_as_they_say() {
        // 300 samples of 40 throws of a coin with p = 0.3; the percentile bootstrap covers a
        // little less than 95 % at this size.
        let mut covered = 0;
        for trial in 0..300 {
            let mut rng = Seed(1).index(trial).rng();
            let throws: Vec<_> =
                (0..40).map(|_| Some(f64::from(rng.random_range(0.0..1.0) < 0.3))).collect();
            let own: Vec<usize> = (0..40).collect();
            let estimate = mean(&throws, &own, &bootstrap(500, trial)).unwrap();
            let (low, high) = (estimate.low.unwrap(), estimate.high.unwrap());
            assert!(low <= estimate.mean && estimate.mean <= high);
            covered += usize::from(low <= 0.3 && 0.3 <= high);
        }
        assert!((270..=297).contains(&covered), "covered {covered} of 300");
    }

    #[test]
    fn a_mean_has_its_count_and_repeats_for_a_seed() {
        let values = [Some(1.0), None, Some(0.0), Some(0.5)];
        let one = mean(&values, &[0, 1, 2, 3], &bootstrap(1000, 1)).unwrap();
        assert!(near(one.mean, 0.5));
        assert_eq!((one.n, one.clusters), (3, 3));
        assert_eq!(mean(&values, &[0, 1, 2, 3], &bootstrap(1000, 1)), Some(one));
        assert_eq!(mean(&[None], &[0], &bootstrap(10, 1)), None);
        assert_eq!(mean(&[], &[], &bootstrap(10, 1)), None);
    }

    #[test]
    fn one_cluster_has_no_interval() {
        let one = mean(&all(&[0.0, 1.0]), &[0, 0], &bootstrap(100, 1)).unwrap();
        assert_eq!((one.low, one.high, one.n, one.clusters), (None, None, 2, 1));
        assert!(!one.excludes_zero());
    }

    #[test]
    fn clusters_widen_the_interval_when_their_replies_agree() {
        // 20 topics, 10 prompts each, all prompts of a topic alike: 20 facts, not 200.
        let values: Vec<_> = (0..200).map(|i| Some(f64::from((i / 10) % 2 == 0))).collect();
        let topics: Vec<usize> = (0..200).map(|i| i / 10).collect();
        let own: Vec<usize> = (0..200).collect();
        let width = |clusters: &[usize]| {
            let estimate = mean(&values, clusters, &bootstrap(4000, 3)).unwrap();
            assert!(near(estimate.mean, 0.5));
            estimate.high.unwrap() - estimate.low.unwrap()
        };
        let ratio = width(&topics) / width(&own);
        assert!((2.6..3.8).contains(&ratio), "√10 expected, got {ratio}");
    }

    #[test]
    fn pairs_of_the_same_prompts_show_a_difference_that_means_alone_hide() {
        // Prompts differ a lot among themselves, the models by a constant.
        let a: Vec<_> = (0..50).map(|i| Some(f64::from(i % 10) / 10.0 + 0.05)).collect();
        let b: Vec<_> = (0..50).map(|i| Some(f64::from(i % 10) / 10.0)).collect();
        let own: Vec<usize> = (0..50).collect();
        let pairs = difference(&a, &b, &own, &bootstrap(1000, 1)).unwrap();
        assert!((pairs.mean - 0.05).abs() < 1e-9 && pairs.excludes_zero());
        let apart = mean(&a, &own, &bootstrap(1000, 1)).unwrap();
        assert!(apart.low.unwrap() < 0.45, "the means' own intervals overlap");
        // Only prompts that both models have count.
        let some =
            difference(&[Some(1.0), None], &[Some(0.0), Some(0.0)], &[0, 1], &bootstrap(9, 1));
        assert_eq!(some.unwrap().n, 1);
    }

    #[test]
    fn rank_correlations_match_known_values() {
        assert!(near(spearman(&[1.0, 2.0, 3.0, 4.0], &[1.0, 3.0, 2.0, 4.0]).unwrap(), 0.8));
        assert!(near(spearman(&[1.0, 2.0], &[5.0, 3.0]).unwrap(), -1.0));
        assert_eq!(spearman(&[1.0, 1.0], &[1.0, 2.0]), None);
        // scipy.stats.spearmanr([1,2,2,3],[1,3,2,4]), kendalltau of the same.
        let (a, b) = ([1.0, 2.0, 2.0, 3.0], [1.0, 3.0, 2.0, 4.0]);
        assert!((spearman(&a, &b).unwrap() - 0.9486832980505138).abs() < 1e-12);
        assert!((kendall(&a, &b).unwrap() - 0.9128709291752769).abs() < 1e-12);
        assert_eq!(kendall(&[1.0], &[1.0]), None);
    }
}
