//! The moving average of the trained parameters over the steps (Polyak and Juditsky 1992, with
//! exponential weights).

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData};

use crate::Result;
use crate::params::{flatten, read, track_path, update};

/// What the names of averages begin with among the tensors of a checkpoint's optimiser.
const PREFIX: &str = "ema/";

/// `a ← d a + (1 − d) w` after every step, from the start value of `w` on.
pub(crate) struct Ema {
    decay: f64,
    averages: BTreeMap<String, Tensor<1>>,
}

impl Ema {
    /// An average that begins at the parameters of `model`.
    pub(crate) fn new<M: Module>(decay: f64, model: &M) -> Self {
        let mut ema = Self { decay, averages: BTreeMap::new() };
        model.visit(&mut Update { path: Vec::new(), ema: &mut ema });
        ema
    }

    /// Takes in the parameters of `model` after a step.
    pub(crate) fn update<M: Module>(&mut self, model: &M) {
        model.visit(&mut Update { path: Vec::new(), ema: self });
    }

    /// `model` with the averages as its parameters.
    pub(crate) fn apply<M: Module>(&self, model: M) -> M {
        model.map(&mut Apply { path: Vec::new(), ema: self })
    }

    /// The averages as named tensors.
    pub(crate) fn values(&self) -> Result<BTreeMap<String, TensorData>> {
        let value = |(name, average): (&String, &Tensor<1>)| {
            Ok((format!("{PREFIX}{name}"), read(name, average.clone())?))
        };
        self.averages.iter().map(value).collect()
    }

    /// Takes the averages out of the tensors of a checkpoint.
    pub(crate) fn load(
        &mut self,
        values: &mut BTreeMap<String, TensorData>,
    ) -> std::result::Result<(), String> {
        for (name, average) in &mut self.averages {
            let data = values.remove(&format!("{PREFIX}{name}"));
            let data = data.ok_or_else(|| format!("it has no average of {name}"))?;
            if data.num_elements() != average.dims()[0] {
                return Err(format!("its average of {name} has another size"));
            }
            *average = Tensor::from_data(data, &average.device());
        }
        Ok(())
    }
}

struct Update<'a> {
    path: Vec<String>,
    ema: &'a mut Ema,
}

impl ModuleVisitor for Update<'_> {
    track_path!();

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if !param.is_require_grad() {
            return;
        }
        let name = self.path.join(".");
        let value = flatten(param.base().inner());
        let decay = self.ema.decay;
        let average = match self.ema.averages.remove(&name) {
            Some(old) => old.mul_scalar(decay) + value.mul_scalar(1.0 - decay),
            None => value,
        };
        self.ema.averages.insert(name, average);
    }
}

struct Apply<'a> {
    path: Vec<String>,
    ema: &'a Ema,
}

impl ModuleMapper for Apply<'_> {
    track_path!();

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match self.ema.averages.get(&self.path.join(".")) {
            Some(average) if param.is_require_grad() => {
                update(param, |old| average.clone().reshape(old.shape()))
            }
            _ => param,
        }
    }
}
