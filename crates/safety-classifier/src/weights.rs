//! The weights of networks: how they begin, and their safetensors files.

use std::collections::BTreeMap;

use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::tensor::{Device, Tensor, TensorData};
use cai_data::seed::Seed;
use cai_train::params;
use rand::RngExt;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

use crate::error::{Error, Result};

/// Initial weights, each drawn from a seed and the weight's name.
pub(crate) struct Init<'a> {
    /// Of the network.
    pub seed: Seed,
    /// Where the weights will be.
    pub device: &'a Device,
}

impl Init<'_> {
    /// Uniform on `[-bound, bound]`.
    pub fn uniform(&self, name: &str, shape: [usize; 2], bound: f32) -> Param<Tensor<2>> {
        let mut rng = self.seed.derive(name).rng();
        let values: Vec<f32> =
            (0..shape[0] * shape[1]).map(|_| rng.random_range(-bound..bound)).collect();
        Param::from_data(TensorData::new(values, shape), self.device)
    }

    /// Glorot's uniform distribution, biases 0.
    pub fn linear(&self, name: &str, d_in: usize, d_out: usize) -> Linear {
        let bound = (6.0 / (d_in + d_out) as f32).sqrt();
        let bias = TensorData::new(vec![0f32; d_out], [d_out]);
        Linear {
            weight: self.uniform(name, [d_in, d_out], bound),
            bias: Some(Param::from_data(bias, self.device)),
        }
    }
}

/// All trainable weights as a safetensors file: one f32 tensor per parameter, named by its path in the
/// module.
///
/// # Errors
/// When a weight cannot be read from the device.
pub(crate) fn to_bytes<M: Module>(network: &M) -> Result<Vec<u8>> {
    let failed = |problem: String| Error::Device { what: "the weights", problem };
    // `params` sees what a training network would train: here, all weights.
    let values = params::values(&network.clone().train())?;
    let views = values
        .iter()
        .map(|(name, data)| {
            let shape = data.shape().as_slice().to_vec();
            let view = TensorView::new(Dtype::F32, shape, data.as_bytes());
            Ok((name, view.map_err(|error| failed(error.to_string()))?))
        })
        .collect::<Result<Vec<_>>>()?;
    safetensors::serialize(views, None).map_err(|error| failed(error.to_string()))
}

/// `network` with the weights of a file that [`to_bytes`] made: every one is replaced, or the load
/// fails and says why.
pub(crate) fn from_bytes<M: Module>(bytes: &[u8], network: M) -> std::result::Result<M, String> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
    let mut tensors = BTreeMap::new();
    for (name, view) in file.iter() {
        if view.dtype() != Dtype::F32 {
            return Err(format!("{name} is {:?}, not F32", view.dtype()));
        }
        let (numbers, _) = view.data().as_chunks::<4>();
        let values: Vec<f32> = numbers.iter().map(|number| f32::from_le_bytes(*number)).collect();
        if values.iter().any(|value| !value.is_finite()) {
            return Err(format!("{name} holds a number that is not finite"));
        }
        tensors.insert(name.to_owned(), TensorData::new(values, view.shape().to_vec()));
    }
    Ok(params::load(network.train(), tensors)?.valid())
}
