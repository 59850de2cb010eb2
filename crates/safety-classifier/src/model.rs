//! The encoder: embeddings, pre-norm transformer layers, mean over the real tokens, linear head.
//!
//! The layers are those of "Attention Is All You Need" (arXiv 1706.03762) with the normalisation
//! before each sub-layer (arXiv 2002.04745), which trains without warm-up tricks at this size.

use burn::module::{Module, Param};
use burn::nn::{LayerNorm, LayerNormConfig, Linear};
use burn::tensor::activation::{relu, softmax};
use burn::tensor::module::embedding;
use burn::tensor::{Device, Tensor, TensorData};
use cai_data::seed::Seed;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::batch::TextBatch;
use crate::config::Pooling;

/// Added to the attention scores of padding: its probability is 0 in f32.
const MASKED: f32 = -1e9;
/// Weighted means that attention pooling puts side by side.
const QUERIES: usize = 4;
/// Standard deviation of the initial embeddings, as in BERT (arXiv 1810.04805, A.2).
const EMBEDDING_STD: f32 = 0.02;

/// The sizes of an encoder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderShape {
    /// Number of tokens of the tokenizer.
    pub vocab_size: usize,
    /// Longest text in tokens.
    pub max_length: usize,
    /// Width of the encoder.
    pub d_model: usize,
    /// Number of layers.
    pub n_layers: usize,
    /// Attention heads per layer; divides `d_model`.
    pub n_heads: usize,
    /// Width of the feed-forward part.
    pub d_ff: usize,
    /// Number of classes.
    pub n_labels: usize,
    /// How the tokens become one vector.
    #[serde(default)]
    pub pooling: Pooling,
}

impl EncoderShape {
    /// Width of the vector that a text becomes.
    fn pooled(&self) -> usize {
        match self.pooling {
            Pooling::Mean => self.d_model,
            Pooling::Attention => self.d_model * QUERIES,
        }
    }
}

/// A transformer text classifier. Linear weights are stored `[in, out]`.
#[derive(Module, Debug)]
pub struct Encoder {
    /// One vector per token, `[vocab_size, d_model]`.
    token_embedding: Param<Tensor<2>>,
    /// One vector per position, `[max_length, d_model]`.
    position_embedding: Param<Tensor<2>>,
    layers: Vec<Layer>,
    norm: LayerNorm,
    /// One score per token and query, `[d_model, QUERIES]`; none under mean pooling.
    queries: Option<Linear>,
    head: Linear,
}

/// One pre-norm layer: `x + attention(norm(x))`, then `x + feed_forward(norm(x))`.
#[derive(Module, Debug)]
struct Layer {
    attention_norm: LayerNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    feed_forward_norm: LayerNorm,
    up: Linear,
    down: Linear,
    n_heads: usize,
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

