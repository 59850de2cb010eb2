//! How well probabilities mean what they say.

/// Bins of the calibration errors, as in arXiv 1706.04599, section 5.
pub const BINS: usize = 15;

/// Position of the largest value, the first of equal ones.
pub fn argmax<T: PartialOrd>(row: &[T]) -> usize {
    (1..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best })
}

/// Mean negative log-likelihood of the true classes, in nats; 0 for no texts.
pub fn mean_nll(rows: &[Vec<f64>], classes: &[usize]) -> f64 {
    // A probability that underflowed to 0 would make the mean infinite, which JSON cannot hold.
    let nll = |(row, &class): (&Vec<f64>, &usize)| -row[class].max(f64::MIN_POSITIVE).ln();
    rows.iter().zip(classes).map(nll).sum::<f64>() / rows.len().max(1) as f64
}

/// Mean squared distance between probabilities and truth, summed over the classes (Brier 1950);
/// from 0 to 2, and 0 for no texts.
pub fn brier(rows: &[Vec<f64>], classes: &[usize]) -> f64 {
    let distance = |(row, &class): (&Vec<f64>, &usize)| -> f64 {
        let truth = |i: usize| f64::from(u8::from(i == class));
        row.iter().enumerate().map(|(i, p)| (p - truth(i)).powi(2)).sum()
    };
    rows.iter().zip(classes).map(distance).sum::<f64>() / rows.len().max(1) as f64
}

/// Texts whose predicted class has a probability in one bin.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bin {
    /// Texts in the bin.
    pub texts: usize,
    /// Sum of the probabilities of their predicted classes.
    pub confidence: f64,
    /// Texts predicted rightly.
    pub correct: usize,
}

/// Texts binned by the probability of their predicted class, `BINS` bins of equal width.
pub fn bins(rows: &[Vec<f64>], classes: &[usize]) -> [Bin; BINS] {
    let mut bins = [Bin::default(); BINS];
    for (row, &class) in rows.iter().zip(classes) {
        let predicted = argmax(row);
        let bin = &mut bins[((row[predicted] * BINS as f64) as usize).min(BINS - 1)];
        bin.texts += 1;
        bin.confidence += row[predicted];
        bin.correct += usize::from(predicted == class);
    }
    bins
}

/// Expected calibration error: the gaps between confidence and accuracy of the bins, averaged with
/// the bins' sizes as weights (arXiv 1706.04599, equation 3). 0 for no texts.
pub fn expected_calibration_error(rows: &[Vec<f64>], classes: &[usize]) -> f64 {
    let gap = |bin: &Bin| (bin.confidence - bin.correct as f64).abs();
    bins(rows, classes).iter().map(gap).sum::<f64>() / rows.len().max(1) as f64
}

/// Maximum calibration error: the largest gap of any bin (arXiv 1706.04599, equation 5). A bin of
/// few texts decides it easily.
pub fn maximum_calibration_error(rows: &[Vec<f64>], classes: &[usize]) -> f64 {
    let gap = |bin: &Bin| (bin.confidence - bin.correct as f64).abs() / bin.texts.max(1) as f64;
    bins(rows, classes).iter().map(gap).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_by_hand() {
        // Two texts in the bin of 0.9, of which one is right; one in the bin of 0.6, right.
        let rows = [vec![0.9, 0.1], vec![0.1, 0.9], vec![0.6, 0.4]];
        let classes = [0, 0, 0];
        let ece = expected_calibration_error(&rows, &classes);
        assert!((ece - (0.8 + 0.4) / 3.0).abs() < 1e-12, "{ece}");
        assert!((maximum_calibration_error(&rows, &classes) - 0.4).abs() < 1e-12);
        assert!((brier(&rows, &classes) - (0.02 + 1.62 + 0.32) / 3.0).abs() < 1e-12);
        assert_eq!(mean_nll(&[], &[]), 0.0);
    }
}
