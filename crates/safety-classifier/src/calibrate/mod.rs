//! From the models' scores to probabilities that mean what they say.
//!
//! Two things are fitted on the held-out texts, and applied wherever the classifier predicts: how
//! much each model's log-probabilities count where there are several, and one of three maps of
//! "On Calibration of Modern Neural Networks" (arXiv 1706.04599): a temperature (section 4.2),
//! vector scaling (section 4.2), or isotonic regression for each class (section 4.1).

mod isotonic;
mod measures;

pub use isotonic::Isotonic;
pub use measures::{
    BINS, Bin, argmax, bins, brier, expected_calibration_error, maximum_calibration_error, mean_nll,
};

use serde::{Deserialize, Serialize};

use crate::config::Task;
use crate::optimise::minimise;

/// The temperatures that are tried. Few held-out errors would call for a temperature near 0, which
/// drives every probability to 0 or 1: half is as far as sharpening goes.
const TEMPERATURES: [f64; 2] = [0.5, 20.0];
/// Most weight of one model's log-probabilities.
const LARGEST_WEIGHT: f32 = 2.0;
/// How strongly weights, scales and biases are drawn to their start, in nats per squared unit: a
/// class of a few texts must not decide them.
const PRIOR: f64 = 2.0;
const ITERATIONS: usize = 200;
const TOLERANCE: f64 = 1e-5;

/// How probabilities are calibrated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CalibrationMethod {
    /// One number divides all scores: the predicted class stays.
    #[default]
    Temperature,
    /// Each class's score has a factor and a summand of its own.
    Vector,
    /// Each class's probability goes through a rising function; then they are scaled to sum to 1.
    Isotonic,
}

/// A fitted map from scores to probabilities.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "snake_case", deny_unknown_fields)]
pub enum Map {
    /// Scores are divided by `temperature`.
    Temperature {
        /// Above 0.
        temperature: f64,
    },
    /// Scores become `scale · score + bias`.
    Vector {
        /// One factor per class.
        scale: Vec<f64>,
        /// One summand per class.
        bias: Vec<f64>,
    },
    /// Probabilities go through one function per class.
    Isotonic {
        /// One function per class.
        classes: Vec<Isotonic>,
    },
}

/// How well probabilities fit the truth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fit {
    /// Mean negative log-likelihood, in nats.
    pub nll: f64,
    /// Expected calibration error.
    pub ece: f64,
    /// Maximum calibration error.
    pub mce: f64,
    /// Brier score.
    pub brier: f64,
}

/// What was fitted, and what it changed on the texts that it was fitted to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// Whether labels exclude each other.
    #[serde(default)]
    pub task: Task,
    /// How much the log-probabilities of each model count, the linear path first.
    pub weights: Vec<f64>,
    /// What happens to the weighted sum.
    pub map: Map,
    /// Added to each class's log-probability at the end, before they are scaled to sum to 1; empty
    /// for none. They favour rare classes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub offsets: Vec<f64>,
    /// Number of held-out texts.
    pub examples: usize,
    /// With equal weights and no map.
    pub before: Fit,
    /// With these weights and this map.
    pub after: Fit,
}

impl Calibration {
    /// Fits weights and map. `members[m]` is what model m scores: a row of class scores per text;
    /// `truth` has the classes of each text, one where labels exclude each other. `offsets` (one per
    /// class, or none) are taken as they are.
    pub fn fit(
        members: &[Vec<Vec<f32>>],
        truth: &[Vec<usize>],
        task: Task,
        method: CalibrationMethod,
        offsets: &[f64],
    ) -> Self {
        let equal = vec![1.0 / members.len().max(1) as f64; members.len()];
        let weights = match members.len() {
            1 => equal.clone(),
            _ => member_weights(members, truth, task),
        };
        let scores = mix(members, &weights, task);
        let map = match method {
            CalibrationMethod::Temperature => {
                Map::Temperature { temperature: best_temperature(&scores, truth, task) }
            }
            CalibrationMethod::Vector => vector(&scores, truth, task),
            CalibrationMethod::Isotonic => isotonic(&scores, truth, task),
        };
        let none = Map::Temperature { temperature: 1.0 };
        let fit = |scores: &[Vec<f32>], map: &Map, offsets: &[f64]| {
            let rows: Vec<Vec<f64>> =
                scores.iter().map(|row| shifted(map.apply(row, task), offsets, task)).collect();
            Fit::new(&rows, truth, task)
        };
        let before = fit(&mix(members, &equal, task), &none, &[]);
        let after = fit(&scores, &map, offsets);
        let offsets = offsets.to_vec();
        Self { task, weights, map, offsets, examples: truth.len(), before, after }
    }

