//! Cross-entropy over the classes, as the training loop wants it.

use burn::tensor::activation::{log_sigmoid, log_softmax};
use burn::tensor::{Tensor, TensorData};
use cai_data::seed::Seed;
use cai_train::{Metrics, Objective, ObjectiveError, StepLoss};

use crate::calibrate::argmax;
use crate::config::{ClassWeights, ClassifierConfig, Task};
use crate::data::Sample;
use crate::network::{Network, Noise, logits};
use crate::outputs::Outputs;

/// Texts as a network reads them, with their classes.
pub struct Labelled<'a, T: ?Sized> {
    /// The texts.
    pub texts: Vec<&'a T>,
    /// The labels of each text: one where they exclude each other.
    pub classes: &'a [Vec<usize>],
}

/// What the network's outputs stand for, which of them is right for each training text, and how much it
/// counts.
#[derive(Clone, Copy)]
pub struct Targets<'a> {
    /// The label of each output.
    pub outputs: &'a Outputs,
    /// The right outputs of each training text.
    pub of_text: &'a [Vec<usize>],
    /// How much each training text counts.
    pub weights: &'a [f64],
}

/// Weighted cross-entropy of the training texts; loss and accuracy of the held-out ones.
///
/// Where labels exclude each other it is that of the softmax, `−log p(class)`; else that of a sigmoid
/// per label, `−Σ_c log p(c is right)`.
pub struct CrossEntropy<'a, N: Network> {
    /// Texts to train on.
    pub train: Labelled<'a, N::Text>,
    /// Texts to evaluate on.
    pub held_out: Labelled<'a, N::Text>,
    targets: Targets<'a>,
    noise: Noise,
    label_smoothing: f64,
    task: Task,
}

impl<'a, N: Network> CrossEntropy<'a, N> {
    /// The objective for these texts. Every class occurs in `train`. The loop gives the seed of the
    /// noise.
    pub fn new(
        train: Labelled<'a, N::Text>,
        held_out: Labelled<'a, N::Text>,
        targets: Targets<'a>,
        noise: Noise,
        config: &ClassifierConfig,
    ) -> Self {
        let ClassifierConfig { label_smoothing, task, .. } = *config;
        Self { train, held_out, targets, noise, label_smoothing, task }
    }

    /// The smoothed truth about a training text, as the probability of each output.
    fn target(&self, item: usize) -> Vec<f32> {
        let n = self.targets.outputs.len();
        let smooth = self.label_smoothing;
        let rest = match self.task {
            Task::SingleLabel => smooth / n as f64,
            Task::MultiLabel => smooth / 2.0,
        };
        let mut target = vec![rest as f32; n];
        let right = &self.targets.of_text[item];
        right.iter().for_each(|&output| target[output] += (1.0 - smooth) as f32);
        target
    }

    /// `target · log p` for each text and output, `[texts, outputs]`.
    fn log_likelihood(&self, scores: Tensor<2>, targets: Vec<f32>) -> Tensor<2> {
        let targets =
            Tensor::<2>::from_data(TensorData::new(targets, scores.dims()), &scores.device());
        match self.task {
            Task::SingleLabel => log_softmax(scores, 1) * targets,
            Task::MultiLabel => {
                let yes = log_sigmoid(scores.clone()) * targets.clone();
                yes + log_sigmoid(-scores) * targets.neg().add_scalar(1.0)
            }
        }
    }

    /// 1 if the labels that the scores of the labels stand for are these.
    fn right(&self, row: &[f32], classes: &[usize]) -> f64 {
        let right = match self.task {
            Task::SingleLabel => classes == [argmax(row)],
            Task::MultiLabel => {
                row.iter().enumerate().all(|(c, score)| (*score > 0.0) == classes.contains(&c))
            }
        };
        f64::from(u8::from(right))
    }
}

impl<N: Network> Objective<N> for CrossEntropy<'_, N> {
    fn len(&self) -> usize {
        self.train.texts.len()
    }

    fn lengths(&self) -> Vec<usize> {
        self.train.texts.iter().map(|text| N::length(text)).collect()
    }

    fn weight(&self, items: &[usize]) -> f64 {
        items.iter().map(|&item| self.targets.weights[item]).sum()
    }

    fn loss(
        &self,
        model: &N,
        items: &[usize],
        seed: Seed,
    ) -> std::result::Result<StepLoss, ObjectiveError> {
        let texts: Vec<&N::Text> = items.iter().map(|&item| self.train.texts[item]).collect();
        let scores = model.forward(&texts, Some(Noise { seed, ..self.noise }));
        let rows: Vec<f32> = scores.clone().inner().try_into_vec_as()?;

        // Minus each text's weight times its truth.
        let mut targets = Vec::with_capacity(rows.len());
        let mut weights = Vec::with_capacity(rows.len());
        let mut metrics = Metrics::new();
        let outputs = self.targets.outputs;
        for (row, &item) in rows.chunks(outputs.len()).zip(items) {
            targets.extend(self.target(item));
            weights.extend(vec![-self.targets.weights[item] as f32; outputs.len()]);
            metrics.add(
                "accuracy",
                self.right(&outputs.merge(row), &self.train.classes[item]),
                1.0,
            );
        }
        let weights =
            Tensor::<2>::from_data(TensorData::new(weights, scores.dims()), &scores.device());
        let surrogate = (self.log_likelihood(scores, targets) * weights).sum();
        let loss = f64::from(surrogate.clone().inner().into_scalar::<f32>());
        let tokens = texts.iter().map(|text| N::length(text)).sum();
        Ok(StepLoss { surrogate, loss, tokens, metrics })
    }

    fn evaluate(&self, model: &N) -> std::result::Result<Metrics, ObjectiveError> {
        let mut metrics = Metrics::new();
        let rows = self.targets.outputs.merge_all(logits(model, &self.held_out.texts)?);
        for (row, classes) in rows.iter().zip(self.held_out.classes) {
            metrics.add("loss", -log_likelihood(row, classes, self.task), 1.0);
            metrics.add("accuracy", self.right(row, classes), 1.0);
        }
        Ok(metrics)
    }
}

