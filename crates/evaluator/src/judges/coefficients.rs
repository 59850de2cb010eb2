//! How far judges agree beyond chance, with intervals over clusters of prompts.

use crate::stats::{Bootstrap, Estimate};

/// Cohen's kappa (Cohen 1960) of two judges who sort the same replies into two classes; `both[i]` holds
/// what the two say of reply `i`, `clusters[i]` what it shares with others. As
/// `sklearn.metrics.cohen_kappa_score`. `None` without replies, or if both judges put all into one
/// and the same class: then chance explains everything.
pub fn cohen_kappa(
    both: &[(bool, bool)],
    clusters: &[usize],
    bootstrap: &Bootstrap,
) -> Option<Estimate> {
    // How many replies of each cluster are in neither's class, in the second's only, …
    let mut counts = vec![[0u32; 4]; clusters.iter().max().map_or(0, |last| last + 1)];
    for ((a, b), cluster) in both.iter().zip(clusters) {
        counts[*cluster][2 * usize::from(*a) + usize::from(*b)] += 1;
    }
    counts.retain(|counts| counts.iter().any(|n| *n > 0));
    let kappa = |weights: &[u32]| -> Option<f64> {
        let mut sum = [0.0; 4];
        for (counts, weight) in counts.iter().zip(weights) {
            for (sum, count) in sum.iter_mut().zip(counts) {
                *sum += f64::from(*weight) * f64::from(*count);
            }
        }
        let n: f64 = sum.iter().sum();
        let (a, b) = ((sum[2] + sum[3]) / n, (sum[1] + sum[3]) / n);
        let (same, by_chance) = ((sum[0] + sum[3]) / n, a * b + (1.0 - a) * (1.0 - b));
        (n > 0.0 && by_chance < 1.0).then(|| (same - by_chance) / (1.0 - by_chance))
    };
    estimate(kappa, counts.len(), both.len(), bootstrap)
}

/// Krippendorff's alpha (Krippendorff 2011) of any number of judges' scores, by squared difference
/// (interval data): one minus observed over expected disagreement. `scores[judge][reply]`; a reply
/// counts if two judges or more score it. `None` if there is none, or if all scores are equal.
pub fn krippendorff_alpha(
    scores: &[Vec<Option<f64>>],
    clusters: &[usize],
    bootstrap: &Bootstrap,
) -> Option<Estimate> {
    /// What disagreement follows from: with the scores x of m judges, within a reply
    /// Σ_{i≠j} (x_i − x_j)² / (m − 1) = 2 (m Σx² − (Σx)²) / (m − 1), and alike over all scores.
    #[derive(Copy, Clone, Default)]
    struct Sums {
        within: f64,
        n: f64,
        x: f64,
        squares: f64,
    }
    let mut sums = vec![Sums::default(); clusters.iter().max().map_or(0, |last| last + 1)];
    let mut replies = 0;
    for (reply, cluster) in clusters.iter().enumerate() {
        let given: Vec<f64> = scores.iter().filter_map(|of_judge| of_judge[reply]).collect();
        if given.len() < 2 {
            continue;
        }
        replies += 1;
        let m = given.len() as f64;
        let (x, squares) = given.iter().fold((0.0, 0.0), |(x, s), v| (x + v, s + v * v));
        let of = &mut sums[*cluster];
        of.within += 2.0 * (m * squares - x * x) / (m - 1.0);
        of.n += m;
        of.x += x;
        of.squares += squares;
    }
    sums.retain(|sums| sums.n > 0.0);
    let alpha = |weights: &[u32]| -> Option<f64> {
        let mut all = Sums::default();
        for (sums, weight) in sums.iter().zip(weights) {
            let weight = f64::from(*weight);
            all.within += weight * sums.within;
            all.n += weight * sums.n;
            all.x += weight * sums.x;
            all.squares += weight * sums.squares;
        }
        let observed = all.within / all.n;
        let expected = 2.0 * (all.n * all.squares - all.x * all.x) / (all.n * (all.n - 1.0));
        (expected > 1e-12).then(|| 1.0 - observed / expected)
    };
    estimate(alpha, sums.len(), replies, bootstrap)
}

fn estimate(
    statistic: impl Fn(&[u32]) -> Option<f64>,
    clusters: usize,
    n: usize,
    bootstrap: &Bootstrap,
) -> Option<Estimate> {
    let mean = statistic(&vec![1; clusters])?;
    let interval = bootstrap.bca(mean, clusters, statistic);
    let (low, high) = interval.unzip();
    Some(Estimate { mean, low, high, n, clusters })
}

#[cfg(test)]
mod tests {
    use super::*;
    use cai_data::seed::Seed;

    fn bootstrap() -> Bootstrap {
        Bootstrap { resamples: 500, confidence: 0.95, seed: Seed(1) }
    }

    #[test]
    fn kappa_is_that_of_scikit_learn() {
        // cohen_kappa_score([1,1,0,1,0,0,1,0,1,1], [1,0,0,1,0,1,1,0,1,1]) = 0.5833333333333333
        let a = [1, 1, 0, 1, 0, 0, 1, 0, 1, 1].map(|x| x == 1);
        let b = [1, 0, 0, 1, 0, 1, 1, 0, 1, 1].map(|x| x == 1);
        let both: Vec<(bool, bool)> = a.into_iter().zip(b).collect();
        let own: Vec<usize> = (0..10).collect();
        let kappa = cohen_kappa(&both, &own, &bootstrap()).unwrap();
        assert!((kappa.mean - 7.0 / 12.0).abs() < 1e-12, "{kappa:?}");
        assert!(kappa.low.unwrap() < kappa.mean && kappa.mean < kappa.high.unwrap());
        assert_eq!(cohen_kappa(&[(true, true); 3], &[0, 1, 2], &bootstrap()), None);
        assert_eq!(cohen_kappa(&[], &[], &bootstrap()), None);
    }

    #[test]
    fn alpha_is_that_of_its_author() {
        // Krippendorff, Computing Krippendorff's Alpha-Reliability (2011), section C: four observers,
        // twelve units, missing data; interval alpha 0.849.
        let rows = [
            [1, 2, 3, 3, 2, 1, 4, 1, 2, 0, 0, 0],
            [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, 0, 3],
            [0, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, 0],
            [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, 0],
        ];
        let scores: Vec<Vec<Option<f64>>> = rows
            .iter()
            .map(|row| row.iter().map(|x| (*x > 0).then_some(f64::from(*x))).collect())
            .collect();
        let own: Vec<usize> = (0..12).collect();
        let alpha = krippendorff_alpha(&scores, &own, &bootstrap()).unwrap();
        assert!((alpha.mean - 0.849).abs() < 5e-4, "{alpha:?}");
        assert_eq!(alpha.n, 11, "the last unit has one value only");
        let same = vec![vec![Some(1.0); 3]; 2];
        assert_eq!(krippendorff_alpha(&same, &[0, 1, 2], &bootstrap()), None);
    }

    #[test]
    fn clusters_widen_the_interval() {
        let both: Vec<(bool, bool)> =
            (0..200).map(|i| ((i / 10) % 2 == 0, (i / 10) % 2 == 0 || (i / 10) % 5 == 0)).collect();
        let (own, topics): (Vec<usize>, Vec<usize>) = (0..200).map(|i| (i, i / 10)).unzip();
        let width = |clusters: &[usize]| {
            let kappa = cohen_kappa(&both, clusters, &bootstrap()).unwrap();
            kappa.high.unwrap() - kappa.low.unwrap()
        };
        assert!(width(&topics) > 2.0 * width(&own));
    }
}