    /// Class probabilities of each text from the models' scores, in the order of `members`.
    pub fn probabilities(&self, members: &[Vec<Vec<f32>>]) -> Vec<Vec<f64>> {
        mix(members, &self.weights, self.task)
            .iter()
            .map(|row| shifted(self.map.apply(row, self.task), &self.offsets, self.task))
            .collect()
    }

    /// What is wrong with it for this many models and classes, in words.
    pub(crate) fn problem(&self, models: usize, classes: usize, task: Task) -> Option<String> {
        let finite = |values: &[f64]| values.iter().all(|value| value.is_finite());
        if self.task != task {
            return Some(format!("it is for {:?}, the classifier for {task:?}", self.task));
        }
        if self.weights.len() != models || !finite(&self.weights) {
            return Some(format!("weights {:?} for {models} models", self.weights));
        }
        if !finite(&self.offsets) || ![0, classes].contains(&self.offsets.len()) {
            return Some(format!("offsets {:?} for {classes} classes", self.offsets));
        }
        match &self.map {
            Map::Temperature { temperature }
                if !(*temperature > 0.0 && temperature.is_finite()) =>
            {
                Some(format!("temperature {temperature} is not above 0"))
            }
            Map::Vector { scale, bias }
                if scale.len() != classes
                    || bias.len() != classes
                    || !finite(scale)
                    || !finite(bias) =>
            {
                Some(format!("scale {scale:?} and bias {bias:?} for {classes} classes"))
            }
            Map::Isotonic { classes: maps }
                if maps.len() != classes || !maps.iter().all(Isotonic::is_valid) =>
            {
                Some("a map that does not rise from 0 to 1".into())
            }
            _ => None,
        }
    }
}

impl Fit {
    /// Measures probabilities.
    pub fn new(rows: &[Vec<f64>], truth: &[Vec<usize>], task: Task) -> Self {
        let bins = bins(rows, truth, task);
        Self {
            nll: mean_nll(rows, truth, task),
            ece: expected_calibration_error(&bins),
            mce: maximum_calibration_error(&bins),
            brier: brier(rows, truth),
        }
    }
}

impl Map {
    /// Class probabilities of one row of scores.
    pub fn apply(&self, scores: &[f32], task: Task) -> Vec<f64> {
        match self {
            Self::Temperature { temperature } => probabilities(scores, *temperature, task),
            Self::Vector { scale, bias } => {
                let scaled = |((z, s), b): ((&f32, &f64), &f64)| (f64::from(*z) * s + b) as f32;
                let scores: Vec<f32> = scores.iter().zip(scale).zip(bias).map(scaled).collect();
                probabilities(&scores, 1.0, task)
            }
            Self::Isotonic { classes } => {
                let plain = probabilities(scores, 1.0, task);
                let mapped: Vec<f64> =
                    plain.iter().zip(classes).map(|(p, map)| map.apply(*p)).collect();
                let sum: f64 = mapped.iter().sum();
                match task {
                    Task::MultiLabel => mapped,
                    Task::SingleLabel if sum > 0.0 => mapped.into_iter().map(|p| p / sum).collect(),
                    Task::SingleLabel => plain,
                }
            }
        }
    }

    /// The map in words.
    pub fn describe(&self) -> String {
        match self {
            Self::Temperature { temperature } => format!("temperature {temperature:.3}"),
            Self::Vector { .. } => "vector scaling".into(),
            Self::Isotonic { .. } => "isotonic regression".into(),
        }
    }
}

/// Probabilities with `offsets` added to their logarithms (to their log-odds where labels do not
/// exclude each other).
fn shifted(mut row: Vec<f64>, offsets: &[f64], task: Task) -> Vec<f64> {
    for (p, offset) in row.iter_mut().zip(offsets) {
        let odds = *p * offset.exp();
        *p = match task {
            Task::SingleLabel => odds,
            Task::MultiLabel => odds / (odds + 1.0 - *p),
        };
    }
    if task == Task::SingleLabel && !offsets.is_empty() {
        let sum: f64 = row.iter().sum();
        row.iter_mut().for_each(|p| *p /= sum);
    }
    row
}

/// Class probabilities: the softmax of `logits / temperature`, or the sigmoid of each where labels do
/// not exclude each other.
pub fn probabilities(logits: &[f32], temperature: f64, task: Task) -> Vec<f64> {
    let scaled: Vec<f64> = match task {
        // The largest is taken away first: a huge score must not overflow.
        Task::SingleLabel => {
            let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            logits.iter().map(|&z| f64::from(z - largest) / temperature).collect()
        }
        Task::MultiLabel => logits.iter().map(|&z| f64::from(z) / temperature).collect(),
    };
    link(&scaled, task)
}