/// The log-likelihood of a text's labels under its scores.
fn log_likelihood(row: &[f32], classes: &[usize], task: Task) -> f64 {
    match task {
        Task::SingleLabel => {
            let log_p = crate::calibrate::log_softmax(row);
            classes.iter().map(|&class| log_p[class]).sum()
        }
        Task::MultiLabel => {
            let log_p = |(c, &score): (usize, &f32)| {
                let score = f64::from(if classes.contains(&c) { score } else { -score });
                -(-score).exp().ln_1p()
            };
            row.iter().enumerate().map(log_p).sum()
        }
    }
}

/// How much each text counts: as much as its class, of several classes as the rarest, times its own
/// weight. Every class occurs.
pub(crate) fn text_weights(samples: &[Sample], config: &ClassifierConfig) -> Vec<f64> {
    let n_labels = config.labels.len();
    let power = match config.class_weights {
        ClassWeights::None => 0.0,
        ClassWeights::Balanced => 1.0,
        ClassWeights::Sqrt => 0.5,
    };
    let mut of_labels = vec![0.0; n_labels];
    for sample in samples {
        sample.classes.iter().for_each(|&class| of_labels[class] += sample.weight);
    }
    let all: f64 = samples.iter().map(|sample| sample.weight).sum();
    let of_class = |&class: &usize| (all / (n_labels as f64 * of_labels[class])).powf(power);
    samples
        .iter()
        .map(|sample| sample.weight * sample.classes.iter().map(of_class).fold(0.0, f64::max))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ngrams::{Bag, BagShape};
    use burn::tensor::Device;

    const NOISE: Noise = Noise { dropout: 0.0, input_dropout: 0.0, seed: Seed(1) };

    fn config(task: Task, class_weights: ClassWeights) -> ClassifierConfig {
        let labels = vec!["safe".into(), "self_harm".into()];
        ClassifierConfig { labels, task, class_weights, ..Default::default() }
    }

    fn labelled<'a>(
        texts: &'a [Vec<(u32, f32)>],
        classes: &'a [Vec<usize>],
    ) -> Labelled<'a, [(u32, f32)]> {
        Labelled { texts: texts.iter().map(Vec::as_slice).collect(), classes }
    }

    #[test]
    fn balanced_classes_weigh_the_same() {
        let config = config(Task::SingleLabel, ClassWeights::Balanced);
        let sample = |class| Sample {
            text: String::new(),
            classes: vec![class],
            group: None,
            source: None,
            weight: 1.0,
        };
        let mut samples = [0, 0, 0, 1].map(sample);
        let weights = text_weights(&samples, &config);
        assert!((weights[..3].iter().sum::<f64>() - weights[3]).abs() < 1e-12);
        assert!((weights.iter().sum::<f64>() - 4.0).abs() < 1e-12);
        // Also where a text counts less than others of its class.
        samples[0].weight = 0.5;
        let weights = text_weights(&samples, &config);
        assert!((weights[..3].iter().sum::<f64>() - weights[3]).abs() < 1e-12);
        assert_eq!(weights[0], weights[1] / 2.0);
    }

    #[test]
    fn the_loss_is_that_of_the_scores() {
        let texts = [vec![(0, 1.0)], vec![(1, -2.0), (2, 1.0)], vec![(2, 3.0)]];
        let classes = [vec![0], vec![1], vec![0, 1]];
        let bag =
            Bag::new(&BagShape { ngrams: 3, width: 4, n_outputs: 2 }, Seed(5), &Device::flex());
        let all: Vec<&[(u32, f32)]> = texts.iter().map(Vec::as_slice).collect();
        for (task, number) in [(Task::SingleLabel, 2), (Task::MultiLabel, 3)] {
            let config = config(task, ClassWeights::None);
            let data = || labelled(&texts[..number], &classes[..number]);
            let outputs = Outputs::plain(2);
            let targets = Targets {
                outputs: &outputs,
                of_text: &classes[..number],
                weights: &vec![1.0; number],
            };
            let objective = CrossEntropy::<Bag>::new(data(), data(), targets, NOISE, &config);
            let items: Vec<usize> = (0..number).collect();
            let found = objective.loss(&bag, &items, Seed(1)).unwrap().loss;
            let rows = logits(&bag, &all[..number]).unwrap();
            let expected: f64 =
                rows.iter().zip(&classes).map(|(row, own)| -log_likelihood(row, own, task)).sum();
            assert!((found - expected).abs() < 1e-4, "{task:?}: {found} {expected}");
        }
    }
}
