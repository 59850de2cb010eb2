//! Where a model's tensors come from: a checkpoint, or random numbers.

use burn::{
    module::{Param, ParamId},
    tensor::{Device, Tensor, TensorData},
};
use cai_data::seed::{Seed, gaussian};

use super::Weight;
use crate::Result;

/// Gives each tensor of a model by its Hugging Face name.
pub trait TensorSource {
    /// The tensor `name`, which must have exactly `shape`.
    ///
    /// # Errors
    ///
    /// When it is missing or has another shape.
    fn tensor<const D: usize>(&mut self, name: &str, shape: [usize; D]) -> Result<Tensor<D>>;

    /// A tensor of one dimension that multiplies or is added: a norm's weight, a bias. `identity` is
    /// the value of its entries that changes nothing.
    ///
    /// # Errors
    ///
    /// Those of [`TensorSource::tensor`].
    fn gain(&mut self, name: &str, width: usize, identity: f64) -> Result<Tensor<1>> {
        let _ = identity;
        self.tensor(name, [width])
    }

    /// The embedding or the weight of a projection, which a source may quantise.
    ///
    /// # Errors
    ///
    /// Those of [`TensorSource::tensor`].
    fn weight(&mut self, name: &str, size: [usize; 2]) -> Result<Weight> {
        Ok(Weight::dense(name, self.tensor(name, size)?))
    }
}

/// A frozen parameter whose id is derived from its name, the same in every process: optimiser
/// states are stored by id.
pub fn param<const D: usize>(name: &str, tensor: Tensor<D>) -> Param<Tensor<D>> {
    Param::initialized(ParamId::from(Seed(0).derive(name).0), tensor)
}

/// Gaussian weights with standard deviation `std`, norms and biases that change nothing: what
/// transformers initialises with.
pub struct RandomInit {
    /// Every tensor's numbers come from this seed and its name.
    pub seed: Seed,
    /// Standard deviation of matrices (0.02 in transformers).
    pub std: f64,
    /// Where the tensors go.
    pub device: Device,
}

impl TensorSource for RandomInit {
    fn tensor<const D: usize>(&mut self, name: &str, shape: [usize; D]) -> Result<Tensor<D>> {
        let data = gaussian(shape.iter().product(), self.std, self.seed.derive(name));
        Ok(Tensor::from_data(TensorData::new(data, shape), &self.device))
    }

    fn gain(&mut self, _: &str, width: usize, identity: f64) -> Result<Tensor<1>> {
        Ok(Tensor::full([width], identity, &self.device))
    }
}

/// Notes the tensors that a model asks for: names and shapes.
#[derive(Default)]
pub(crate) struct Shapes(pub(crate) Vec<(String, Vec<usize>)>);

impl TensorSource for Shapes {
    fn tensor<const D: usize>(&mut self, name: &str, shape: [usize; D]) -> Result<Tensor<D>> {
        self.0.push((name.into(), shape.to_vec()));
        // One number, seen as many: nothing of the model is in memory.
        Ok(Tensor::<D>::zeros([1; D], &Device::flex()).expand(shape))
    }
}
