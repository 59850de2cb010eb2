//! Statistics against SciPy on committed cases (`fixtures/scipy_stats.py` made them), and the coverage of
//! intervals.

use cai_data::seed::Seed;
use evaluator::paired::{
    Zeros, bca, cliffs_delta, clustered_error, cohens_dz, holm, paired_t, sign_test, wilcoxon,
};
use rand::RngExt;
use serde_json::Value;

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

fn near(ours: f64, theirs: &Value, what: &str) {
    let theirs = theirs.as_f64().unwrap();
    assert!((ours - theirs).abs() < 1e-9 * theirs.abs().max(1.0), "{what}: {ours} and {theirs}");
}

fn fixture() -> Value {
    serde_json::from_str(include_str!("fixtures/scipy_stats.json")).unwrap()
}

#[test]
fn tests_and_effect_sizes_are_those_of_scipy() {
    for case in fixture()["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let (a, b) = (numbers(&case["a"]), numbers(&case["b"]));
        let d: Vec<f64> = a.iter().zip(&b).map(|(a, b)| a - b).collect();
        let (t, low, high) = paired_t(&d, 0.95).unwrap();
        near(t.statistic, &case["t"]["statistic"], name);
        near(t.p, &case["t"]["p"], name);
        near(low, &case["t"]["low"], name);
        near(high, &case["t"]["high"], name);
        for (zeros, key) in [(Zeros::LeftOut, "wilcoxon"), (Zeros::Ranked, "pratt")] {
            let test = wilcoxon(&d, zeros).unwrap();
            near(test.statistic, &case[key]["statistic"], name);
            near(test.p, &case[key]["p"], name);
        }
        near(sign_test(&d).unwrap().p, &case["sign"], name);
        near(cohens_dz(&d).unwrap(), &case["dz"], name);
        near(cliffs_delta(&a, &b).unwrap(), &case["cliff"], name);

        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let resampled: Vec<f64> = case["indices"]
            .as_array()
            .unwrap()
            .iter()
            .map(|indices| {
                mean(&numbers(indices).iter().map(|i| d[*i as usize]).collect::<Vec<_>>())
            })
            .collect();
        let left_out: Vec<f64> =
            (0..d.len()).map(|i| mean(&[&d[..i], &d[i + 1..]].concat())).collect();
        let (low, high) = bca(mean(&d), &resampled, &left_out, 0.95).unwrap();
        near(low, &case["bca"][0], name);
        near(high, &case["bca"][1], name);
    }
    let fixture = fixture();
    let adjusted = holm(&numbers(&fixture["holm"]["p"]));
    for (ours, theirs) in adjusted.iter().zip(fixture["holm"]["adjusted"].as_array().unwrap()) {
        near(*ours, theirs, "holm");
    }
}

#[test]
fn nothing_to_compare_gives_no_number() {
    assert!(paired_t(&[0.5], 0.95).is_none() && paired_t(&[0.5, 0.5], 0.95).is_none());
    assert!(wilcoxon(&[0.0, 0.0], Zeros::LeftOut).is_none());
    assert!(wilcoxon(&[0.0, 0.0], Zeros::Ranked).is_none());
    assert!(sign_test(&[0.0]).is_none() && cliffs_delta(&[], &[1.0]).is_none());
    assert!(bca(0.0, &[], &[], 0.95).is_none() && bca(1.0, &[1.0; 9], &[1.0; 3], 0.95).is_none());
    assert!(clustered_error(&[1.0, 0.0], &[0, 0]).is_none());
}

/// Independent clusters of one value: the ordinary standard error. Copies in a cluster add nothing.
#[test]
fn clustered_errors_count_clusters_not_samples() {
    let values = [0.1, 0.9, 0.4, 0.4, 0.8];
    let (mean, error) = clustered_error(&values, &[0, 1, 2, 3, 4]).unwrap();
    let squares: f64 = values.iter().map(|x| (x - mean).powi(2)).sum();
    assert!((error - (squares / 4.0 / 5.0).sqrt()).abs() < 1e-12);
    let copied: Vec<f64> = values.iter().flat_map(|x| [*x; 3]).collect();
    let clusters: Vec<usize> = (0..15).map(|i| i / 3).collect();
    let (again, same) = clustered_error(&copied, &clusters).unwrap();
    assert!((again - mean).abs() < 1e-12 && (same - error).abs() < 1e-12);
}

/// `cargo test -p evaluator -p xtask --test statistics -- --ignored`: 10,000 experiments.
#[test]
#[ignore = "a minute"]
fn intervals_cover_the_truth_as_often_as_they_say() {
    let (trials, n, resamples) = (10_000, 100, 1_000);
    let (mut t_covered, mut bca_covered) = (0, 0);
    for trial in 0..trials {
        let mut rng = Seed(11).index(trial).rng();
        // Differences of scores: the sum of three uniform numbers, mean 0.
        let mut draw = || (0..3).map(|_| rng.random_range(-0.5..0.5)).sum::<f64>();
        let d: Vec<f64> = (0..n).map(|_| draw()).collect();
        let total: f64 = d.iter().sum();
        let (_, low, high) = paired_t(&d, 0.95).unwrap();
        t_covered += usize::from(low <= 0.0 && 0.0 <= high);
        let mut rng = Seed(12).index(trial).rng();
        let resampled: Vec<f64> = (0..resamples)
            .map(|_| {
                (0..n).map(|_| d[rng.random_range(0..n as u32) as usize]).sum::<f64>() / n as f64
            })
            .collect();
        let left_out: Vec<f64> = d.iter().map(|x| (total - x) / (n - 1) as f64).collect();
        let (low, high) = bca(total / n as f64, &resampled, &left_out, 0.95).unwrap();
        bca_covered += usize::from(low <= 0.0 && 0.0 <= high);
    }
    println!("paired t {t_covered}, BCa {bca_covered} of {trials}");
    assert!((9_400..=9_600).contains(&t_covered), "paired t covered {t_covered}");
    assert!((9_400..=9_600).contains(&bca_covered), "BCa covered {bca_covered}");
}
