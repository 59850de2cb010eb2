//! From logits to what training needs of them, in one pass over each row while it is in the cache:
//!
//! ```text
//! z = raw, or cap·tanh(raw/cap)      l = log Σ exp z      log p = z_target − l
//! entropy = l − Σ p·z                ∂ log p / ∂raw = (onehot − p)·(1 − tanh²(raw/cap))
//! ```

#[cfg(feature = "cube")]
use burn::backend::{
    Backend, Dispatch, backend_extension,
    fusion::custom::TensorSpec,
    tensor::{FloatTensor, IntTensor},
};
use burn::{
    backend::{BackendTensor, DispatchTensor, DispatchTensorKind, Flex},
    tensor::{DType, Int, Tensor, activation::log_softmax},
};
use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::cpu::{self, vectorized};

/// What one row of logits says about its target.
#[derive(Clone, Copy, Debug, Default)]
pub struct RowScore {
    /// `log p(target)`, natural logarithm.
    pub logp: f32,
    /// Entropy of the row's distribution, in nats.
    pub entropy: f32,
    /// Whether the target is the first of the largest logits.
    pub correct: bool,
    /// Mean of the logits.
    pub mean_logit: f32,
    /// `log Σ p²` over the row.
    pub log_sum_squares: f32,
}

/// The scores of some rows, which a GPU may not have computed yet.
pub enum RowScores {
    /// They are here.
    Known(Vec<RowScore>),
    /// On their device, `[rows, 5 or more]`: numbers in the order of [`RowScore`].
    Queued(Box<Tensor<2>>),
}

impl RowScores {
    /// The scores; waits for them.
    pub fn read(self) -> Vec<RowScore> {
        match self {
            Self::Known(scores) => scores,
            Self::Queued(rows) => {
                let [_, columns] = rows.dims();
                let numbers: Vec<f32> = rows.into_data().iter().collect();
                let score = |row: &[f32]| RowScore {
                    logp: row[0],
                    entropy: row[1],
                    correct: row[2] > 0.0,
                    mean_logit: row[3],
                    log_sum_squares: row[4],
                };
                numbers.chunks_exact(columns).map(score).collect()
            }
        }
    }
}

/// Scores each row of `raw` logits `[rows, vocabulary]` (f32, before the soft-cap, on a device
/// without autodiff) for its target. With `gradient`, also `∂ log p / ∂raw`, `[rows, vocabulary]`,
/// which on CPU takes the place of `raw`.
pub fn score_rows(
    raw: Tensor<2>,
    targets: &[u32],
    softcap: Option<f64>,
    gradient: bool,
) -> (RowScores, Option<Tensor<2>>) {
    let DispatchTensor { kind, autodiff } = raw.into_dispatch();
    match kind {
        DispatchTensorKind::Flex(BackendTensor::Float(raw)) if raw.dtype() == DType::F32 => {
            let (scores, gradients) = fused(raw, targets, softcap.map(|cap| cap as f32), gradient);
            (RowScores::Known(scores), gradients.map(Tensor::from_primitive::<Flex>))
        }
        kind => {
            let raw = Tensor::from_dispatch(DispatchTensor { kind, autodiff });
            #[cfg(feature = "cube")]
            if super::on_cube(&raw) {
                return on_gpu(raw, targets, softcap, gradient);
            }
            reference(raw, targets, softcap, gradient)
        }
    }
}

