//! The minimum of a smooth convex function, by L-BFGS.
//!
//! Limited-memory BFGS (Nocedal and Wright, Numerical Optimization, algorithm 7.4) with
//! backtracking. Sums run over fixed pieces, so that the number of threads changes nothing.

use std::collections::VecDeque;

use rayon::prelude::*;

/// Pairs of step and gradient change that stand for the curvature.
const MEMORY: usize = 10;
/// Share of the decrease that the slope promises which a step must bring (Armijo).
const SUFFICIENT: f64 = 1e-4;
/// Halvings of a step before the search gives up.
const MAX_HALVINGS: usize = 30;
/// Elements that are summed in one go.
const PIECE: usize = 1 << 14;

/// Where a convex function is least, from `at` on. `loss_and_gradient` gives its value and gradient.
///
/// Stops when the gradient's largest entry has become `tolerance` of the first one, after
/// `max_iterations`, or where rounding hides any further decrease.
pub(crate) fn minimise(
    mut at: Vec<f32>,
    max_iterations: usize,
    tolerance: f64,
    mut loss_and_gradient: impl FnMut(&[f32]) -> (f64, Vec<f32>),
) -> Vec<f32> {
    let (mut loss, mut gradient) = loss_and_gradient(&at);
    let start = largest(&gradient);
    let mut history: VecDeque<Pair> = VecDeque::with_capacity(MEMORY);
    for _ in 0..max_iterations {
        if largest(&gradient) <= tolerance * start {
            break;
        }
        let direction = newton_direction(&gradient, &history);
        let slope = dot(&gradient, &direction);
        // Before there is any curvature, no number moves by more than 1.
        let mut length = if history.is_empty() { 1.0 / largest(&direction).max(1.0) } else { 1.0 };
        let mut found = None;
        for _ in 0..MAX_HALVINGS {
            let next = stepped(&at, &direction, length);
            let (next_loss, next_gradient) = loss_and_gradient(&next);
            if next_loss <= loss + SUFFICIENT * length * slope {
                found = Some((next, next_loss, next_gradient));
                break;
            }
            length *= 0.5;
        }
        let Some((next, next_loss, next_gradient)) = found else { break };
        let pair = Pair::new(&at, &next, &gradient, &next_gradient);
        if pair.curvature > 0.0 {
            if history.len() == MEMORY {
                history.pop_front();
            }
            history.push_back(pair);
        }
        (at, loss, gradient) = (next, next_loss, next_gradient);
    }
    at
}

struct Pair {
    step: Vec<f32>,
    change: Vec<f32>,
    /// `step · change`.
    curvature: f64,
}

impl Pair {
    fn new(at: &[f32], next: &[f32], gradient: &[f32], next_gradient: &[f32]) -> Self {
        let minus = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a - b).collect::<Vec<_>>();
        let (step, change) = (minus(next, at), minus(next_gradient, gradient));
        let curvature = dot(&step, &change);
        Self { step, change, curvature }
    }
}

/// Minus the inverse Hessian, as the history knows it, times the gradient.
fn newton_direction(gradient: &[f32], history: &VecDeque<Pair>) -> Vec<f32> {
    let mut q: Vec<f32> = gradient.iter().map(|g| -g).collect();
    let mut alphas = Vec::with_capacity(history.len());
    for pair in history.iter().rev() {
        let alpha = dot(&pair.step, &q) / pair.curvature;
        add(&mut q, &pair.change, -alpha);
        alphas.push(alpha);
    }
    if let Some(last) = history.back() {
        let scale = (last.curvature / dot(&last.change, &last.change)) as f32;
        q.iter_mut().for_each(|value| *value *= scale);
    }
    for (pair, alpha) in history.iter().zip(alphas.into_iter().rev()) {
        let beta = dot(&pair.change, &q) / pair.curvature;
        add(&mut q, &pair.step, alpha - beta);
    }
    q
}

fn stepped(at: &[f32], direction: &[f32], length: f64) -> Vec<f32> {
    at.iter().zip(direction).map(|(a, d)| a + length as f32 * d).collect()
}

fn add(to: &mut [f32], other: &[f32], factor: f64) {
    to.iter_mut().zip(other).for_each(|(a, b)| *a += factor as f32 * b);
}

pub(crate) fn dot(a: &[f32], b: &[f32]) -> f64 {
    let piece = |(a, b): (&[f32], &[f32])| -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    let sums: Vec<f64> = a.par_chunks(PIECE).zip(b.par_chunks(PIECE)).map(piece).collect();
    sums.iter().sum()
}

pub(crate) fn largest(values: &[f32]) -> f64 {
    values.iter().fold(0f32, |most, value| most.max(value.abs())).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_narrow_valley_is_followed_to_its_end() {
        // (x − 3)² + 100 (y + 1)²
        let found = minimise(vec![0.0, 0.0], 100, 1e-6, |at| {
            let (x, y) = (f64::from(at[0]) - 3.0, f64::from(at[1]) + 1.0);
            (x * x + 100.0 * y * y, vec![2.0 * x as f32, 200.0 * y as f32])
        });
        assert!((found[0] - 3.0).abs() < 1e-2 && (found[1] + 1.0).abs() < 1e-3, "{found:?}");
    }
}
