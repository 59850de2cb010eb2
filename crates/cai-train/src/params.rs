//! The trainable parameters of any module, known by their path in it, and their gradients.
//!
//! Trainable are the float parameters that require a gradient on the autodiff device. Paths are
//! field names joined by dots, so they are the same in every process, which Burn's ids are not.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{DType, GradientCheckpointingStrategy, Tensor, TensorData};

use crate::{Error, Result};

/// Most elements that are summed in one call. Flex sums longer tensors in an order that depends on
/// its threads, and a run must give the same bytes each time.
const SUM_CHUNK: usize = 1 << 20;

/// Keeps the module path of a visitor or mapper with a `path: Vec<String>`.
macro_rules! track_path {
    () => {
        fn enter_module(&mut self, name: &str, _container_type: &str) {
            self.path.push(name.to_owned());
        }

        fn exit_module(&mut self, _name: &str, _container_type: &str) {
            self.path.pop();
        }
    };
}
pub(crate) use track_path;

/// Names and sizes (in scalars) of the trainable parameters of `model`, in module order.
///
/// # Errors
///
/// [`Error::NothingToTrain`] if there is none, [`Error::NotF32`] if one is not f32.
pub fn trainable<M: Module>(model: &M) -> Result<Vec<(String, usize)>> {
    struct List {
        path: Vec<String>,
        found: Vec<(String, usize, DType)>,
    }
    impl ModuleVisitor for List {
        track_path!();

        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if param.is_require_grad() {
                let size = param.shape().num_elements();
                self.found.push((self.path.join("."), size, param.dtype()));
            }
        }
    }
    let mut list = List { path: Vec::new(), found: Vec::new() };
    model.visit(&mut list);
    if list.found.is_empty() {
        return Err(Error::NothingToTrain);
    }
    let check = |(name, size, dtype): (String, usize, DType)| match dtype {
        DType::F32 => Ok((name, size)),
        other => Err(Error::NotF32 { name, dtype: format!("{other:?}") }),
    };
    list.found.into_iter().map(check).collect()
}

/// The values of the trainable parameters of `model`, by path.
///
/// # Errors
///
/// [`Error::Device`] if they cannot be read.
pub fn values<M: Module>(model: &M) -> Result<BTreeMap<String, TensorData>> {
    struct Read {
        path: Vec<String>,
        values: BTreeMap<String, TensorData>,
        failure: Option<Error>,
    }
    impl ModuleVisitor for Read {
        track_path!();

        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if !param.is_require_grad() || self.failure.is_some() {
                return;
            }
            let name = self.path.join(".");
            match read(&name, param.base().inner()) {
                Ok(data) => drop(self.values.insert(name, data)),
                Err(error) => self.failure = Some(error),
            }
        }
    }
    let mut visitor = Read { path: Vec::new(), values: BTreeMap::new(), failure: None };
    model.visit(&mut visitor);
    visitor.failure.map_or(Ok(visitor.values), Err)
}

/// `model` with the trainable parameters set to `values`, which must be all of them.
///
/// # Errors
///
/// The parameter that is missing, left over or of another shape, in words.
pub fn load<M: Module>(
    model: M,
    values: BTreeMap<String, TensorData>,
) -> std::result::Result<M, String> {
    struct Load {
        path: Vec<String>,
        values: BTreeMap<String, TensorData>,
        failure: Option<String>,
    }
    impl Load {
        fn take(&mut self, name: &str, shape: &[usize]) -> Option<TensorData> {
            let data = self.values.remove(name);
            let problem = match &data {
                None => format!("{name} is missing"),
                Some(data) if data.shape().as_slice() != shape => {
                    let found = data.shape().as_slice();
                    format!("{name} has shape {found:?}, the model's is {shape:?}")
                }
                Some(_) => return data,
            };
            self.failure.get_or_insert(problem);
            None
        }
    }
    impl ModuleMapper for Load {
        track_path!();

        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            if !param.is_require_grad() {
                return param;
            }
            let name = self.path.join(".");
            let Some(data) = self.take(&name, param.shape().as_slice()) else {
                return param;
            };
            update(param, |old| Tensor::from_data(data, &old.device()))
        }
    }
    let mut mapper = Load { path: Vec::new(), values, failure: None };
    let model = model.map(&mut mapper);
    if let Some(problem) = mapper.failure {
        return Err(problem);
    }
    match mapper.values.keys().next() {
        Some(name) => Err(format!("it holds {name}, which the model does not train")),
        None => Ok(model),
    }
}

/// Replaces the value of a trainable parameter, outside any graph; the new value is a trainable
/// leaf again.
pub(crate) fn update<const D: usize>(
    param: Param<Tensor<D>>,
    change: impl FnOnce(Tensor<D>) -> Tensor<D>,
) -> Param<Tensor<D>> {
    param.map(|old| {
        let strategy: Option<GradientCheckpointingStrategy> = old.gradient_checkpointing_strategy();
        let new = change(old.inner()).autodiff();
        let new = match strategy {
            Some(strategy) => new.with_gradient_checkpointing_strategy(strategy),
            None => new,
        };
        new.require_grad()
    })
}

/// Reads a tensor back from its device.
pub(crate) fn read<const D: usize>(name: &str, tensor: Tensor<D>) -> Result<TensorData> {
    let failed = |reason: String| Error::Device { name: name.to_owned(), reason };
    tensor.try_into_data().map_err(|error| failed(error.to_string()))
}

/// Summed gradients by parameter path, each flattened.
#[derive(Default)]
pub struct Gradients(pub(crate) BTreeMap<String, Tensor<1>>);

impl Gradients {
    /// Adds the gradients of `model` that `grads` holds.
    pub fn accumulate<M: Module>(&mut self, model: &M, grads: &mut burn::tensor::Gradients) {
        struct Collect<'a> {
            path: Vec<String>,
            grads: &'a mut burn::tensor::Gradients,
            sums: &'a mut BTreeMap<String, Tensor<1>>,
        }
        impl ModuleVisitor for Collect<'_> {
            track_path!();

            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                if !param.is_require_grad() {
                    return;
                }
                // A parameter that the loss did not use has no gradient and is not updated.
                let Some(grad) = param.base().grad_remove(self.grads) else {
                    return;
                };
                let grad = flatten(grad);
                let name = self.path.join(".");
                let sum = match self.sums.remove(&name) {
                    Some(sum) => sum + grad,
                    None => grad,
                };
                self.sums.insert(name, sum);
            }
        }
        model.visit(&mut Collect { path: Vec::new(), grads, sums: &mut self.0 });
    }

    /// The Euclidean norm over all parameters together.
    ///
    /// # Errors
    ///
    /// [`Error::Device`] if it cannot be read.
    pub fn norm(&self) -> Result<f64> {
        let squares: Vec<Tensor<1>> = self.0.values().flat_map(squared_sums).collect();
        if squares.is_empty() {
            return Ok(0.0);
        }
        let data = read("the gradient norm", Tensor::cat(squares, 0))?;
        Ok(data.iter::<f64>().sum::<f64>().sqrt())
    }
}

/// The same values with one dimension.
pub(crate) fn flatten<const D: usize>(tensor: Tensor<D>) -> Tensor<1> {
    let size = tensor.shape().num_elements();
    tensor.reshape([size])
}

fn squared_sums(values: &Tensor<1>) -> Vec<Tensor<1>> {
    let [size] = values.dims();
    let chunk = |start: usize| {
        let part = values.clone().narrow(0, start, SUM_CHUNK.min(size - start));
        part.square().sum()
    };
    (0..size).step_by(SUM_CHUNK).map(chunk).collect()
}
