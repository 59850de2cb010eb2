//! A start for encoders: guessing hidden tokens of the training texts.
//!
//! Masked language modelling (Devlin et al., arXiv 1810.04805, section 3.1): a share of the tokens is
//! hidden, and the encoder learns to name them from the others. It needs no labels, so labels of
//! small classes are not all that the token vectors are learnt from. Hidden tokens are replaced by
//! `[PAD]`, which token dropout shows the encoder later, too.

use burn::module::{Module, Param};
use burn::nn::{LayerNorm, LayerNormConfig, Linear};
use burn::tensor::activation::{gelu, log_softmax};
use burn::tensor::{Device, Int, Tensor, TensorData};
use cai_data::seed::Seed;
use cai_train::{Metrics, Objective, ObjectiveError, StepLoss, TrainArgs};
use rand::RngExt;
use serde::{Deserialize, Serialize};

use crate::batch::TextBatch;
use crate::model::{Encoder, EncoderShape};
use crate::network::{Dropout, Network};
use crate::tokenizer::PAD_ID;
use crate::weights::Init;

/// Settings of the warm start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WarmStart {
    /// Share of the tokens that are hidden.
    pub hidden: f64,
    /// The optimiser and the length of training; 0 epochs for none.
    pub train: TrainArgs,
}

impl Default for WarmStart {
    fn default() -> Self {
        Self {
            hidden: 0.2,
            train: TrainArgs {
                learning_rate: 2e-3,
                num_train_epochs: 0.0,
                per_device_train_batch_size: 64,
                warmup_ratio: 0.06,
                adam_beta2: 0.98,
                save_total_limit: Some(1),
                ..TrainArgs::default()
            },
        }
    }
}

impl WarmStart {
    /// Whether there is one.
    pub fn is_wanted(&self) -> bool {
        self.train.num_train_epochs > 0.0
    }
}

/// An encoder that guesses tokens: its token vectors are the output layer, too.
#[derive(Module, Debug)]
pub(crate) struct Guesser {
    /// What is warmed.
    pub encoder: Encoder,
    transform: Linear,
    norm: LayerNorm,
    bias: Param<Tensor<1>>,
}

impl Guesser {
    /// A new encoder with the parts that guess.
    pub fn new(shape: &EncoderShape, seed: Seed, device: &Device) -> Self {
        let init = Init { seed, device };
        let bias = TensorData::new(vec![0f32; shape.vocab_size], [shape.vocab_size]);
        Self {
            encoder: Encoder::new(shape, seed, device),
            transform: init.linear("transform", shape.d_model, shape.d_model),
            norm: LayerNormConfig::new(shape.d_model).init(device),
            bias: Param::from_data(bias, device),
        }
    }

    /// The log-probability of each token at the places `hidden` of a batch, counted row by row:
    /// `[hidden, vocab_size]`.
    fn log_probabilities(
        &self,
        batch: &TextBatch,
        hidden: Tensor<1, Int>,
        dropout: &mut Option<Dropout>,
    ) -> Tensor<2> {
        let x = self.encoder.hidden(batch, dropout);
        let [rows, width, d] = x.dims();
        let x = x.reshape([rows * width, d]).select(0, hidden);
        let x = self.norm.forward(gelu(self.transform.forward(x)));
        let scores = x.matmul(self.encoder.token_vectors().transpose());
        log_softmax(scores + self.bias.val().unsqueeze(), 1)
    }
}

/// The mean negative log-probability of hidden tokens.
pub(crate) struct GuessTokens<'a> {
    /// Token ids of the texts.
    pub texts: &'a [Vec<u32>],
    /// Share of the tokens that are hidden.
    pub hidden: f64,
    /// Share of activations set to zero.
    pub dropout: f64,
}

impl Objective<Guesser> for GuessTokens<'_> {
    fn len(&self) -> usize {
        self.texts.len()
    }

    fn lengths(&self) -> Vec<usize> {
        self.texts.iter().map(Vec::len).collect()
    }

    /// The tokens that are hidden on average.
    fn weight(&self, items: &[usize]) -> f64 {
        items.iter().map(|&item| self.texts[item].len() as f64 * self.hidden).sum()
    }

    fn loss(
        &self,
        model: &Guesser,
        items: &[usize],
        seed: Seed,
    ) -> Result<StepLoss, ObjectiveError> {
        let device = model.encoder.device();
        let mut rows: Vec<Vec<u32>> = items.iter().map(|&item| self.texts[item].clone()).collect();
        let width = rows.iter().map(Vec::len).max().unwrap_or(0);
        let (mut places, mut tokens) = (Vec::new(), Vec::new());
        let mut rng = seed.derive("hidden tokens").rng();
        for (i, row) in rows.iter_mut().enumerate() {
            // The first is [CLS].
            for (j, id) in row.iter_mut().enumerate().skip(1) {
                if rng.random_bool(self.hidden) {
                    places.push((i * width + j) as i32);
                    tokens.push(*id as i32);
                    *id = PAD_ID;
                }
            }
        }
        if places.is_empty() {
            // Nothing to guess in a few short texts: the first token is, so that there is a loss.
            places.push(0);
            tokens.push(rows[0][0] as i32);
        }
        let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
        let batch = TextBatch::new(&rows, PAD_ID, &device);
        let number = places.len();
        let integers = |values: Vec<i32>| {
            Tensor::<1, Int>::from_data(TensorData::new(values, [number]), &device)
        };
        let mut dropout = Dropout::new(self.dropout, seed);
        let log_p = model.log_probabilities(&batch, integers(places), &mut dropout);
        let right = log_p.gather(1, integers(tokens).unsqueeze_dim(1));
        let surrogate = right.sum().neg();
        let loss = f64::from(surrogate.clone().inner().into_scalar::<f32>());
        let seen = rows.iter().map(|row| row.len()).sum();
        Ok(StepLoss { surrogate, loss, tokens: seen, metrics: Metrics::new() })
    }

    fn evaluate(&self, _: &Guesser) -> Result<Metrics, ObjectiveError> {
        Ok(Metrics::new())
    }
}

#[cfg(test)]
mod tests {
    use cai_train::RunDir;

    use super::*;
    use crate::config::Pooling;

    /// Each text repeats one of eight tokens, so that one in sight names those that are hidden.
    #[test]
    fn hidden_tokens_are_guessed_from_the_others() {
        const CLS_ID: u32 = 1;
        let text = |i: usize| [vec![CLS_ID], vec![10 + (i % 8) as u32; 7 + i % 3]].concat();
        let texts: Vec<Vec<u32>> = (0..256).map(text).collect();
        let objective = GuessTokens { texts: &texts, hidden: 0.3, dropout: 0.0 };
        let shape = EncoderShape {
            vocab_size: 24,
            max_length: 16,
            d_model: 16,
            n_layers: 1,
            n_heads: 2,
            d_ff: 32,
            n_outputs: 3,
            pooling: Pooling::Mean,
        };
        let args = TrainArgs {
            learning_rate: 1e-2,
            num_train_epochs: 12.0,
            per_device_train_batch_size: 32,
            logging_steps: 8,
            ..WarmStart::default().train
        };
        let dir = tempfile::tempdir().unwrap();
        let new = Guesser::new(&shape, Seed(1), &Device::flex());
        let run = RunDir::new(dir.path(), "warm start");
        let (_, report) = cai_train::train(new, &objective, &args, &run).unwrap();
        // Of the token at each hidden place, among 24.
        let (first, last) = (report.first("loss").unwrap(), report.last("loss").unwrap());
        assert!(first > 1.0 && last < 0.1, "{first} {last}");
    }
}
