//! RMSprop (Tieleman and Hinton 2012) as `torch.optim.RMSprop`; Burn's adds ε under the root.

use burn::optim::{LearningRate, Optimizer, RecordState, StateSink, StateSource};
use burn::tensor::{Device, Tensor};

/// `v ← α v + (1 − α) g²`, `w ← w − η g / (√v + ε)`, and before it `w ← (1 − η λ) w`.
///
/// The decay is decoupled, as in AdamW; PyTorch's adds `λ w` to the gradient.
#[derive(Clone, Debug)]
pub struct RmsProp {
    /// Decay of the mean square.
    pub alpha: f64,
    /// Term that keeps the denominator from 0.
    pub epsilon: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
}

/// Mean square of the gradients of one parameter.
#[derive(Clone)]
pub struct RmsPropState<const D: usize>(Tensor<D>);

impl<const D: usize> RecordState for RmsPropState<D> {
    fn state_flatten(&self, prefix: &str, out: &mut StateSink) {
        out.push_tensor(prefix, "square_avg", self.0.clone().into_data());
    }

    fn state_unflatten(prefix: &str, src: &mut StateSource, device: &Device) -> Option<Self> {
        let data = src.take_tensor(prefix, "square_avg")?;
        Some(Self(Tensor::from_data(data, device)))
    }
}

impl Optimizer for RmsProp {
    type State<const D: usize> = RmsPropState<D>;

    fn step<const D: usize>(
        &self,
        rate: LearningRate,
        weight: Tensor<D>,
        grad: Tensor<D>,
        state: Option<Self::State<D>>,
    ) -> (Tensor<D>, Option<Self::State<D>>) {
        let new = grad.clone().square().mul_scalar(1.0 - self.alpha);
        let mean = match state {
            Some(RmsPropState(old)) => old.mul_scalar(self.alpha) + new,
            None => new,
        };
        let update = grad / mean.clone().sqrt().add_scalar(self.epsilon);
        let weight = match self.weight_decay {
            0.0 => weight,
            decay => weight.mul_scalar(1.0 - rate * decay),
        };
        (weight - update.mul_scalar(rate), Some(RmsPropState(mean)))
    }

    fn to_device<const D: usize>(state: Self::State<D>, device: &Device) -> Self::State<D> {
        RmsPropState(state.0.to_device(device))
    }
}