/// The classes that a row of probabilities stands for, ascending: the most probable one; where labels
/// do not exclude each other all with 1/2 or more, or else the most probable one.
pub fn called(row: &[f64], task: Task) -> Vec<usize> {
    let likely: Vec<usize> = (0..row.len()).filter(|&class| row[class] >= 0.5).collect();
    if task == Task::SingleLabel || likely.is_empty() { vec![argmax(row)] } else { likely }
}

/// The softmax of a row of scores, or the sigmoid of each.
fn link(scores: &[f64], task: Task) -> Vec<f64> {
    match task {
        Task::SingleLabel => {
            let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let mut row: Vec<f64> = scores.iter().map(|z| (z - largest).exp()).collect();
            let sum: f64 = row.iter().sum();
            row.iter_mut().for_each(|p| *p /= sum);
            row
        }
        Task::MultiLabel => scores.iter().map(|z| 1.0 / (1.0 + (-z).exp())).collect(),
    }
}

/// A model's scores as they are summed: log-probabilities, or log-odds where labels do not exclude
/// each other.
fn logs(scores: &[f32], task: Task) -> Vec<f64> {
    match task {
        Task::SingleLabel => log_softmax(scores),
        Task::MultiLabel => scores.iter().map(|&z| z.into()).collect(),
    }
}

/// The weighted sum of what the models say, text by text.
fn mix(members: &[Vec<Vec<f32>>], weights: &[f64], task: Task) -> Vec<Vec<f32>> {
    // One model's scores are used as they are: a constant per text changes no softmax.
    if let ([only], [weight]) = (members, weights)
        && *weight == 1.0
    {
        return only.clone();
    }
    let texts = members.first().map_or(0, Vec::len);
    let text = |i: usize| {
        let mut sum = vec![0f64; members[0][i].len()];
        for (member, weight) in members.iter().zip(weights) {
            for (sum, value) in sum.iter_mut().zip(logs(&member[i], task)) {
                *sum += weight * value;
            }
        }
        sum.into_iter().map(|value| value as f32).collect()
    };
    (0..texts).map(text).collect()
}

pub(crate) fn log_softmax(scores: &[f32]) -> Vec<f64> {
    let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = scores.iter().map(|z| f64::from(z - largest).exp()).sum();
    scores.iter().map(|z| f64::from(z - largest) - sum.ln()).collect()
}

/// The weights with the greatest likelihood, from 0 to [`LARGEST_WEIGHT`], drawn to equal ones. The
/// likelihood of a weighted sum of log-probabilities, normalised, is concave in the weights.
fn member_weights(members: &[Vec<Vec<f32>>], truth: &[Vec<usize>], task: Task) -> Vec<f64> {
    let start = vec![1.0 / members.len() as f32; members.len()];
    let logs: Vec<Vec<Vec<f64>>> =
        members.iter().map(|member| member.iter().map(|row| logs(row, task)).collect()).collect();
    let found = minimise(start.clone(), ITERATIONS, TOLERANCE, |weights| {
        let (mut loss, mut gradient) = prior(weights, &start);
        for (i, classes) in truth.iter().enumerate() {
            let score = |c: usize| -> f64 {
                logs.iter().zip(weights).map(|(m, w)| f64::from(*w) * m[i][c]).sum()
            };
            let scores: Vec<f64> = (0..logs[0][i].len()).map(score).collect();
            let (errors, nll) = errors_and_nll(&scores, classes, task);
            loss += nll;
            for (slope, member) in gradient.iter_mut().zip(&logs) {
                *slope += errors.iter().zip(&member[i]).map(|(e, value)| e * value).sum::<f64>();
            }
        }
        (loss, gradient.into_iter().map(|g| g as f32).collect())
    });
    found.into_iter().map(|weight| f64::from(weight.clamp(0.0, LARGEST_WEIGHT))).collect()
}

