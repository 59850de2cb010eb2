//! Who wins against whom: win rates with ties, and ratings of all models from them.

use cai_data::seed::Seed;
use rand::RngExt;
use serde::{Deserialize, Serialize};

use crate::stats::quantile;

/// Two scores this close are a tie.
const TIE: f64 = 1e-9;

/// Elo points per unit of log-odds: 400 points are odds of ten to one.
const ELO: f64 = 400.0 / std::f64::consts::LN_10;

/// The mean rating.
const CENTRE: f64 = 1500.0;

/// How often one model's reply scores above another's on the same prompt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WinRate {
    /// The model.
    pub model: String,
    /// The model it is compared with.
    pub against: String,
    /// Prompts won.
    pub wins: usize,
    /// Prompts on which both score the same.
    pub ties: usize,
    /// Prompts lost.
    pub losses: usize,
    /// (wins + ties / 2) / prompts.
    pub rate: f64,
}

/// A model's strength by Bradley and Terry, in Elo points.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rating {
    /// The model.
    pub model: String,
    /// Elo points; the mean over models is 1500.
    pub elo: f64,
    /// Lower end of the bootstrap interval over topics; absent with fewer than two.
    pub low: Option<f64>,
    /// Upper end.
    pub high: Option<f64>,
}

/// Win rates of every model against every other; `scores[model][prompt]`, absent ones left out.
pub fn win_rates(names: &[&str], scores: &[Vec<Option<f64>>]) -> Vec<WinRate> {
    let mut rates = Vec::new();
    for (i, model) in names.iter().enumerate() {
        for (j, against) in names.iter().enumerate().filter(|(j, _)| *j != i) {
            let differences: Vec<f64> =
                scores[i].iter().zip(&scores[j]).filter_map(|(a, b)| Some((*a)? - (*b)?)).collect();
            rates.extend(win_rate(model, against, &differences));
        }
    }
    rates
}

/// The win rate from differences of scores, one for each prompt; `None` if there are none.
pub fn win_rate(model: &str, against: &str, differences: &[f64]) -> Option<WinRate> {
    if differences.is_empty() {
        return None;
    }
    let wins = differences.iter().filter(|d| **d > TIE).count();
    let losses = differences.iter().filter(|d| **d < -TIE).count();
    let ties = differences.len() - wins - losses;
    let rate = (wins as f64 + ties as f64 / 2.0) / differences.len() as f64;
    let (model, against) = (model.to_owned(), against.to_owned());
    Some(WinRate { model, against, wins, ties, losses, rate })
}

/// Ratings of all models, with intervals from `resamples` draws of whole clusters of prompts.
pub fn ratings(
    names: &[&str],
    scores: &[Vec<Option<f64>>],
    clusters: &[usize],
    resamples: usize,
    confidence: f64,
    seed: Seed,
) -> Vec<Rating> {
    let number = clusters.iter().max().map_or(0, |last| last + 1);
    // Points (wins and half the ties) of each model against each, by cluster.
    let mut points = vec![vec![vec![0.0; names.len()]; names.len()]; number];
    for (prompt, cluster) in clusters.iter().enumerate() {
        for i in 0..names.len() {
            for j in (0..names.len()).filter(|j| *j != i) {
                if let (Some(a), Some(b)) = (scores[i][prompt], scores[j][prompt]) {
                    let point = if a - b > TIE {
                        1.0
                    } else if b - a > TIE {
                        0.0
                    } else {
                        0.5
                    };
                    points[*cluster][i][j] += point;
                }
            }
        }
    }
    let of = |weights: &[u32]| bradley_terry(&weighted(&points, weights, names.len()));
    let estimates = of(&vec![1; number]);
    let mut drawn: Vec<Vec<f64>> = vec![Vec::with_capacity(resamples); names.len()];
    if number >= 2 {
        let mut rng = seed.rng();
        let mut weights = vec![0u32; number];
        for _ in 0..resamples {
            weights.fill(0);
            for _ in 0..number {
                weights[rng.random_range(0..number as u32) as usize] += 1;
            }
            for (drawn, elo) in drawn.iter_mut().zip(of(&weights)) {
                drawn.push(elo);
            }
        }
    }
    let tail = (1.0 - confidence) / 2.0;
    names
        .iter()
        .zip(estimates)
        .zip(drawn)
        .map(|((model, elo), mut drawn)| {
            drawn.sort_by(f64::total_cmp);
            let (low, high) = (quantile(&drawn, tail), quantile(&drawn, 1.0 - tail));
            Rating { model: (*model).to_owned(), elo, low, high }
        })
        .collect()
}