/// The same in Burn's operations, for other devices.
fn reference(
    raw: Tensor<2>,
    targets: &[u32],
    softcap: Option<f64>,
    gradient: bool,
) -> (RowScores, Option<Tensor<2>>) {
    let device = raw.device();
    let [_, vocabulary] = raw.dims();
    let ids: Vec<i64> = targets.iter().map(|&t| t as i64).collect();
    let target = Tensor::<1, Int>::from_data(ids.as_slice(), &device).unsqueeze_dim::<2>(1);
    let logits = match softcap {
        Some(cap) => raw.div_scalar(cap).tanh().mul_scalar(cap),
        None => raw,
    };
    let logps = log_softmax(logits.clone(), 1);
    let probs = logps.clone().exp();
    let entropy = (probs.clone() * logps.clone()).sum_dim(1).neg();
    let best = logits.clone().argmax(1);
    let squares = probs.clone().square().sum_dim(1).log();
    let picked = logps.gather(1, target.clone());
    let correct = best.equal(target.clone()).float();
    let columns = vec![picked, entropy, correct, logits.clone().mean_dim(1), squares];
    let scores = RowScores::Queued(Box::new(Tensor::cat(columns, 1)));
    let gradients = || {
        let onehot = Tensor::<1, Int>::arange(0..vocabulary as i64, &device)
            .unsqueeze_dim::<2>(0)
            .equal(target.clone());
        let gradient = onehot.float() - probs;
        match softcap {
            // d cap·tanh(x/cap) / dx = 1 − tanh²
            Some(cap) => gradient * logits.div_scalar(cap).square().neg().add_scalar(1.0),
            None => gradient,
        }
    };
    (scores, gradient.then(gradients))
}

/// Numbers of a row that a GPU's kernel hands back: those of [`RowScore`], in their order, and `l`.
#[cfg(feature = "cube")]
pub(super) const COLUMNS: usize = 6;

/// [`score_rows`] on a GPU.
#[cfg(feature = "cube")]
fn on_gpu(
    raw: Tensor<2>,
    targets: &[u32],
    softcap: Option<f64>,
    gradient: bool,
) -> (RowScores, Option<Tensor<2>>) {
    let ids: Vec<i32> = targets.iter().map(|&id| id as i32).collect();
    let ids = Tensor::<1, Int>::from_data(ids.as_slice(), &raw.device()).into_dispatch();
    let softcap = softcap.map(|cap| cap as f32);
    let raw = raw.into_dispatch();
    let scores = <Dispatch as ScoreOps>::score(raw.clone(), ids.clone(), softcap);
    let gradients = gradient.then(|| {
        let out = <Dispatch as ScoreOps>::score_gradient(raw, ids, scores.clone(), softcap);
        Tensor::from_dispatch(out)
    });
    (RowScores::Queued(Box::new(Tensor::from_dispatch(scores))), gradients)
}

#[cfg(feature = "cube")]
#[backend_extension(Cube, Fusion)]
pub(super) trait ScoreOps: Backend {
    /// `[rows, COLUMNS]`.
    #[fusion(meta = |raw, _, _| TensorSpec::new([raw.shape[0], COLUMNS].into(), DType::F32))]
    fn score(
        raw: FloatTensor<Self>,
        targets: IntTensor<Self>,
        softcap: Option<f32>,
    ) -> FloatTensor<Self>;

    /// `∂ log p / ∂raw`, from what `score` gave.
    #[fusion(dtype = raw, shape = raw)]
    fn score_gradient(
        raw: FloatTensor<Self>,
        targets: IntTensor<Self>,
        scores: FloatTensor<Self>,
        softcap: Option<f32>,
    ) -> FloatTensor<Self>;
}

fn fused(
    raw: FlexTensor,
    targets: &[u32],
    softcap: Option<f32>,
    gradient: bool,
) -> (Vec<RowScore>, Option<FlexTensor>) {
    let mut raw = cpu::contiguous(raw);
    let [_, vocabulary] = raw.layout().shape().dims();
    let rows = cpu::numbers_mut(&mut raw).par_chunks_mut(vocabulary.max(1)).zip(targets);
    let score =
        |(logits, &target): (&mut [f32], &u32)| row(logits, target as usize, softcap, gradient);
    let scores = rows.map(score).collect();
    (scores, gradient.then_some(raw))
}

