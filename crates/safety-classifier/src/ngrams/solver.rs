//! Multinomial logistic regression on sparse rows.
//!
//! The loss is convex, so there is nothing to tune; L-BFGS finds its minimum.

use rayon::prelude::*;

use super::sparse::Sparse;
use crate::optimise::{dot, minimise};

/// The gradient's largest entry, relative to the first one, at which the minimum is reached.
const TOLERANCE: f64 = 1e-3;
/// Texts, or n-grams, that one thread takes at a time.
const BLOCK: usize = 512;

/// Texts, their classes and how much each counts.
pub(crate) struct Problem<'a> {
    /// One row per text.
    pub rows: &'a Sparse,
    /// Number of columns of `rows`.
    pub columns: usize,
    /// The class of each text.
    pub classes: &'a [usize],
    /// How much each text counts.
    pub weights: &'a [f32],
    /// Number of classes.
    pub n_classes: usize,
    /// Inverse strength of regularisation: the loss is
    /// `Σ weight · cross-entropy + ‖w‖² / (2 c)`, biases free, as in scikit-learn.
    pub c: f64,
}

/// The minimiser: `[columns + 1, n_classes]`, the last row the biases.
pub(crate) fn solve(problem: &Problem, max_iterations: usize) -> Vec<f32> {
    let columns = problem.rows.transposed(problem.columns);
    let start = vec![0f32; (problem.columns + 1) * problem.n_classes];
    minimise(start, max_iterations, TOLERANCE, |at| problem.loss_and_gradient(&columns, at))
}

impl Problem<'_> {
    /// The loss, and its gradient in the layout of the weights.
    fn loss_and_gradient(&self, columns: &Sparse, at: &[f32]) -> (f64, Vec<f32>) {
        let k = self.n_classes;
        let (weights, biases) = at.split_at(self.columns * k);
        // Probability minus truth for each text and class, weighted.
        let mut errors = vec![0f32; self.rows.rows() * k];
        let losses: Vec<f64> = errors
            .par_chunks_mut(k * BLOCK)
            .enumerate()
            .map(|(block, errors)| {
                let first = block * BLOCK;
                let rows = errors.chunks_mut(k).enumerate();
                rows.map(|(i, error)| self.text(first + i, weights, biases, error)).sum()
            })
            .collect();
        let decay = 1.0 / self.c as f32;
        let mut gradient = vec![0f32; at.len()];
        gradient[..weights.len()].par_chunks_mut(k * BLOCK).enumerate().for_each(
            |(block, part)| {
                for (i, sums) in part.chunks_mut(k).enumerate() {
                    let column = block * BLOCK + i;
                    for (sum, weight) in sums.iter_mut().zip(&weights[column * k..]) {
                        *sum = decay * weight;
                    }
                    for &(row, value) in columns.row(column) {
                        for (sum, error) in sums.iter_mut().zip(&errors[row as usize * k..]) {
                            *sum += value * error;
                        }
                    }
                }
            },
        );
        for (class, bias) in gradient[weights.len()..].iter_mut().enumerate() {
            *bias = errors.iter().skip(class).step_by(k).map(|&e| f64::from(e)).sum::<f64>() as f32;
        }
        let penalty = 0.5 * dot(weights, weights) / self.c;
        (losses.iter().sum::<f64>() + penalty, gradient)
    }

    /// The loss of text `i`; `error` becomes its probabilities minus the truth.
    fn text(&self, i: usize, weights: &[f32], biases: &[f32], error: &mut [f32]) -> f64 {
        error.copy_from_slice(biases);
        scores(self.rows.row(i), weights, error);
        let top = error.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f32 = error.iter().map(|score| (score - top).exp()).sum();
        let class = self.classes[i];
        let loss = f64::from(top + sum.ln() - error[class]);
        let weight = self.weights[i];
        for score in error.iter_mut() {
            *score = weight * (*score - top).exp() / sum;
        }
        error[class] -= weight;
        f64::from(weight) * loss
    }
}

/// Adds a row times the weights (`[columns, classes]`) to `scores`.
pub(crate) fn scores(row: &[(u32, f32)], weights: &[f32], scores: &mut [f32]) {
    let k = scores.len();
    for &(column, value) in row {
        for (score, weight) in scores.iter_mut().zip(&weights[column as usize * k..]) {
            *score += value * weight;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optimise::largest;

    #[test]
    fn at_the_minimum_the_gradient_is_zero_and_classes_are_told_apart() {
        let rows =
            Sparse::new((0..60).map(|i| vec![(i % 3, 1.0), (3 + i % 2, 0.5)]).collect::<Vec<_>>());
        let classes: Vec<usize> = (0..60).map(|i| i % 3).collect();
        let weights = vec![1.0; 60];
        let problem = Problem {
            rows: &rows,
            columns: 5,
            classes: &classes,
            weights: &weights,
            n_classes: 3,
            c: 2.0,
        };
        let found = solve(&problem, 200);
        let (_, gradient) = problem.loss_and_gradient(&rows.transposed(5), &found);
        assert!(largest(&gradient) < 0.05, "{gradient:?}");
        for column in 0..3 {
            let row = &found[column * 3..column * 3 + 3];
            assert_eq!(crate::calibrate::argmax(row), column);
        }
    }

    #[test]
    fn the_gradient_is_that_of_the_loss() {
        let rows = Sparse::new(vec![vec![(0, 0.3), (1, -1.2)], vec![(1, 0.7)], vec![]]);
        let (classes, weights) = ([0, 1, 1], [1.0, 2.0, 0.5]);
        let problem = Problem {
            rows: &rows,
            columns: 2,
            classes: &classes,
            weights: &weights,
            n_classes: 2,
            c: 0.5,
        };
        let columns = rows.transposed(2);
        let at = [0.3, -0.2, 0.5, 0.1, -0.4, 0.6];
        let (_, gradient) = problem.loss_and_gradient(&columns, &at);
        for i in 0..at.len() {
            let loss = |change: f32| {
                let mut moved = at;
                moved[i] += change;
                problem.loss_and_gradient(&columns, &moved).0
            };
            let slope = (loss(1e-2) - loss(-1e-2)) / 2e-2;
            assert!((slope - f64::from(gradient[i])).abs() < 1e-3, "{i}: {slope} {gradient:?}");
        }
    }
}
