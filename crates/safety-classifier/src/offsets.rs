//! How much each class is favoured over what is most probable.
//!
//! The label with the greatest probability gives the most right answers, but seldom a rare class. A
//! summand per class, added to its log-probability, trades accuracy for macro-F1. The summands are
//! chosen on predictions of texts that the predicting model was not fitted to, never on the texts that
//! the classifier is reported on.

use crate::calibrate::argmax;

/// The summands that are tried around the start, and their distance.
const RANGE: i32 = 30;
const STEP: f64 = 0.05;
/// Rounds over all classes, at most.
const ROUNDS: usize = 5;
/// A class with fewer texts than one in this many is too small to choose a summand for.
const SMALLEST_SHARE: usize = 200;
/// Differences below this are rounding.
const BETTER: f64 = 1e-9;

/// From `start` (one summand per class, or none), the summands with the greatest
/// `accuracy + macro_f1_weight · macro-F1`, found class by class. `rows` holds the calibrated
/// probabilities of each text, `classes` what is true. Macro-F1 is over the classes with at least one
/// text in 200; the largest class and smaller ones keep their summands.
pub fn choose(
    rows: &[Vec<f64>],
    classes: &[usize],
    start: &[f64],
    macro_f1_weight: f64,
) -> Vec<f64> {
    let n = rows.first().map_or(0, Vec::len);
    let mut texts = vec![0usize; n];
    classes.iter().for_each(|&class| texts[class] += 1);
    let counted: Vec<usize> =
        (0..n).filter(|&class| texts[class] * SMALLEST_SHARE >= classes.len()).collect();
    let largest = (0..n).max_by_key(|&class| texts[class]);
    let logs: Vec<Vec<f64>> = rows
        .iter()
        .map(|row| row.iter().map(|p| p.max(f64::MIN_POSITIVE).ln()).collect())
        .collect();
    let value = |offsets: &[f64]| objective(&logs, classes, offsets, &counted, macro_f1_weight);

    let start = if start.is_empty() { vec![0.0; n] } else { start.to_vec() };
    let mut best = (value(&start), start.clone());
    for _ in 0..ROUNDS {
        let before = best.0;
        for &class in counted.iter().filter(|&&class| Some(class) != largest) {
            for step in -RANGE..=RANGE {
                let mut tried = best.1.clone();
                tried[class] = start[class] + f64::from(step) * STEP;
                let found = value(&tried);
                if found > best.0 + BETTER {
                    best = (found, tried);
                }
            }
        }
        if best.0 <= before + BETTER {
            break;
        }
    }
    best.1
}

fn objective(
    logs: &[Vec<f64>],
    classes: &[usize],
    offsets: &[f64],
    counted: &[usize],
    macro_f1_weight: f64,
) -> f64 {
    let n = offsets.len();
    let (mut hits, mut found, mut there) = (vec![0usize; n], vec![0usize; n], vec![0usize; n]);
    let mut shifted = vec![0f64; n];
    for (row, &class) in logs.iter().zip(classes) {
        for (sum, (log, offset)) in shifted.iter_mut().zip(row.iter().zip(offsets)) {
            *sum = log + offset;
        }
        let label = argmax(&shifted);
        found[label] += 1;
        there[class] += 1;
        hits[class] += usize::from(label == class);
    }
    let f1 =
        |&class: &usize| 2.0 * hits[class] as f64 / (found[class] + there[class]).max(1) as f64;
    let accuracy = hits.iter().sum::<usize>() as f64 / classes.len().max(1) as f64;
    accuracy + macro_f1_weight * counted.iter().map(f1).sum::<f64>() / counted.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1 text in 10 is of class 1, and is given 0.4 for it; 1 in 9 of the others is given as much.
    fn texts() -> (Vec<Vec<f64>>, Vec<usize>) {
        (0..1800)
            .map(|i| match i {
                0..180 => (vec![0.6, 0.4], 1),
                180..360 => (vec![0.6, 0.4], 0),
                _ => (vec![0.9, 0.1], 0),
            })
            .unzip()
    }

    #[test]
    fn a_rare_class_is_favoured_as_far_as_macro_f1_counts() {
        let (rows, classes) = texts();
        let favoured = choose(&rows, &classes, &[], 1.0);
        assert_eq!(favoured[0], 0.0);
        // Over even odds of 0.4 : 0.6, under those of 0.1 : 0.9.
        assert!(favoured[1] > (0.6f64 / 0.4).ln() && favoured[1] < 9f64.ln(), "{favoured:?}");
        let kept = choose(&rows[100..], &classes[100..], &[0.0, 0.1], 0.0);
        assert_eq!(kept, [0.0, 0.1], "accuracy alone gains nothing");
    }

    #[test]
    fn no_text_changes_nothing() {
        assert_eq!(choose(&[], &[], &[], 1.0), Vec::<f64>::new());
    }
}
