//! A small network over a bag of n-grams: `scores = W · gelu(Σ_j x_j · E_j + b) + c`.
//!
//! As in fastText (Joulin et al., arXiv 1607.01759) a text is the sum of a learnt vector for each of
//! its n-grams; here they are weighted, and a non-linearity stands behind the sum. What is learnt
//! about one n-gram is shared through the vectors, which logistic regression cannot do.

use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::tensor::activation::gelu;
use burn::tensor::module::embedding;
use burn::tensor::{Device, Tensor, TensorData};
use cai_data::seed::Seed;
use cai_train::TrainArgs;
use rand::RngExt;
use serde::{Deserialize, Serialize};

use crate::network::{Network, Noise, drop_out};
use crate::weights::Init;

/// Standard deviation of the initial vectors.
const EMBEDDING_STD: f32 = 0.02;

/// Settings of the network over n-grams.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BagConfig {
    /// Width of the n-grams' vectors.
    pub width: usize,
    /// Share of activations set to zero while training.
    pub dropout: f64,
    /// Share of a text's n-grams that training does not see.
    pub ngram_dropout: f64,
    /// The optimiser and the length of training.
    pub train: TrainArgs,
}

impl Default for BagConfig {
    fn default() -> Self {
        Self {
            width: 32,
            dropout: 0.3,
            ngram_dropout: 0.2,
            train: TrainArgs {
                learning_rate: 3e-3,
                num_train_epochs: 4.0,
                per_device_train_batch_size: 256,
                max_grad_norm: 0.0,
                save_total_limit: Some(1),
                ..TrainArgs::default()
            },
        }
    }
}

/// The sizes of a bag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BagShape {
    /// Number of n-grams.
    pub ngrams: usize,
    /// Width of their vectors.
    pub width: usize,
    /// Number of outputs.
    pub n_outputs: usize,
}

/// The network. The head's weight is stored `[in, out]`.
#[derive(Module, Debug)]
pub struct Bag {
    /// One vector per n-gram, `[n-grams, width]`.
    embedding: Param<Tensor<2>>,
    bias: Param<Tensor<1>>,
    head: Linear,
}

impl Bag {
    /// A new network whose weights depend on `seed` alone.
    pub fn new(shape: &BagShape, seed: Seed, device: &Device) -> Self {
        let init = Init { seed, device };
        let bias = TensorData::new(vec![0f32; shape.width], [shape.width]);
        Self {
            // A uniform distribution on [-b, b] has the standard deviation b / √3.
            embedding: init.uniform(
                "embedding",
                [shape.ngrams, shape.width],
                EMBEDDING_STD * 3f32.sqrt(),
            ),
            bias: Param::from_data(bias, device),
            head: init.linear("head", shape.width, shape.n_outputs),
        }
    }

    /// Its sizes.
    pub fn shape(&self) -> BagShape {
        let [ngrams, width] = self.embedding.dims();
        let [_, n_outputs] = self.head.weight.dims();
        BagShape { ngrams, width, n_outputs }
    }
}

impl Network for Bag {
    type Text = [(u32, f32)];

    fn device(&self) -> Device {
        self.embedding.val().device()
    }

    fn length(text: &Self::Text) -> usize {
        text.len()
    }

    fn forward(&self, texts: &[&Self::Text], noise: Option<Noise>) -> Tensor<2> {
        let device = self.device();
        let rows = texts.len();
        // Padding is n-gram 0 with the value 0. Without any n-gram a text has one of these.
        let width = texts.iter().map(|text| text.len()).max().unwrap_or(0).max(1);
        let (mut ids, mut values) = (vec![0i32; rows * width], vec![0f32; rows * width]);
        let mut keep = keep(noise);
        for (i, text) in texts.iter().enumerate() {
            for (j, &(ngram, value)) in text.iter().enumerate() {
                ids[i * width + j] = ngram as i32;
                values[i * width + j] = value * keep();
            }
        }
        let ids = Tensor::from_data(TensorData::new(ids, [rows, width]), &device);
        let values = Tensor::<3>::from_data(TensorData::new(values, [rows, 1, width]), &device);
        let vectors = embedding(self.embedding.val(), ids);
        let summed: Tensor<2> = values.matmul(vectors).squeeze_dim(1);
        let mut dropout = noise.and_then(|noise| noise.of_activations());
        let hidden = gelu(summed + self.bias.val().unsqueeze());
        self.head.forward(drop_out(&mut dropout, hidden))
    }
}

/// Draws the factor of each n-gram: 0 for what training does not see, the others scaled up.
fn keep(noise: Option<Noise>) -> impl FnMut() -> f32 {
    let mut draws = noise
        .filter(|noise| noise.input_dropout > 0.0)
        .map(|noise| (noise.input_dropout as f32, noise.seed.derive("n-gram dropout").rng()));
    move || match &mut draws {
        Some((rate, rng)) => match rng.random::<f32>() < *rate {
            true => 0.0,
            false => 1.0 / (1.0 - *rate),
        },
        None => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::logits;

    fn bag() -> Bag {
        Bag::new(&BagShape { ngrams: 10, width: 8, n_outputs: 3 }, Seed(3), &Device::flex())
    }

    #[test]
    fn a_text_scores_the_same_alone_and_beside_longer_ones() {
        let rows: [&[(u32, f32)]; 3] =
            [&[], &[(0, 0.5), (9, 1.0)], &[(1, 0.1), (2, 0.2), (3, 0.3), (8, -1.0)]];
        let together = logits(&bag(), &rows).unwrap();
        for (row, together) in rows.iter().zip(&together) {
            let alone = &logits(&bag(), &[row]).unwrap()[0];
            for (a, b) in alone.iter().zip(together) {
                assert!(a.is_finite() && (a - b).abs() < 1e-6, "{a} {b}");
            }
        }
        assert_ne!(together[0], together[1]);
    }

    #[test]
    fn noise_follows_its_seed() {
        let row: &[(u32, f32)] = &[(1, 10.0), (2, 20.0), (3, 30.0), (4, -10.0)];
        let noisy = |seed| {
            let noise = Noise { dropout: 0.2, input_dropout: 0.5, seed: Seed(seed) };
            bag().forward(&[row], Some(noise)).try_into_vec_as::<f32>().unwrap()
        };
        assert_eq!(noisy(1), noisy(1));
        assert_ne!(noisy(1), noisy(2));
    }
}