fn vector(scores: &[Vec<f32>], truth: &[Vec<usize>], task: Task) -> Map {
    let k = scores.first().map_or(0, Vec::len);
    let start: Vec<f32> = (0..2 * k).map(|i| if i < k { 1.0 } else { 0.0 }).collect();
    let found = minimise(start.clone(), ITERATIONS, TOLERANCE, |at| {
        let (mut loss, mut gradient) = prior(at, &start);
        for (row, classes) in scores.iter().zip(truth) {
            let scaled: Vec<f64> =
                (0..k).map(|c| f64::from(at[c] * row[c]) + f64::from(at[k + c])).collect();
            let (errors, nll) = errors_and_nll(&scaled, classes, task);
            loss += nll;
            for (c, error) in errors.into_iter().enumerate() {
                gradient[c] += error * f64::from(row[c]);
                gradient[k + c] += error;
            }
        }
        (loss, gradient.into_iter().map(|g| g as f32).collect())
    });
    let numbers = |part: &[f32]| part.iter().map(|&value| f64::from(value)).collect();
    Map::Vector { scale: numbers(&found[..k]), bias: numbers(&found[k..]) }
}

fn isotonic(scores: &[Vec<f32>], truth: &[Vec<usize>], task: Task) -> Map {
    let rows: Vec<Vec<f64>> = scores.iter().map(|row| probabilities(row, 1.0, task)).collect();
    let k = rows.first().map_or(0, Vec::len);
    let class = |c: usize| {
        let probability: Vec<f64> = rows.iter().map(|row| row[c]).collect();
        let truth: Vec<bool> = truth.iter().map(|classes| classes.contains(&c)).collect();
        Isotonic::fit(&probability, &truth)
    };
    Map::Isotonic { classes: (0..k).map(class).collect() }
}

/// What the distance from the start costs, and its gradient.
fn prior(at: &[f32], start: &[f32]) -> (f64, Vec<f64>) {
    let from: Vec<f64> = at.iter().zip(start).map(|(a, b)| f64::from(a - b)).collect();
    let cost = PRIOR * from.iter().map(|d| d * d).sum::<f64>();
    (cost, from.into_iter().map(|d| 2.0 * PRIOR * d).collect())
}

/// Probabilities minus truth (the gradient with respect to the scores), and the negative
/// log-likelihood.
fn errors_and_nll(scores: &[f64], classes: &[usize], task: Task) -> (Vec<f64>, f64) {
    let mut errors = link(scores, task);
    let nll = mean_nll(std::slice::from_ref(&errors), &[classes.to_vec()], task);
    classes.iter().for_each(|&class| errors[class] -= 1.0);
    (errors, nll)
}

/// The likelihood is convex in 1 / temperature: its slope has one zero, found by bisection.
fn best_temperature(logits: &[Vec<f32>], truth: &[Vec<usize>], task: Task) -> f64 {
    let [coldest, hottest] = TEMPERATURES;
    let (mut low, mut high) = (1.0 / hottest, 1.0 / coldest);
    if slope(logits, truth, task, low) >= 0.0 {
        return hottest;
    }
    if slope(logits, truth, task, high) <= 0.0 {
        return coldest;
    }
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if slope(logits, truth, task, middle) > 0.0 {
            high = middle;
        } else {
            low = middle;
        }
    }
    2.0 / (low + high)
}

