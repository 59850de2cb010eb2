//! The encoder: embeddings, pre-norm transformer layers, mean over the real tokens, linear head.
//!
//! The layers are those of "Attention Is All You Need" (arXiv 1706.03762) with the normalisation
//! before each sub-layer (arXiv 2002.04745), which trains without warm-up tricks at this size.

use burn::module::{Module, Param};
use burn::nn::{LayerNorm, LayerNormConfig, Linear};
use burn::tensor::activation::{relu, softmax};
use burn::tensor::module::embedding;
use burn::tensor::{Device, Tensor};
use cai_data::seed::Seed;
use rand::RngExt;
use serde::{Deserialize, Serialize};

use crate::batch::TextBatch;
use crate::config::Pooling;
use crate::network::{Dropout, Network, Noise, drop_out};
use crate::tokenizer::PAD_ID;
use crate::weights::Init;

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
    /// Number of outputs.
    pub n_outputs: usize,
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
    pub(crate) token_embedding: Param<Tensor<2>>,
    /// One vector per position, `[max_length, d_model]`.
    pub(crate) position_embedding: Param<Tensor<2>>,
    pub(crate) layers: Vec<Layer>,
    pub(crate) norm: LayerNorm,
    /// One score per token and query, `[d_model, QUERIES]`; none under mean pooling.
    pub(crate) queries: Option<Linear>,
    pub(crate) head: Linear,
}

/// One pre-norm layer: `x + attention(norm(x))`, then `x + feed_forward(norm(x))`.
#[derive(Module, Debug)]
pub(crate) struct Layer {
    pub(crate) attention_norm: LayerNorm,
    pub(crate) query: Linear,
    pub(crate) key: Linear,
    pub(crate) value: Linear,
    pub(crate) out: Linear,
    pub(crate) feed_forward_norm: LayerNorm,
    pub(crate) up: Linear,
    pub(crate) down: Linear,
    n_heads: usize,
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
            head: init.linear("head", shape.pooled(), shape.n_outputs),
        }
    }

    /// The encoder with what stands behind its layers made anew.
    pub(crate) fn with_new_head(self, shape: &EncoderShape, seed: Seed, device: &Device) -> Self {
        let Self { queries, head, .. } = Self::new(shape, seed, device);
        Self { queries, head, ..self }
    }

    /// Scores before the softmax, `[batch, n_outputs]`. `dropout` is for training only.
    pub fn scores(&self, batch: &TextBatch, mut dropout: Option<Dropout>) -> Tensor<2> {
        let x = self.hidden(batch, &mut dropout);
        let [rows, width, _] = x.dims();
        let pooled = match &self.queries {
            None => mean_of_real(x, batch.real.clone()),
            Some(queries) => attended(queries, x, padding(batch).reshape([rows, 1, width])),
        };
        self.head.forward(drop_out(&mut dropout, pooled))
    }

    /// What the layers make of each token, `[batch, width, d_model]`.
    pub(crate) fn hidden(&self, batch: &TextBatch, dropout: &mut Option<Dropout>) -> Tensor<3> {
        let [rows, width] = batch.ids.dims();
        let tokens = embedding(self.token_embedding.val(), batch.ids.clone());
        let positions = self.position_embedding.val().narrow(0, 0, width);
        let mut x = drop_out(dropout, tokens + positions.unsqueeze::<3>());
        let padding = padding(batch).reshape([rows, 1, 1, width]);
        for layer in &self.layers {
            x = layer.forward(x, &padding, dropout);
        }
        self.norm.forward(x)
    }

    /// The vectors of the tokens, `[vocab_size, d_model]`.
    pub(crate) fn token_vectors(&self) -> Tensor<2> {
        self.token_embedding.val()
    }
}

/// What is added to attention scores: 0 at real tokens, [`MASKED`] at padding, `[batch, width]`.
fn padding(batch: &TextBatch) -> Tensor<2> {
    (batch.real.clone() - 1.0).mul_scalar(-MASKED)
}

impl Network for Encoder {
    type Text = [u32];

    fn device(&self) -> Device {
        self.token_embedding.val().device()
    }

    fn length(text: &[u32]) -> usize {
        text.len()
    }

    /// Every text has at least one token.
    fn forward(&self, texts: &[&[u32]], noise: Option<Noise>) -> Tensor<2> {
        let device = self.device();
        match noise {
            None => self.scores(&TextBatch::new(texts, PAD_ID, &device), None),
            Some(noise) => {
                let seen = unseen_tokens(texts, noise);
                let seen: Vec<&[u32]> = seen.iter().map(Vec::as_slice).collect();
                self.scores(&TextBatch::new(&seen, PAD_ID, &device), noise.of_activations())
            }
        }
    }
}

/// The texts with a share of the tokens, never the first, replaced by padding that is attended to.
fn unseen_tokens(texts: &[&[u32]], noise: Noise) -> Vec<Vec<u32>> {
    let mut rows: Vec<Vec<u32>> = texts.iter().map(|row| row.to_vec()).collect();
    if noise.input_dropout > 0.0 {
        let mut rng = noise.seed.derive("token dropout").rng();
        for id in rows.iter_mut().flat_map(|row| row.iter_mut().skip(1)) {
            if rng.random_bool(noise.input_dropout) {
                *id = PAD_ID;
            }
        }
    }
    rows
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
            n_outputs: 5,
            pooling,
        };
        Encoder::new(&shape, Seed(7), &Device::flex())
    }

    fn logits(encoder: &Encoder, rows: &[&[u32]]) -> Vec<f32> {
        let batch = TextBatch::new(rows, 0, &Device::flex());
        encoder.scores(&batch, None).try_into_vec_as().unwrap()
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
}
