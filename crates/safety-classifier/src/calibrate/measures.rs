//! How well probabilities mean what they say.

use crate::config::Task;

/// Bins of the calibration errors, as in arXiv 1706.04599, section 5.
pub const BINS: usize = 15;

/// Position of the largest value, the first of equal ones.
pub fn argmax<T: PartialOrd>(row: &[T]) -> usize {
    (1..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best })
}

/// Mean negative log-likelihood of the truth, in nats; 0 for no texts.
pub fn mean_nll(rows: &[Vec<f64>], truth: &[Vec<usize>], task: Task) -> f64 {
    // A probability that underflowed to 0 would make the mean infinite, which JSON cannot hold.
    let log = |p: f64| p.max(f64::MIN_POSITIVE).ln();
    let nll = |(row, classes): (&Vec<f64>, &Vec<usize>)| -> f64 {
        match task {
            Task::SingleLabel => classes.iter().map(|&class| -log(row[class])).sum(),
            Task::MultiLabel => {
                let of = |(c, &p): (usize, &f64)| if classes.contains(&c) { p } else { 1.0 - p };
                row.iter().enumerate().map(of).map(|p| -log(p)).sum()
            }
        }
    };
    rows.iter().zip(truth).map(nll).sum::<f64>() / rows.len().max(1) as f64
}

/// Mean squared distance between probabilities and truth, summed over the classes (Brier 1950);
/// 0 for no texts.
pub fn brier(rows: &[Vec<f64>], truth: &[Vec<usize>]) -> f64 {
    let distance = |(row, classes): (&Vec<f64>, &Vec<usize>)| -> f64 {
        let truth = |i: usize| f64::from(u8::from(classes.contains(&i)));
        row.iter().enumerate().map(|(i, p)| (p - truth(i)).powi(2)).sum()
    };
    rows.iter().zip(truth).map(distance).sum::<f64>() / rows.len().max(1) as f64
}

/// Decisions that were made with a probability in one bin.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bin {
    /// Decisions in the bin.
    pub decisions: usize,
    /// Sum of their probabilities.
    pub confidence: f64,
    /// Right ones.
    pub correct: usize,
}

/// Decisions binned by their probability, `BINS` bins of equal width: one for each text, that for its
/// most probable class; where labels do not exclude each other one for each text and label, that for
/// or against it.
pub fn bins(rows: &[Vec<f64>], truth: &[Vec<usize>], task: Task) -> [Bin; BINS] {
    let mut bins = [Bin::default(); BINS];
    let mut add = |probability: f64, right: bool| {
        let bin = &mut bins[((probability * BINS as f64) as usize).min(BINS - 1)];
        bin.decisions += 1;
        bin.confidence += probability;
        bin.correct += usize::from(right);
    };
    for (row, classes) in rows.iter().zip(truth) {
        match task {
            Task::SingleLabel => {
                let predicted = argmax(row);
                add(row[predicted], classes.contains(&predicted));
            }
            Task::MultiLabel => {
                for (c, &p) in row.iter().enumerate() {
                    add(p.max(1.0 - p), (p >= 0.5) == classes.contains(&c));
                }
            }
        }
    }
    bins
}

/// Expected calibration error: the gaps between confidence and accuracy of the bins, averaged with
/// the bins' sizes as weights (arXiv 1706.04599, equation 3). 0 for no texts.
pub fn expected_calibration_error(bins: &[Bin; BINS]) -> f64 {
    let gap = |bin: &Bin| (bin.confidence - bin.correct as f64).abs();
    let decisions: usize = bins.iter().map(|bin| bin.decisions).sum();
    bins.iter().map(gap).sum::<f64>() / decisions.max(1) as f64
}

/// Maximum calibration error: the largest gap of any bin (arXiv 1706.04599, equation 5). A bin of
/// few decisions decides it easily.
pub fn maximum_calibration_error(bins: &[Bin; BINS]) -> f64 {
    let gap = |bin: &Bin| (bin.confidence - bin.correct as f64).abs() / bin.decisions.max(1) as f64;
    bins.iter().map(gap).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_by_hand() {
        // Two texts in the bin of 0.9, of which one is right; one in the bin of 0.6, right.
        let rows = [vec![0.9, 0.1], vec![0.1, 0.9], vec![0.6, 0.4]];
        let truth = [vec![0], vec![0], vec![0]];
        let found = bins(&rows, &truth, Task::SingleLabel);
        let ece = expected_calibration_error(&found);
        assert!((ece - (0.8 + 0.4) / 3.0).abs() < 1e-12, "{ece}");
        assert!((maximum_calibration_error(&found) - 0.4).abs() < 1e-12);
        assert!((brier(&rows, &truth) - (0.02 + 1.62 + 0.32) / 3.0).abs() < 1e-12);
        assert_eq!(mean_nll(&[], &[], Task::SingleLabel), 0.0);
    }

    #[test]
    fn every_label_is_a_decision_where_several_can_be_right() {
        let (rows, truth) = ([vec![0.9, 0.2, 0.7]], [vec![0, 1]]);
        let found = bins(&rows, &truth, Task::MultiLabel);
        assert_eq!(found.iter().map(|bin| bin.decisions).sum::<usize>(), 3);
        // 0.9 is right; 0.8 against the second and 0.7 for the third are wrong.
        assert_eq!(found.iter().map(|bin| bin.correct).sum::<usize>(), 1);
        let nll = -(0.9f64.ln() + 0.2f64.ln() + 0.3f64.ln());
        assert!((mean_nll(&rows, &truth, Task::MultiLabel) - nll).abs() < 1e-12);
    }
}