vectorized! {
    /// Scores a row and, with `gradient`, turns it into its gradient.
    fn row(logits: &mut [f32], target: usize, softcap: Option<f32>, gradient: bool) -> RowScore {
        if let Some(cap) = softcap {
            for z in &mut *logits {
                *z = cap * cpu::tanh(*z / cap);
            }
        }
        let max = cpu::max(logits);
        let mean_logit = cpu::sum(logits) / logits.len() as f32;
        let own = logits[target];
        let correct = own == max && !logits[..target].contains(&max);
        // Σ e, Σ e·(z − max) and Σ e² of e = e^(z − max), in sums that vectors can hold.
        let (mut sums, mut products, mut squares) = ([0.0f32; 32], [0.0f32; 32], [0.0f32; 32]);
        let (blocks, rest) = logits.as_chunks::<32>();
        for block in blocks {
            for i in 0..32 {
                let z = block[i] - max;
                let e = cpu::exp(z);
                sums[i] += e;
                products[i] = e.mul_add(z, products[i]);
                squares[i] = e.mul_add(e, squares[i]);
            }
        }
        for (i, z) in rest.iter().enumerate() {
            let e = cpu::exp(z - max);
            sums[i] += e;
            products[i] += e * (z - max);
            squares[i] += e * e;
        }
        let sum: f32 = sums.iter().sum();
        let log_sum = sum.ln();
        if gradient {
            let scale = -1.0 / sum;
            // 1 − tanh² from the capped logit; 0 · z² without a cap.
            let bend = softcap.map_or(0.0, |cap| -1.0 / (cap * cap));
            for z in &mut *logits {
                *z = cpu::exp(*z - max) * scale * (bend * *z).mul_add(*z, 1.0);
            }
            logits[target] += (bend * own).mul_add(own, 1.0);
        }
        RowScore {
            logp: own - max - log_sum,
            entropy: log_sum - products.iter().sum::<f32>() / sum,
            correct,
            mean_logit,
            log_sum_squares: squares.iter().sum::<f32>().ln() - 2.0 * log_sum,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{close, device, random};

    #[test]
    fn the_fused_version_is_the_reference() {
        for softcap in [None, Some(2.0)] {
            for [rows, vocabulary] in [[4, 5], [30, 1003]] {
                let logits = random("logits", [rows, vocabulary]) * 3.0;
                let targets: Vec<u32> =
                    (0..rows as u32).map(|r| r * 37 % vocabulary as u32).collect();
                let there = logits.clone().to_device(&device());
                let (theirs, expected) = reference(there.clone(), &targets, softcap, true);
                let (theirs, expected) = (theirs.read(), expected.unwrap());
                for logits in [logits, there] {
                    let (ours, grads) = score_rows(logits.clone(), &targets, softcap, true);
                    let ours = ours.read();
                    close(&grads.unwrap(), &expected, "gradient");
                    for (a, b) in ours.iter().zip(&theirs) {
                        assert_eq!(a.correct, b.correct);
                        let pairs = [
                            (a.logp, b.logp),
                            (a.entropy, b.entropy),
                            (a.mean_logit, b.mean_logit),
                            (a.log_sum_squares, b.log_sum_squares),
                        ];
                        let same = pairs.iter().all(|(a, b)| (a - b).abs() < 1e-5);
                        assert!(same, "{a:?}, not {b:?}");
                    }
                    let (again, none) = score_rows(logits, &targets, softcap, false);
                    let same = again.read().iter().zip(&ours).all(|(a, b)| a.logp == b.logp);
                    assert!(none.is_none() && same);
                }
            }
        }
    }

    #[test]
    fn of_equal_logits_the_first_is_the_most_likely() {
        for device in [burn::tensor::Device::flex(), device()] {
            let (scores, _) = score_rows(Tensor::zeros([2, 40], &device), &[0, 3], None, false);
            let scores = scores.read();
            assert!(scores[0].correct && !scores[1].correct);
            assert!((scores[0].entropy - 40f32.ln()).abs() < 1e-5);
        }
    }
}