fn weighted(points: &[Vec<Vec<f64>>], weights: &[u32], models: usize) -> Vec<Vec<f64>> {
    let mut sum = vec![vec![0.0; models]; models];
    for (cluster, weight) in points.iter().zip(weights).filter(|(_, weight)| **weight > 0) {
        for (sum, row) in sum.iter_mut().zip(cluster) {
            for (sum, points) in sum.iter_mut().zip(row) {
                *sum += f64::from(*weight) * points;
            }
        }
    }
    sum
}

/// Bradley and Terry's strengths from `points[i][j]`, what `i` scored against `j`, in Elo points; by
/// minorisation and maximisation (Hunter, MM Algorithms for Generalized Bradley–Terry Models, 2004,
/// equation 3). Every two models that met get one tie on top, so that a model that won all its games
/// has a finite strength.
pub fn bradley_terry(points: &[Vec<f64>]) -> Vec<f64> {
    const PRIOR: f64 = 0.5;
    const ROUNDS: usize = 2000;
    let n = points.len();
    let met = |i: usize, j: usize| i != j && points[i][j] + points[j][i] > 0.0;
    let games = |i: usize, j: usize| {
        if met(i, j) { points[i][j] + points[j][i] + 2.0 * PRIOR } else { 0.0 }
    };
    let won: Vec<f64> =
        (0..n).map(|i| (0..n).filter(|j| met(i, *j)).map(|j| points[i][j] + PRIOR).sum()).collect();
    let mut strength = vec![1.0; n];
    for _ in 0..ROUNDS {
        let mut next: Vec<f64> = (0..n)
            .map(|i| {
                let faced: f64 = (0..n).map(|j| games(i, j) / (strength[i] + strength[j])).sum();
                if faced > 0.0 { won[i] / faced } else { 1.0 }
            })
            .collect();
        let mean = next.iter().map(|s: &f64| s.ln()).sum::<f64>() / n.max(1) as f64;
        next.iter_mut().for_each(|s| *s /= mean.exp());
        let moved = next.iter().zip(&strength).map(|(a, b)| (a / b).ln().abs()).fold(0.0, f64::max);
        strength = next;
        if moved < 1e-10 {
            break;
        }
    }
    strength.into_iter().map(|s| CENTRE + ELO * s.ln()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_models_differ_by_the_log_odds_of_winning() {
        // 75 and 25 of 100, and the tie on top: odds (75.5 / 25.5).
        let elo = bradley_terry(&[vec![0.0, 75.0], vec![25.0, 0.0]]);
        assert!((elo[0] - elo[1] - 400.0 * (75.5f64 / 25.5).log10()).abs() < 1e-6, "{elo:?}");
        assert!((elo[0] + elo[1] - 3000.0).abs() < 1e-6);
    }

    #[test]
    fn ties_are_half_a_win_each_and_absent_scores_are_left_out() {
        let scores = [
            vec![Some(1.0), Some(0.5), None, Some(0.2)],
            vec![Some(0.0), Some(0.5), Some(1.0), Some(0.9)],
        ];
        let rates = win_rates(&["a", "b"], &scores);
        let a = &rates[0];
        assert_eq!((a.wins, a.ties, a.losses, a.rate), (1, 1, 1, 0.5));
        assert_eq!(rates[1].rate, 0.5);
        let ratings = ratings(&["a", "b"], &scores, &[0, 1, 2, 3], 200, 0.95, Seed(1));
        assert!((ratings[0].elo - 1500.0).abs() < 1e-6);
        assert!(ratings[0].low.unwrap() < 1500.0 && ratings[0].high.unwrap() > 1500.0);
        assert_eq!(super::ratings(&["a"], &scores[..1], &[0; 4], 10, 0.95, Seed(1))[0].low, None);
    }
}
