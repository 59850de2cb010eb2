//! AdamW (Loshchilov and Hutter, arXiv 1711.05101, algorithm 2) over the trainable parameters.
//!
//! The update of one tensor is Burn's; the states are kept here by parameter path and not by Burn's
//! ids, which are random in each process, so that a checkpoint has the same bytes each time.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::{AdamWConfig, AdamWState, AdaptiveMomentumState, Optimizer};
use burn::tensor::{Device, Tensor, TensorData};

use crate::params::{Gradients, flatten, read, track_path, update};
use crate::{Result, TrainArgs};

/// First moment, second moment and number of updates: PyTorch's names.
const FIELDS: [&str; 3] = ["exp_avg", "exp_avg_sq", "step"];

/// AdamW with one state per trainable parameter.
pub struct AdamW {
    /// For weights: at least two dimensions.
    decayed: burn::optim::AdamW,
    /// For norms and biases, which transformers leaves out of weight decay too.
    plain: burn::optim::AdamW,
    states: BTreeMap<String, AdamWState<1>>,
}

impl AdamW {
    /// An optimiser without any update yet.
    pub fn new(args: &TrainArgs) -> Self {
        let config = AdamWConfig::new()
            .with_beta_1(args.adam_beta1 as f32)
            .with_beta_2(args.adam_beta2 as f32)
            .with_epsilon(args.adam_epsilon as f32)
            .with_weight_decay(0.0);
        Self {
            plain: config.build(),
            decayed: config.with_weight_decay(args.weight_decay as f32).build(),
            states: BTreeMap::new(),
        }
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

    /// The whole state as named tensors: `{parameter}.exp_avg` and `{parameter}.exp_avg_sq`
    /// (flattened), `{parameter}.step` (one number).
    ///
    /// # Errors
    ///
    /// [`Error::Device`](crate::Error::Device) if they cannot be read.
    pub fn values(&self) -> Result<BTreeMap<String, TensorData>> {
        let mut values = BTreeMap::new();
        for (name, state) in &self.states {
            let moments = &state.momentum;
            let [first, second, step] = FIELDS.map(|field| format!("{name}.{field}"));
            values.insert(first, read(name, moments.moment_1.clone())?);
            values.insert(second, read(name, moments.moment_2.clone())?);
            values.insert(step, TensorData::new(vec![moments.time as f32], [1]));
        }
        Ok(values)
    }

    /// Sets the state to `values`, as [`AdamW::values`] gave them for a model like `model`.
    ///
    /// # Errors
    ///
    /// What does not fit `model`, in words.
    pub fn load<M: Module>(
        &mut self,
        model: &M,
        values: BTreeMap<String, TensorData>,
    ) -> std::result::Result<(), String> {
        let mut visitor = Load { path: Vec::new(), values, states: Ok(BTreeMap::new()) };
        model.visit(&mut visitor);
        self.states = visitor.states?;
        match visitor.values.keys().next() {
            Some(name) => Err(format!("it holds {name}, which the model does not train")),
            None => Ok(()),
        }
    }
}

struct Step<'a> {
    path: Vec<String>,
    optimizer: &'a mut AdamW,
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
        let AdamW { decayed, plain, states } = &mut *self.optimizer;
        let rule = if D >= 2 { decayed } else { plain };
        let state = states.remove(&name);
        update(param, |old| {
            let shape = old.shape();
            let (new, state) = rule.step(self.learning_rate, flatten(old), gradient, state);
            states.extend(state.map(|state| (name, state)));
            new.reshape(shape)
        })
    }
}

struct Load {
    path: Vec<String>,
    values: BTreeMap<String, TensorData>,
    states: std::result::Result<BTreeMap<String, AdamWState<1>>, String>,
}

impl ModuleVisitor for Load {
    track_path!();

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Ok(states) = &mut self.states else { return };
        if !param.is_require_grad() {
            return;
        }
        let name = self.path.join(".");
        let fields = FIELDS.map(|field| self.values.remove(&format!("{name}.{field}")));
        let device = param.base().inner().device();
        match state(fields, param.shape().num_elements(), &device) {
            Ok(state) => states.extend(state.map(|state| (name, state))),
            Err(reason) => self.states = Err(format!("the state of {name} {reason}")),
        }
    }
}

/// The state of a parameter of `size` scalars; `None` if it was never updated.
fn state(
    fields: [Option<TensorData>; 3],
    size: usize,
    device: &Device,
) -> std::result::Result<Option<AdamWState<1>>, String> {
    let (first, second, step) = match fields {
        [None, None, None] => return Ok(None),
        [Some(first), Some(second), Some(step)] => (first, second, step),
        _ => return Err("lacks a part".into()),
    };
    if first.num_elements() != size || second.num_elements() != size {
        return Err(format!("has {} values, not {size}", first.num_elements()));
    }
    let time = step.iter::<f32>().next().ok_or("has no step")? as usize;
    let moment = |data| Tensor::<1>::from_data(data, device);
    let moments = AdaptiveMomentumState::new(time, moment(first), moment(second));
    Ok(Some(AdamWState::new(moments)))
}
