//! A linear regression that is trained in milliseconds.

#![allow(dead_code, reason = "each test file uses a part")]

use std::path::Path;

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};
use cai_data::seed::Seed;
use cai_train::{Metrics, Objective, ObjectiveError, RunDir, StepLoss, TrainArgs};
use rand::RngExt;

/// `x W + b`, scaled by a frozen weight.
#[derive(Module, Debug)]
pub struct Linear {
    pub weight: Param<Tensor<2>>,
    pub bias: Param<Tensor<1>>,
    pub frozen: Param<Tensor<1>>,
}

pub fn model() -> Linear {
    let device = Device::flex();
    let weight = Tensor::<2>::from_data([[0.5f32], [-0.25], [0.125]], &device);
    Linear {
        weight: Param::from_tensor(weight),
        bias: Param::from_tensor(Tensor::<1>::from_data([0.1f32], &device)),
        frozen: Param::from_tensor(Tensor::<1>::from_data([2.0f32], &device))
            .set_require_grad(false),
    }
}

/// Squared error on examples whose weights differ; the loss of example `poison` is NaN.
pub struct Regression {
    pub inputs: Vec<[f32; 3]>,
    pub weights: Vec<f64>,
    pub poison: Option<usize>,
    pub interrupt_after: Option<usize>,
    pub calls: std::cell::Cell<usize>,
}

impl Regression {
    pub fn new(examples: usize) -> Self {
        let inputs = (0..examples).map(|i| [i as f32 / 7.0, (i % 5) as f32 - 2.0, 1.0]).collect();
        Self {
            inputs,
            weights: (0..examples).map(|i| 1.0 + (i % 4) as f64).collect(),
            poison: None,
            interrupt_after: None,
            calls: 0.into(),
        }
    }

    fn squared_error(&self, model: &Linear, items: &[usize], noise: f32) -> Tensor<1> {
        let device = model.weight.val().inner().device();
        let flat: Vec<f32> = items.iter().flat_map(|&i| self.inputs[i]).collect();
        let x = Tensor::<2>::from_data(TensorData::new(flat, [items.len(), 3]), &device);
        let target = x.clone().sum_dim(1) + noise;
        let weights: Vec<f32> = items.iter().map(|&i| self.weights[i] as f32).collect();
        let weights = Tensor::<2>::from_data(TensorData::new(weights, [items.len(), 1]), &device);
        let output = x.matmul(model.weight.val()) * model.frozen.val().unsqueeze();
        let output = output + model.bias.val().unsqueeze();
        ((output - target).square() * weights).sum()
    }
}

impl Objective<Linear> for Regression {
    fn len(&self) -> usize {
        self.inputs.len()
    }

    fn lengths(&self) -> Vec<usize> {
        (0..self.inputs.len()).map(|i| i % 9).collect()
    }

    fn weight(&self, items: &[usize]) -> f64 {
        items.iter().map(|&i| self.weights[i]).sum()
    }

    fn loss(
        &self,
        model: &Linear,
        items: &[usize],
        seed: Seed,
    ) -> Result<StepLoss, ObjectiveError> {
        self.calls.set(self.calls.get() + 1);
        if self.interrupt_after == Some(self.calls.get()) {
            cai_train::interrupt::request();
        }
        let noise = seed.rng().random::<f32>() * 1e-3;
        let surrogate = self.squared_error(model, items, noise);
        let mut loss = f64::from(surrogate.clone().into_scalar::<f32>());
        if self.poison.is_some_and(|item| items.contains(&item)) {
            loss = f64::NAN;
        }
        let mut metrics = Metrics::new();
        metrics.add("mean_token_accuracy", items.len() as f64, 2.0 * items.len() as f64);
        Ok(StepLoss { surrogate, loss, tokens: 3 * items.len(), metrics })
    }

    fn evaluate(&self, model: &Linear) -> Result<Metrics, ObjectiveError> {
        assert!(!model.weight.val().is_autodiff());
        let all: Vec<usize> = (0..self.inputs.len()).collect();
        let loss = self.squared_error(model, &all, 0.0).into_scalar::<f32>();
        let mut metrics = Metrics::new();
        metrics.add("loss", f64::from(loss), self.weight(&all));
        Ok(metrics)
    }
}

pub fn args() -> TrainArgs {
    TrainArgs {
        learning_rate: 0.01,
        warmup_steps: 2,
        max_steps: 10,
        per_device_train_batch_size: 4,
        gradient_accumulation_steps: 2,
        logging_steps: 3,
        eval_steps: Some(4),
        save_steps: 5,
        ..Default::default()
    }
}

pub fn run(dir: &Path) -> RunDir {
    RunDir::new(dir, "fingerprint")
}

pub fn weights(model: &Linear) -> Vec<f32> {
    let mut values = model.weight.val().into_data().try_to_vec::<f32>().unwrap();
    values.extend(model.bias.val().into_data().try_to_vec::<f32>().unwrap());
    values
}