    fn apply(&mut self, x: Tensor<3>) -> Tensor<3> {
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

fn drop_out(dropout: &mut Option<Dropout>, x: Tensor<3>) -> Tensor<3> {
    match dropout {
        Some(dropout) => dropout.apply(x),
        None => x,
    }
}

impl Encoder {
    /// A new encoder whose weights depend on `seed` alone.
    pub fn new(shape: &EncoderShape, seed: Seed, device: &Device) -> Self {
        let init = Init { seed, device };
        let d = shape.d_model;
        // A uniform distribution on [-b, b] has the standard deviation b / √3.
        let bound = EMBEDDING_STD * 3f32.sqrt();
        let layers = (0..shape.n_layers)
            .map(|i| {
                let path = |name: &str| format!("layers.{i}.{name}");
                Layer {
                    attention_norm: LayerNormConfig::new(d).init(device),
                    query: init.linear(&path("query"), d, d),
                    key: init.linear(&path("key"), d, d),
                    value: init.linear(&path("value"), d, d),
                    out: init.linear(&path("out"), d, d),
                    feed_forward_norm: LayerNormConfig::new(d).init(device),
                    up: init.linear(&path("up"), d, shape.d_ff),
                    down: init.linear(&path("down"), shape.d_ff, d),
                    n_heads: shape.n_heads,
                }
            })
            .collect();
        Self {
            token_embedding: init.uniform("token_embedding", [shape.vocab_size, d], bound),
            position_embedding: init.uniform("position_embedding", [shape.max_length, d], bound),
            layers,
            norm: LayerNormConfig::new(d).init(device),
            queries: match shape.pooling {
                Pooling::Mean => None,
                Pooling::Attention => Some(init.linear("queries", d, QUERIES)),
            },
            head: init.linear("head", shape.pooled(), shape.n_labels),
        }
    }

    /// The device that the weights are on.
    pub fn device(&self) -> Device {
        self.token_embedding.val().device()
    }

    /// Class scores before the softmax, `[batch, n_labels]`. `dropout` is for training only.
    pub fn forward(&self, batch: &TextBatch, mut dropout: Option<Dropout>) -> Tensor<2> {
        let [rows, width] = batch.ids.dims();
        let tokens = embedding(self.token_embedding.val(), batch.ids.clone());
        let positions = self.position_embedding.val().narrow(0, 0, width);
        let mut x = drop_out(&mut dropout, tokens + positions.unsqueeze::<3>());
        // 0 at real tokens, MASKED at padding.
        let padding = (batch.real.clone() - 1.0).mul_scalar(-MASKED).reshape([rows, 1, 1, width]);
        for layer in &self.layers {
            x = layer.forward(x, &padding, &mut dropout);
        }
        let x = self.norm.forward(x);
        let pooled = match &self.queries {
            None => mean_of_real(x, batch.real.clone()),
            Some(queries) => attended(queries, x, padding.reshape([rows, 1, width])),
        };
        let pooled = drop_out(&mut dropout, pooled.unsqueeze_dim(1)).squeeze_dim(1);
        self.head.forward(pooled)
    }
}

/// Means of the tokens, `[batch, width, d]`, weighted by the softmax of each query's scores, side by
/// side: `[batch, QUERIES · d]`. `padding` is added to the scores, `[batch, 1, width]`.
fn attended(queries: &Linear, x: Tensor<3>, padding: Tensor<3>) -> Tensor<2> {
    let [rows, _, d] = x.dims();
    let scores = queries.forward(x.clone()).swap_dims(1, 2) + padding;
    softmax(scores, 2).matmul(x).reshape([rows, QUERIES * d])
}

/// Mean over the real tokens: `[batch, width, d]` and `[batch, width]` to `[batch, d]`.
fn mean_of_real(x: Tensor<3>, real: Tensor<2>) -> Tensor<2> {
    let counts = real.clone().sum_dim(1);
    let sums = (x * real.unsqueeze_dim::<3>(2)).sum_dim(1).squeeze_dim::<2>(1);
    sums / counts
}

impl Layer {
    /// `x` is `[batch, width, d_model]`, `padding` is added to the scores, `[batch, 1, 1, width]`.
    fn forward(
        &self,
        x: Tensor<3>,
        padding: &Tensor<4>,
        dropout: &mut Option<Dropout>,
    ) -> Tensor<3> {
        let attended = self.attention(self.attention_norm.forward(x.clone()), padding);
        let x = x + drop_out(dropout, attended);
        let wide = relu(self.up.forward(self.feed_forward_norm.forward(x.clone())));
        x + drop_out(dropout, self.down.forward(wide))
    }

    fn attention(&self, x: Tensor<3>, padding: &Tensor<4>) -> Tensor<3> {
        let [rows, width, d] = x.dims();
        let d_head = d / self.n_heads;
        let heads = |x: Tensor<3>| x.reshape([rows, width, self.n_heads, d_head]).swap_dims(1, 2);
        let query = heads(self.query.forward(x.clone()).div_scalar((d_head as f32).sqrt()));
        let key = heads(self.key.forward(x.clone()));
        let value = heads(self.value.forward(x));
        let scores = query.matmul(key.swap_dims(2, 3)) + padding.clone();
        let mixed = softmax(scores, 3).matmul(value);
        self.out.forward(mixed.swap_dims(1, 2).reshape([rows, width, d]))
    }
}

/// Initial weights, each drawn from the run's seed and the weight's name.
struct Init<'a> {
    seed: Seed,
    device: &'a Device,
}

impl Init<'_> {
    fn uniform(&self, name: &str, shape: [usize; 2], bound: f32) -> Param<Tensor<2>> {
        let mut rng = self.seed.derive(name).rng();
        let values: Vec<f32> =
            (0..shape[0] * shape[1]).map(|_| rng.random_range(-bound..bound)).collect();
        Param::from_data(TensorData::new(values, shape), self.device)
    }

    /// Glorot's uniform distribution, biases 0.
    fn linear(&self, name: &str, d_in: usize, d_out: usize) -> Linear {
        let bound = (6.0 / (d_in + d_out) as f32).sqrt();
        let bias = TensorData::new(vec![0f32; d_out], [d_out]);
        Linear {
            weight: self.uniform(name, [d_in, d_out], bound),
            bias: Some(Param::from_data(bias, self.device)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoder(pooling: Pooling) -> Encoder {
        let shape = EncoderShape {
            vocab_size: 50,
            max_length: 12,
            d_model: 16,
            n_layers: 2,
            n_heads: 4,
            d_ff: 32,
            n_labels: 5,
            pooling,
        };
        Encoder::new(&shape, Seed(7), &Device::flex())
    }

    fn logits(encoder: &Encoder, rows: &[&[u32]]) -> Vec<f32> {
        let batch = TextBatch::new(rows, 0, &Device::flex());
        encoder.forward(&batch, None).try_into_vec_as().unwrap()
    }

    #[test]
    fn a_padded_batch_gives_what_each_text_gives_alone() {
        let rows: [&[u32]; 3] = [&[1], &[1, 5, 9, 20, 33, 4, 8, 2, 40, 41, 42, 43], &[1, 7, 7]];
        for encoder in [Pooling::Mean, Pooling::Attention].map(encoder) {
            let alone: Vec<f32> = rows.iter().flat_map(|row| logits(&encoder, &[row])).collect();
            let together = logits(&encoder, &rows);
            for (a, b) in alone.iter().zip(&together) {
                assert!(a.is_finite() && (a - b).abs() < 1e-5, "{a} {b}");
            }
        }
    }

    #[test]
    fn the_seed_decides_the_weights() {
        let rows: [&[u32]; 1] = [&[1, 2, 3]];
        let logits = || logits(&encoder(Pooling::Mean), &rows);
        assert_eq!(logits(), logits());
    }

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