/// d NLL / d b at b = 1 / temperature: the scores times probability minus truth.
fn slope(logits: &[Vec<f32>], truth: &[Vec<usize>], task: Task, inverse: f64) -> f64 {
    let of_text = |(row, classes): (&Vec<f32>, &Vec<usize>)| -> f64 {
        let expected = probabilities(row, 1.0 / inverse, task);
        let expected: f64 = expected.iter().zip(row).map(|(p, &z)| p * f64::from(z)).sum();
        expected - classes.iter().map(|&class| f64::from(row[class])).sum::<f64>()
    };
    logits.iter().zip(truth).map(of_text).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SINGLE: Task = Task::SingleLabel;

    /// 3 of 4 texts are right, with class scores that claim far more.
    fn overconfident() -> (Vec<Vec<f32>>, Vec<Vec<usize>>) {
        let rows = (0..400).map(|i| if i % 2 == 0 { vec![8.0, 0.0] } else { vec![0.0, 8.0] });
        let classes = (0..400).map(|i| vec![if i % 8 < 2 { 1 - i % 2 } else { i % 2 }]);
        (rows.collect(), classes.collect())
    }

    #[test]
    fn every_method_makes_confidence_match_accuracy() {
        use CalibrationMethod::{Isotonic, Temperature, Vector};
        let (logits, classes) = overconfident();
        for method in [Temperature, Vector, Isotonic] {
            let fitted =
                Calibration::fit(std::slice::from_ref(&logits), &classes, SINGLE, method, &[]);
            assert!(fitted.after.nll < fitted.before.nll, "{fitted:?}");
            assert!((fitted.before.ece - 0.25).abs() < 1e-3, "{fitted:?}");
            assert!(fitted.after.ece < 0.02 && fitted.after.mce < 0.05, "{fitted:?}");
            assert_eq!(fitted.problem(1, 2, SINGLE), None);
            let row = &fitted.probabilities(&[vec![vec![3.0, -1.0]]])[0];
            assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-9);
            let text = serde_json::to_string(&fitted).unwrap();
            assert_eq!(serde_json::from_str::<Calibration>(&text).unwrap(), fitted);
        }
        // softmax(8 / T) = 3/4 where T = 8 / ln 3.
        let fitted = Calibration::fit(&[logits], &classes, SINGLE, Temperature, &[]);
        let Map::Temperature { temperature } = fitted.map else { panic!("{fitted:?}") };
        assert!((temperature - 8.0 / 3f64.ln()).abs() < 1e-6);
    }

    #[test]
    fn a_model_that_knows_counts_more_than_one_that_guesses() {
        let classes: Vec<Vec<usize>> = (0..300).map(|i| vec![i % 3]).collect();
        let score = |right: usize| (0..3).map(|c| if c == right { 1.0 } else { 0.0 }).collect();
        let knows: Vec<Vec<f32>> = classes
            .iter()
            .enumerate()
            .map(|(i, c)| score(if i % 10 == 0 { 0 } else { c[0] }))
            .collect();
        let guesses: Vec<Vec<f32>> = (0..300).map(|i| score(i * 7 / 5 % 3)).collect();
        let fitted = Calibration::fit(
            &[knows, guesses],
            &classes,
            SINGLE,
            CalibrationMethod::Temperature,
            &[],
        );
        assert!(fitted.weights[0] > 3.0 * fitted.weights[1], "{fitted:?}");
        assert!(fitted.after.nll < fitted.before.nll);
    }

    #[test]
    fn offsets_favour_a_class() {
        let (logits, classes) = overconfident();
        let method = CalibrationMethod::Temperature;
        let fitted = Calibration::fit(&[logits], &classes, SINGLE, method, &[0.0, 2f64.ln()]);
        let row = &fitted.probabilities(&[vec![vec![0.0, 0.0]]])[0];
        assert!((row[1] - 2.0 / 3.0).abs() < 1e-9, "{row:?}");
        assert!(fitted.problem(1, 3, SINGLE).is_some());
    }

    #[test]
    fn without_errors_the_temperature_stays_in_bounds() {
        let logits = vec![vec![1.0, 0.0], vec![0.0, 1.0]];
        let fitted = Calibration::fit(
            &[logits],
            &[vec![0], vec![1]],
            SINGLE,
            CalibrationMethod::Temperature,
            &[],
        );
        assert_eq!(fitted.map, Map::Temperature { temperature: TEMPERATURES[0] });
        assert!(fitted.after.nll < fitted.before.nll);
    }

    #[test]
    fn probabilities_sum_to_one_even_for_extreme_scores() {
        let row = probabilities(&[1e30, -1e30, 0.0], 1.0, SINGLE);
        assert_eq!(row, [1.0, 0.0, 0.0]);
        assert!(mean_nll(&[row], &[vec![1]], SINGLE).is_finite());
    }

    #[test]
    fn labels_that_do_not_exclude_each_other_are_calibrated_one_by_one() {
        use CalibrationMethod::{Isotonic, Temperature, Vector};
        // The first label is right in 3 of 4 texts with a high score, the second in half of all.
        let logits: Vec<Vec<f32>> =
            (0..400).map(|i| vec![if i % 2 == 0 { 6.0 } else { -6.0 }, 2.0]).collect();
        let truth: Vec<Vec<usize>> = (0..400)
            .map(|i| {
                let first = (i % 2 == 0) != (i % 8 < 2);
                let second = i % 4 < 2;
                [(0, first), (1, second)]
                    .into_iter()
                    .filter(|(_, is)| *is)
                    .map(|(c, _)| c)
                    .collect()
            })
            .collect();
        for method in [Temperature, Vector, Isotonic] {
            let fitted = Calibration::fit(
                std::slice::from_ref(&logits),
                &truth,
                Task::MultiLabel,
                method,
                &[],
            );
            assert!(fitted.after.nll < fitted.before.nll, "{fitted:?}");
            if method != Temperature {
                assert!(fitted.after.ece < 0.02, "{fitted:?}");
                let row = &fitted.probabilities(&[vec![vec![6.0, 2.0]]])[0];
                assert!((row[0] - 0.75).abs() < 0.02 && (row[1] - 0.5).abs() < 0.02, "{row:?}");
            }
        }
    }
}
