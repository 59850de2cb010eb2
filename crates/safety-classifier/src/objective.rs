//! Cross-entropy over the classes, as the training loop wants it.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Tensor, TensorData};
use cai_data::seed::Seed;
use cai_train::{Metrics, Objective, ObjectiveError, StepLoss};
use rand::RngExt;

use crate::batch::TextBatch;
use crate::calibrate::{argmax, probabilities};
use crate::config::{ClassWeights, ClassifierConfig};
use crate::ensemble::logits;
use crate::error::Result;
use crate::model::{Dropout, Encoder};
use crate::tokenizer::TextTokenizer;

/// Texts as token ids, with their classes.
#[derive(Clone, Debug, Default)]
pub struct Tokens {
    /// Token ids of each text.
    pub ids: Vec<Vec<u32>>,
    /// The class of each text.
    pub classes: Vec<usize>,
}

/// Weighted cross-entropy of the training texts; loss and accuracy of the held-out ones.
#[derive(Clone, Debug)]
pub struct CrossEntropy {
    /// Texts to train on.
    pub train: Tokens,
    /// Texts to evaluate on.
    pub held_out: Tokens,
    class_weights: Vec<f64>,
    dropout: f64,
    token_dropout: f64,
    label_smoothing: f64,
    pad: u32,
}

impl Tokens {
    /// Encodes prepared texts.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn new(texts: &[String], classes: Vec<usize>, tokenizer: &TextTokenizer) -> Result<Self> {
        let encode = |text: &String| Ok(tokenizer.encode(text)?.ids);
        let ids = texts.iter().map(encode).collect::<Result<_>>()?;
        Ok(Self { ids, classes })
    }

    fn rows(&self, items: &[usize]) -> Vec<&[u32]> {
        items.iter().map(|&i| self.ids[i].as_slice()).collect()
    }
}

impl CrossEntropy {
    /// The objective for these texts. Every class occurs in `train`.
    pub fn new(train: Tokens, held_out: Tokens, config: &ClassifierConfig, pad: u32) -> Self {
        let class_weights = class_weights(&train.classes, config);
        let ClassifierConfig { dropout, token_dropout, label_smoothing, .. } = *config;
        Self { train, held_out, class_weights, dropout, token_dropout, label_smoothing, pad }
    }

    /// The rows with a share of the tokens, never the first, replaced by padding that is attended to:
    /// a text must be recognised by more than one of its words.
    fn masked(&self, rows: &[&[u32]], seed: Seed) -> Vec<Vec<u32>> {
        let mut rows: Vec<Vec<u32>> = rows.iter().map(|row| row.to_vec()).collect();
        if self.token_dropout > 0.0 {
            let mut rng = seed.derive("token dropout").rng();
            for id in rows.iter_mut().flat_map(|row| row.iter_mut().skip(1)) {
                if rng.random_bool(self.token_dropout) {
                    *id = self.pad;
                }
            }
        }
        rows
    }

    fn weight_of(&self, item: usize) -> f64 {
        self.class_weights[self.train.classes[item]]
    }
}

impl Objective<Encoder> for CrossEntropy {
    fn len(&self) -> usize {
        self.train.classes.len()
    }

    fn lengths(&self) -> Vec<usize> {
        self.train.ids.iter().map(Vec::len).collect()
    }

    fn weight(&self, items: &[usize]) -> f64 {
        items.iter().map(|&item| self.weight_of(item)).sum()
    }

    fn loss(
        &self,
        model: &Encoder,
        items: &[usize],
        seed: Seed,
    ) -> std::result::Result<StepLoss, ObjectiveError> {
        let device = model.device();
        let rows = self.train.rows(items);
        let masked = self.masked(&rows, seed);
        let rows_seen: Vec<&[u32]> = masked.iter().map(Vec::as_slice).collect();
        let batch = TextBatch::new(&rows_seen, self.pad, &device);
        let scores = model.forward(&batch, Dropout::new(self.dropout, seed));
        let log_probs = log_softmax(scores, 1);

        // Minus each text's weight, spread over the classes as the smoothed truth is.
        let [_, n_labels] = log_probs.dims();
        let mut weights = vec![0f32; items.len() * n_labels];
        let spread = self.label_smoothing / n_labels as f64;
        for (row, &item) in items.iter().enumerate() {
            let weight = self.weight_of(item);
            let row = &mut weights[row * n_labels..(row + 1) * n_labels];
            row.fill(-(weight * spread) as f32);
            row[self.train.classes[item]] -= (weight * (1.0 - self.label_smoothing)) as f32;
        }
        let shape = [items.len(), n_labels];
        let weights = Tensor::<2>::from_data(TensorData::new(weights, shape), &device);
        let surrogate = (log_probs.clone() * weights).sum();

        let log_probs: Vec<f32> = log_probs.inner().try_into_vec_as()?;
        let (mut loss, mut metrics) = (0.0, Metrics::new());
        for (row, &item) in log_probs.chunks(n_labels).zip(items) {
            let class = self.train.classes[item];
            let mean = row.iter().map(|&p| f64::from(p)).sum::<f64>() / n_labels as f64;
            let smoothed = self.label_smoothing * mean;
            loss -= self.weight_of(item)
                * ((1.0 - self.label_smoothing) * f64::from(row[class]) + smoothed);
            metrics.add("accuracy", f64::from(u8::from(argmax(row) == class)), 1.0);
        }
        let tokens = rows.iter().map(|row| row.len()).sum();
        Ok(StepLoss { surrogate, loss, tokens, metrics })
    }

    fn evaluate(&self, model: &Encoder) -> std::result::Result<Metrics, ObjectiveError> {
        let mut metrics = Metrics::new();
        let rows: Vec<&[u32]> = self.held_out.ids.iter().map(Vec::as_slice).collect();
        for (row, &class) in logits(model, &rows, self.pad)?.iter().zip(&self.held_out.classes) {
            let probability = probabilities(row, 1.0)[class].max(f64::MIN_POSITIVE);
            metrics.add("loss", -probability.ln(), 1.0);
            metrics.add("accuracy", f64::from(u8::from(argmax(row) == class)), 1.0);
        }
        Ok(metrics)
    }
}

/// How much a text of each class counts. Every class occurs in `classes`.
pub(crate) fn class_weights(classes: &[usize], config: &ClassifierConfig) -> Vec<f64> {
    let n_labels = config.labels.len();
    let power = match config.class_weights {
        ClassWeights::None => return vec![1.0; n_labels],
        ClassWeights::Balanced => 1.0,
        ClassWeights::Sqrt => 0.5,
    };
    (0..n_labels)
        .map(|class| {
            let number = classes.iter().filter(|&&other| other == class).count();
            (classes.len() as f64 / (n_labels * number) as f64).powf(power)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn balanced_classes_weigh_the_same() {
        let labels = vec!["safe".into(), "self_harm".into()];
        let class_weights = ClassWeights::Balanced;
        let config = ClassifierConfig { labels, class_weights, ..Default::default() };
        let ids = vec![vec![1]; 4];
        let train = Tokens { ids, classes: vec![0, 0, 0, 1] };
        let objective = CrossEntropy::new(train, Tokens::default(), &config, 0);
        assert!((objective.weight(&[0, 1, 2]) - objective.weight(&[3])).abs() < 1e-12);
        assert!((objective.weight(&[0, 1, 2, 3]) - 4.0).abs() < 1e-12);
    }
}
