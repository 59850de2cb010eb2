//! A matrix of the model: a dense parameter, or a frozen one in 8 or 4 bits.

use burn::{
    module::{
        Content, Devices, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor,
        Param,
    },
    tensor::{DType, Device, Int, Tensor, TensorData},
};

use super::param;
use crate::quantize::{self, QuantMatrix};

/// A matrix `[out, in]`. As a module, a quantised one has no parameters.
#[derive(Clone, Debug)]
pub enum Weight {
    /// A parameter.
    Dense(Param<Tensor<2>>),
    /// Codes and scales in host memory, and the device that the products run on.
    Quantized(QuantMatrix, Device),
}

impl Weight {
    /// A dense frozen one, with the name it has in a checkpoint.
    pub fn dense(name: &str, tensor: Tensor<2>) -> Self {
        Self::Dense(param(name, tensor))
    }

    /// `[out, in]`.
    pub fn size(&self) -> [usize; 2] {
        match self {
            Self::Dense(weight) => weight.shape().dims(),
            Self::Quantized(weight, _) => weight.size(),
        }
    }

    /// Where products run, without autodiff.
    pub fn device(&self) -> Device {
        match self {
            Self::Dense(weight) => weight.val().inner().device(),
            Self::Quantized(_, device) => device.clone(),
        }
    }

    /// What products with it are computed in.
    pub fn dtype(&self) -> DType {
        match self {
            Self::Dense(weight) => weight.dtype(),
            Self::Quantized(..) => DType::F32,
        }
    }

    /// The matrix as a tensor, untracked: a copy if it is quantised.
    pub fn to_tensor(&self) -> Tensor<2> {
        match self {
            Self::Dense(weight) => weight.val().inner(),
            Self::Quantized(weight, device) => quantize::dense(weight, device),
        }
    }

    /// `x·Wᵀ`: `[rows, in]` to `[rows, out]`.
    pub fn project(&self, x: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Dense(weight) => cai_kernels::linear(x, weight.val()),
            Self::Quantized(weight, _) => quantize::matmul_transposed(x, weight),
        }
    }

    /// `y·W`: `[rows, out]` to `[rows, in]`.
    pub fn project_back(&self, y: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Dense(weight) => y.matmul(weight.val()),
            Self::Quantized(weight, _) => quantize::matmul(y, weight),
        }
    }

    /// Rows by number: `[n]` to `[n, in]`.
    pub fn select(&self, rows: Tensor<1, Int>) -> Tensor<2> {
        match self {
            Self::Dense(weight) => weight.val().select(0, rows),
            Self::Quantized(weight, device) => {
                let [_, width] = weight.size();
                let rows: Vec<usize> =
                    rows.into_data().iter::<i64>().map(|row| row as usize).collect();
                let mut values = vec![0.0; rows.len() * width];
                for (&row, values) in rows.iter().zip(values.chunks_mut(width.max(1))) {
                    weight.row(row, values);
                }
                Tensor::from_data(TensorData::new(values, [rows.len(), width]), device)
            }
        }
    }

    /// Memory of the weights, in bytes.
    pub fn num_bytes(&self) -> usize {
        match self {
            Self::Dense(weight) => weight.shape().num_elements() * weight.dtype().size(),
            Self::Quantized(weight, _) => weight.num_bytes(),
        }
    }
}

// By hand, because the derived one of an enum adds the variant to a parameter's path, which is its
// name in checkpoints.
impl Module for Weight {
    fn collect_devices(&self, mut devices: Devices) -> Devices {
        match self {
            Self::Dense(weight) => weight.collect_devices(devices),
            Self::Quantized(_, device) => {
                if !devices.contains(device) {
                    devices.push(device.clone());
                }
                devices
            }
        }
    }

    fn fork(self, device: &Device) -> Self {
        match self {
            Self::Dense(weight) => Self::Dense(weight.fork(device)),
            Self::Quantized(weight, _) => Self::Quantized(weight, device.clone()),
        }
    }

    fn to_device(self, device: &Device) -> Self {
        match self {
            Self::Dense(weight) => Self::Dense(weight.to_device(device)),
            Self::Quantized(weight, _) => Self::Quantized(weight, device.clone()),
        }
    }

    fn train(self) -> Self {
        match self {
            Self::Dense(weight) => Self::Dense(weight.train()),
            quantized => quantized,
        }
    }

    fn valid(&self) -> Self {
        match self {
            Self::Dense(weight) => Self::Dense(weight.valid()),
            quantized => quantized.clone(),
        }
    }

    fn materialize(self) -> Self {
        match self {
            Self::Dense(weight) => Self::Dense(weight.materialize()),
            quantized => quantized,
        }
    }

    fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
        if let Self::Dense(weight) = self {
            weight.visit(visitor);
        }
    }

    fn map<M: ModuleMapper>(self, mapper: &mut M) -> Self {
        match self {
            Self::Dense(weight) => Self::Dense(Module::map(weight, mapper)),
            quantized => quantized,
        }
    }
}

impl ModuleDisplayDefault for Weight {
    fn content(&self, content: Content) -> Option<Content> {
        match self {
            Self::Dense(weight) => weight.content(content),
            Self::Quantized(weight, _) => content.add_formatted(&format!("{weight:?}")).optional(),
        }
    }
}

impl ModuleDisplay for Weight {}
