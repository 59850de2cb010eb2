//! Optimisers over the trainable parameters.
//!
//! The rules are Burn's where their maths are the reference implementation's (AdamW, Adafactor,
//! Lion, Muon), else this crate's ([`RmsProp`]). States are kept here by parameter path and not by
//! Burn's ids, which are random in each process, so that a checkpoint has the same bytes each time.

mod rmsprop;
mod rule;

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::{
    AdafactorConfig, AdamWConfig, LionConfig, MuonConfig, decay::WeightDecayConfig,
    momentum::MomentumConfig,
};
use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};

pub use rmsprop::RmsProp;
use rule::{AnyRule, Rule};

use crate::TrainArgs;
use crate::params::{Gradients, track_path, update};

/// Which rule updates the parameters. The names of transformers' `optim` are understood too.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OptimizerName {
    /// AdamW (arXiv 1711.05101, algorithm 2).
    #[default]
    #[serde(alias = "adamw_torch", alias = "adamw_torch_fused")]
    Adamw,
    /// RMSprop as PyTorch has it; what the DPO paper used (arXiv 2305.18290, appendix B).
    Rmsprop,
    /// Adafactor (arXiv 1804.04235) with the learning rate as it is given, as transformers uses it.
    Adafactor,
    /// Lion (arXiv 2302.06675, algorithm 2).
    #[serde(alias = "lion_32bit")]
    Lion,
    /// Muon for matrices (Jordan et al. 2024; the scale of arXiv 2502.16982 is not applied), AdamW
    /// for the rest.
    Muon,
}

/// An optimiser with one state per trainable parameter.
pub struct Optimizer {
    /// For weights: at least two dimensions.
    matrices: Box<dyn AnyRule>,
    /// For norms and biases, which are not decayed, as in transformers.
    vectors: Box<dyn AnyRule>,
}

impl Optimizer {
    /// An optimiser without any update yet.
    pub fn new(args: &TrainArgs) -> Self {
        let rule = match args.optim {
            OptimizerName::Adamw => adamw,
            OptimizerName::Rmsprop => rmsprop,
            OptimizerName::Adafactor => adafactor,
            OptimizerName::Lion => lion,
            OptimizerName::Muon => muon,
        };
        let vectors = if args.optim == OptimizerName::Muon { adamw } else { rule };
        Self { matrices: rule(args, args.weight_decay), vectors: vectors(args, 0.0) }
    }

    /// `model` after one update with `scale` times `gradients` at `learning_rate`.
    ///
    /// Parameters without a gradient stay as they are.
    pub fn step<M: Module>(
        &mut self,
        model: M,
        gradients: Gradients,
        scale: f64,
        learning_rate: f64,
    ) -> M {
        let path = Vec::new();
        model.map(&mut Step { path, optimizer: self, gradients, scale, learning_rate })
    }

    /// The whole state as named tensors, `{parameter}.{name}`, with Burn's names of its parts;
    /// numbers of updates (`…time`) are tensors of one number.
    pub fn values(&self) -> BTreeMap<String, TensorData> {
        let mut values = self.matrices.values();
        values.extend(self.vectors.values());
        values
    }

    /// Sets the state to `values`, as [`Optimizer::values`] gave them for a model like `model`.
    ///
    /// # Errors
    ///
    /// What does not fit `model`, in words.
    pub fn load<M: Module>(
        &mut self,
        model: &M,
        values: BTreeMap<String, TensorData>,
    ) -> std::result::Result<(), String> {
        let mut visitor = Load { path: Vec::new(), optimizer: self, values, failure: None };
        model.visit(&mut visitor);
        if let Some(failure) = visitor.failure {
            return Err(failure);
        }
        match visitor.values.keys().next() {
            Some(name) => Err(format!("it holds {name}, which the model does not train")),
            None => Ok(()),
        }
    }

    fn rule(&mut self, dimensions: usize) -> &mut dyn AnyRule {
        if dimensions >= 2 { &mut *self.matrices } else { &mut *self.vectors }
    }
}

fn adamw(args: &TrainArgs, weight_decay: f64) -> Box<dyn AnyRule> {
    let config = AdamWConfig::new()
        .with_beta_1(args.adam_beta1 as f32)
        .with_beta_2(args.adam_beta2 as f32)
        .with_epsilon(args.adam_epsilon as f32)
        .with_weight_decay(weight_decay as f32);
    Box::new(Rule::new(config.build()))
}

fn rmsprop(args: &TrainArgs, weight_decay: f64) -> Box<dyn AnyRule> {
    let (alpha, epsilon) = (args.rmsprop_alpha, args.adam_epsilon);
    Box::new(Rule::new(RmsProp { alpha, epsilon, weight_decay }))
}

fn adafactor(_: &TrainArgs, weight_decay: f64) -> Box<dyn AnyRule> {
    let config = AdafactorConfig::new()
        .with_relative_step(false)
        .with_scale_parameter(false)
        .with_weight_decay(weight_decay as f32);
    Box::new(Rule::new(config.build()))
}

fn lion(args: &TrainArgs, weight_decay: f64) -> Box<dyn AnyRule> {
    let config = LionConfig::new()
        .with_beta_1(args.adam_beta1 as f32)
        .with_beta_2(args.adam_beta2 as f32)
        .with_weight_decay(weight_decay as f32);
    Box::new(Rule::new(config.build()))
}

fn muon(args: &TrainArgs, weight_decay: f64) -> Box<dyn AnyRule> {
    let momentum = args.muon_momentum;
    let config = MuonConfig::new()
        .with_momentum(MomentumConfig { momentum, dampening: 0.0, nesterov: true })
        .with_weight_decay(
            (weight_decay > 0.0).then_some(WeightDecayConfig { penalty: weight_decay as f32 }),
        );
    Box::new(Rule::new(config.build()))
}

/// Rows and columns that a parameter is treated as: its first dimension and the rest.
fn matrix_shape(shape: &[usize]) -> [usize; 2] {
    match shape {
        [first, rest @ ..] if !rest.is_empty() => [*first, rest.iter().product()],
        _ => [1, shape.iter().product()],
    }
}

struct Step<'a> {
    path: Vec<String>,
    optimizer: &'a mut Optimizer,
    gradients: Gradients,
    scale: f64,
    learning_rate: f64,
}

impl ModuleMapper for Step<'_> {
    track_path!();

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let name = self.path.join(".");
        let Some(gradient) = self.gradients.0.remove(&name) else {
            return param;
        };
        let gradient = match self.scale {
            1.0 => gradient,
            scale => gradient.mul_scalar(scale),
        };
        let rule = self.optimizer.rule(D);
        update(param, |old| {
            let shape = old.shape();
            let matrix = matrix_shape(shape.as_slice());
            let (old, gradient) = (old.reshape(matrix), gradient.reshape(matrix));
            rule.step(&name, self.learning_rate, old, gradient).reshape(shape)
        })
    }
}

struct Load<'a> {
    path: Vec<String>,
    optimizer: &'a mut Optimizer,
    values: BTreeMap<String, TensorData>,
    failure: Option<String>,
}

impl ModuleVisitor for Load<'_> {
    track_path!();

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if self.failure.is_some() || !param.is_require_grad() {
            return;
        }
        let name = self.path.join(".");
        let device = param.base().inner().device();
        let shape = matrix_shape(param.shape().as_slice());
        let result = self.optimizer.rule(D).load(&name, shape, &mut self.values, &device);
        if let Err(reason) = result {
            self.failure = Some(format!("the state of {name} {reason}"));
        }
    }
}

#[cfg(test)]
mod tests;
