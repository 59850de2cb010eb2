//! What training needs of a network, whatever it reads.

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use cai_data::seed::Seed;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::error::{Error, Result};

/// Texts per batch of inference. Fixed: with other sizes, matrix products differ in the last digits.
const BATCH_SIZE: usize = 64;

/// A network that scores texts: what [`CrossEntropy`](crate::objective::CrossEntropy) trains.
pub trait Network: Module {
    /// A text as the network reads it: a row of token ids, of weighted n-grams, …
    type Text: ?Sized;

    /// The device that the weights are on.
    fn device(&self) -> Device;

    /// How long a text is for the network. Texts of similar length share batches.
    fn length(text: &Self::Text) -> usize;

    /// Class scores before softmax or sigmoid, `[texts, labels]`. `noise` is for training only.
    fn forward(&self, texts: &[&Self::Text], noise: Option<Noise>) -> Tensor<2>;
}

/// What training disturbs, so that a text is recognised by more than one of its features.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Noise {
    /// Share of inner activations set to zero.
    pub dropout: f64,
    /// Share of what is read (tokens, n-grams) that is not seen.
    pub input_dropout: f64,
    /// Where the draws come from.
    pub seed: Seed,
}

impl Noise {
    /// Dropout of activations.
    pub fn of_activations(&self) -> Option<Dropout> {
        Dropout::new(self.dropout, self.seed)
    }
}

/// Class scores of each text, in order. Texts of similar length share a batch.
///
/// # Errors
/// When the scores cannot be read from the device.
pub fn logits<N: Network>(network: &N, texts: &[&N::Text]) -> Result<Vec<Vec<f32>>> {
    let mut order: Vec<usize> = (0..texts.len()).collect();
    order.sort_by_key(|&i| N::length(texts[i]));
    let mut logits = vec![Vec::new(); texts.len()];
    for block in order.chunks(BATCH_SIZE) {
        let batch: Vec<&N::Text> = block.iter().map(|&i| texts[i]).collect();
        let scores = network.forward(&batch, None);
        let [_, n_labels] = scores.dims();
        let scores: Vec<f32> = scores
            .try_into_vec_as()
            .map_err(|error| Error::Device { what: "class scores", problem: error.to_string() })?;
        for (&i, row) in block.iter().zip(scores.chunks(n_labels)) {
            logits[i] = row.to_vec();
        }
    }
    Ok(logits)
}

/// Sets a share of activations to zero while training, and scales up the others.
///
/// The draws come from a seed of the training step, not from Burn's global generator, so that a
/// resumed run sees the same ones.
#[derive(Debug)]
pub struct Dropout {
    rate: f32,
    rng: ChaCha8Rng,
}

impl Dropout {
    /// Dropout at `rate`, or `None` where the rate is 0.
    pub fn new(rate: f64, seed: Seed) -> Option<Self> {
        (rate > 0.0).then(|| Self { rate: rate as f32, rng: seed.rng() })
    }

    fn apply<const D: usize>(&mut self, x: Tensor<D>) -> Tensor<D> {
        let keep = 1.0 / (1.0 - self.rate);
        let shape = x.dims();
        let mut draw = || {
            if self.rng.random::<f32>() < self.rate { 0.0 } else { keep }
        };
        let factors: Vec<f32> = (0..shape.iter().product()).map(|_| draw()).collect();
        let factors = Tensor::from_data(TensorData::new(factors, shape), &x.device());
        x * factors
    }
}

/// `x` after dropout, if there is any.
pub(crate) fn drop_out<const D: usize>(dropout: &mut Option<Dropout>, x: Tensor<D>) -> Tensor<D> {
    match dropout {
        Some(dropout) => dropout.apply(x),
        None => x,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropout_keeps_the_mean_and_follows_its_seed() {
        let x = Tensor::<3>::ones([4, 50, 50], &Device::flex());
        let draw = |seed| {
            let dropped = Dropout::new(0.25, Seed(seed)).unwrap().apply(x.clone());
            dropped.try_into_vec_as::<f32>().unwrap()
        };
        let mean = draw(1).iter().sum::<f32>() / 10_000.0;
        assert!((mean - 1.0).abs() < 0.03, "{mean}");
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        assert!(Dropout::new(0.0, Seed(1)).is_none());
    }
}
