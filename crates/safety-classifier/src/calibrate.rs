//! Temperature scaling and how well probabilities mean what they say.
//!
//! One number divides all class scores, so that the predicted class stays and only the confidence
//! changes: "On Calibration of Modern Neural Networks" (arXiv 1706.04599), section 4.2.

use serde::{Deserialize, Serialize};

/// The temperatures that are tried. Few held-out errors would call for a temperature near 0, which
/// drives every probability to 0 or 1: half is as far as sharpening goes.
const TEMPERATURES: [f64; 2] = [0.5, 20.0];
/// Bins of the calibration error, as in arXiv 1706.04599, section 5.
const BINS: usize = 15;

/// A fitted temperature and what it changed, on the texts that it was fitted to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// Divides the class scores before the softmax.
    pub temperature: f64,
    /// Number of held-out texts.
    pub examples: usize,
    /// Mean negative log-likelihood (nats) at temperature 1.
    pub nll_before: f64,
    /// Mean negative log-likelihood (nats) at `temperature`; never above `nll_before`.
    pub nll_after: f64,
    /// Expected calibration error at temperature 1.
    pub ece_before: f64,
    /// Expected calibration error at `temperature`.
    pub ece_after: f64,
}

impl Calibration {
    /// Finds the temperature with the least negative log-likelihood on held-out texts.
    ///
    /// `logits` is one row of class scores per text, `classes` the true class of each.
    pub fn fit(logits: &[Vec<f32>], classes: &[usize]) -> Self {
        let temperature = best_temperature(logits, classes);
        let at = |temperature: f64| {
            let rows: Vec<Vec<f64>> =
                logits.iter().map(|row| probabilities(row, temperature)).collect();
            (mean_nll(&rows, classes), expected_calibration_error(&rows, classes))
        };
        let (nll_before, ece_before) = at(1.0);
        let (nll_after, ece_after) = at(temperature);
        let examples = classes.len();
        Self { temperature, examples, nll_before, nll_after, ece_before, ece_after }
    }
}

/// Class probabilities: the softmax of `logits / temperature`.
pub fn probabilities(logits: &[f32], temperature: f64) -> Vec<f64> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exponential = |&z: &f32| (f64::from(z - largest) / temperature).exp();
    let mut row: Vec<f64> = logits.iter().map(exponential).collect();
    let sum: f64 = row.iter().sum();
    row.iter_mut().for_each(|p| *p /= sum);
    row
}

/// Mean negative log-likelihood of the true classes, in nats; 0 for no texts.
pub fn mean_nll(rows: &[Vec<f64>], classes: &[usize]) -> f64 {
    // A probability that underflowed to 0 would make the mean infinite, which JSON cannot hold.
    let nll = |(row, &class): (&Vec<f64>, &usize)| -row[class].max(f64::MIN_POSITIVE).ln();
    rows.iter().zip(classes).map(nll).sum::<f64>() / rows.len().max(1) as f64
}

/// Expected calibration error: texts are binned by the probability of their predicted class, and
/// the gaps between confidence and accuracy are averaged, weighted by bin size (arXiv 1706.04599,
/// equation 3). 0 for no texts.
pub fn expected_calibration_error(rows: &[Vec<f64>], classes: &[usize]) -> f64 {
    let mut confidence = [0.0; BINS];
    let mut correct = [0.0; BINS];
    for (row, &class) in rows.iter().zip(classes) {
        let predicted = argmax(row);
        let bin = ((row[predicted] * BINS as f64) as usize).min(BINS - 1);
        confidence[bin] += row[predicted];
        correct[bin] += f64::from(u8::from(predicted == class));
    }
    let gaps: f64 = confidence.iter().zip(&correct).map(|(sum, hits)| (sum - hits).abs()).sum();
    gaps / rows.len().max(1) as f64
}

/// Position of the largest value, the first of equal ones.
pub fn argmax<T: PartialOrd>(row: &[T]) -> usize {
    (1..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best })
}

/// The likelihood is convex in 1 / temperature: its slope has one zero, found by bisection.
fn best_temperature(logits: &[Vec<f32>], classes: &[usize]) -> f64 {
    let [coldest, hottest] = TEMPERATURES;
    let (mut low, mut high) = (1.0 / hottest, 1.0 / coldest);
    if slope(logits, classes, low) >= 0.0 {
        return hottest;
    }
    if slope(logits, classes, high) <= 0.0 {
        return coldest;
    }
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if slope(logits, classes, middle) > 0.0 {
            high = middle;
        } else {
            low = middle;
        }
    }
    2.0 / (low + high)
}

/// d NLL / d b at b = 1 / temperature: the expected score minus the true class's.
fn slope(logits: &[Vec<f32>], classes: &[usize], inverse: f64) -> f64 {
    let of_text = |(row, &class): (&Vec<f32>, &usize)| {
        let expected: f64 =
            probabilities(row, 1.0 / inverse).iter().zip(row).map(|(p, &z)| p * f64::from(z)).sum();
        expected - f64::from(row[class])
    };
    logits.iter().zip(classes).map(of_text).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 3 of 4 texts are right, with class scores that claim far more.
    fn overconfident() -> (Vec<Vec<f32>>, Vec<usize>) {
        let rows = (0..400).map(|i| if i % 2 == 0 { vec![8.0, 0.0] } else { vec![0.0, 8.0] });
        let classes = (0..400).map(|i| if i % 8 < 2 { 1 - i % 2 } else { i % 2 });
        (rows.collect(), classes.collect())
    }

    #[test]
    fn the_temperature_makes_confidence_match_accuracy() {
        let (logits, classes) = overconfident();
        let fitted = Calibration::fit(&logits, &classes);
        // softmax(8 / T) = 3/4 where T = 8 / ln 3.
        assert!((fitted.temperature - 8.0 / 3f64.ln()).abs() < 1e-6, "{fitted:?}");
        assert!(fitted.nll_after < fitted.nll_before);
        assert!((fitted.ece_before - 0.25).abs() < 1e-3 && fitted.ece_after < 1e-6, "{fitted:?}");
    }

    #[test]
    fn without_errors_the_temperature_stays_in_bounds() {
        let logits = vec![vec![1.0, 0.0], vec![0.0, 1.0]];
        let fitted = Calibration::fit(&logits, &[0, 1]);
        assert_eq!(fitted.temperature, TEMPERATURES[0]);
        assert!(fitted.nll_after < fitted.nll_before);
    }

    #[test]
    fn probabilities_sum_to_one_even_for_extreme_scores() {
        let row = probabilities(&[1e30, -1e30, 0.0], 1.0);
        assert_eq!(row, [1.0, 0.0, 0.0]);
        assert!(mean_nll(&[row], &[1]).is_finite());
    }
}
