use burn::{
    module::{Module, Param},
    tensor::{DType, Device, Tensor, TensorData},
};
use cai_data::seed::Seed;
use rand::RngExt;

use super::{Dora, dropout};
use crate::decoder::{Linear, Pass, param};

/// One low-rank update `s·B·A`, applied to activations: `s·(x·Aᵀ)·Bᵀ`; with DoRA the sum of base and
/// update is scaled by output.
///
/// The dense product is never formed, forward or backward.
#[derive(Module, Debug)]
pub struct LoraAdapter {
    /// `[r, in]`.
    pub lora_a: Param<Tensor<2>>,
    /// `[out, r]`.
    pub lora_b: Param<Tensor<2>>,
    /// The trained magnitude of each output (DoRA).
    pub dora: Option<Dora>,
    #[module(skip)]
    settings: Settings,
}

/// What of an adapter is not trained.
#[derive(Clone, Debug)]
struct Settings {
    /// The projection's name, which its dropout masks are derived from.
    name: String,
    scale: f64,
    dropout: f64,
}

impl LoraAdapter {
    /// An adapter for the projection `name` with factors `a` `[r, in]` and `b` `[out, r]`, whose
    /// update is multiplied by `scale`; `dropout` is the chance that an input of the update is zero
    /// in training.
    pub fn new(
        name: &str,
        [a, b]: [Tensor<2>; 2],
        dora: Option<Dora>,
        scale: f64,
        dropout: f64,
    ) -> Self {
        Self {
            lora_a: param(&format!("{name}.lora_A.weight"), a),
            lora_b: param(&format!("{name}.lora_B.weight"), b),
            dora,
            settings: Settings { name: name.into(), scale, dropout },
        }
    }

    /// The same adapter with everything that is trained marked for training.
    pub fn trainable(self) -> Self {
        Self {
            lora_a: self.lora_a.set_require_grad(true),
            lora_b: self.lora_b.set_require_grad(true),
            dora: self.dora.map(Dora::trainable),
            settings: self.settings,
        }
    }

    /// Whether the update is added to the base and nothing else: no DoRA, no dropout in this pass.
    pub fn is_plain(&self, pass: &Pass) -> bool {
        self.dora.is_none() && (pass.seed.is_none() || self.settings.dropout == 0.0)
    }

    /// What [`LoraAdapter::forward`] computes if the adapter is plain, by a dense `weight`
    /// `[out, in]`. Factors are kept in f32 and cast to the activations' type.
    pub fn project(&self, x: Tensor<2>, weight: Tensor<2>) -> Tensor<2> {
        let (a, b) = (self.lora_a.val(), self.lora_b.val());
        cai_kernels::lora_linear(x, weight, a, b, self.settings.scale)
    }

    /// `[rows, in]` to `[rows, out]`: the projection with its update. `project` is the base alone,
    /// `x·Wᵀ`.
    ///
    /// With dropout, DoRA drops the inputs of the base too where the magnitude scales it, as PEFT:
    /// `x·Wᵀ + (g − 1)·x̃·Wᵀ + g·s·(x̃·Aᵀ)·Bᵀ`.
    pub fn forward(
        &self,
        x: Tensor<2>,
        project: impl Fn(Tensor<2>) -> Tensor<2>,
        pass: &Pass,
    ) -> Tensor<2> {
        let base = project(x.clone());
        let seed = pass.seed.filter(|_| self.settings.dropout > 0.0);
        let dropped = seed.map(|seed| {
            dropout::drop(x.clone(), self.settings.dropout, seed.derive(&self.settings.name))
        });
        let Some(dora) = &self.dora else {
            return base + self.low_rank(dropped.unwrap_or(x));
        };
        let dtype = x.dtype();
        let wide = |a: Tensor<2>| project(a.cast(dtype)).cast(DType::F32);
        let gain = self.gain(dora, wide).unsqueeze::<2>();
        let sum = match dropped {
            None => (base + self.low_rank(x)).cast(DType::F32) * gain,
            Some(dropped) => {
                let again = project(dropped.clone()).cast(DType::F32);
                let low = self.low_rank(dropped).cast(DType::F32);
                base.cast(DType::F32) + again * (gain.clone() - 1.0) + low * gain
            }
        };
        sum.cast(dtype)
    }

    /// `s·(x·Aᵀ)·Bᵀ`. Factors are kept in f32 and cast to the activations' type.
    fn low_rank(&self, x: Tensor<2>) -> Tensor<2> {
        let dtype = x.dtype();
        let low = x.matmul(self.lora_a.val().cast(dtype).transpose());
        let low = low.mul_scalar(self.settings.scale);
        low.matmul(self.lora_b.val().cast(dtype).transpose())
    }

    /// What DoRA multiplies each output by, `[out]`; here `project` is in f32.
    fn gain(&self, dora: &Dora, project: impl Fn(Tensor<2>) -> Tensor<2>) -> Tensor<1> {
        dora.gain(self.factors(), self.settings.scale, project)
    }

    /// A and B in f32, off the autodiff graph.
    fn factors(&self) -> [Tensor<2>; 2] {
        [&self.lora_a, &self.lora_b].map(|factor| factor.val().inner().cast(DType::F32))
    }

    /// The adapter of a projection that is not trained: what follows from the factors alone is
    /// computed once and for all.
    pub(super) fn frozen(mut self, linear: &Linear) -> Self {
        let (factors, scale) = (self.factors(), self.settings.scale);
        self.dora = self.dora.map(|dora| dora.frozen(factors, scale, |a| project_wide(linear, a)));
        self
    }

    /// What DoRA multiplies each row of the projection's weight by, `[out]`, if this is DoRA.
    pub(super) fn row_gain(&self, linear: &Linear) -> Option<Tensor<1>> {
        let gain = |dora| self.gain(dora, |a| project_wide(linear, a)).inner();
        self.dora.as_ref().map(gain)
    }

    /// `weight`, which is in f32 and begins at row `start` of the whole, with the update merged in:
    /// `W + s·B·A`, times the rows' `gain` with DoRA.
    pub(super) fn merged(
        &self,
        weight: Tensor<2>,
        start: usize,
        gain: Option<&Tensor<1>>,
    ) -> Tensor<2> {
        let [rows, _] = weight.dims();
        let [a, b] = self.factors();
        let sum = weight + b.narrow(0, start, rows).matmul(a).mul_scalar(self.settings.scale);
        match gain {
            Some(gain) => sum * gain.clone().narrow(0, start, rows).unsqueeze_dim::<2>(1),
            None => sum,
        }
    }

    /// Every trained tensor with the end of its name in PEFT's files, off the autodiff graph.
    pub(super) fn tensors(&self) -> Vec<(&'static str, TensorData)> {
        let [a, b] = self.factors().map(Tensor::into_data);
        let mut all = vec![("lora_A.weight", a), ("lora_B.weight", b)];
        if let Some(dora) = &self.dora {
            let magnitude = dora.magnitude.val().inner().cast(DType::F32).into_data();
            all.push((MAGNITUDE, magnitude));
        }
        all
    }
}

/// The base alone on `x` in f32, whatever type it computes in.
fn project_wide(linear: &Linear, x: Tensor<2>) -> Tensor<2> {
    linear.project(x.cast(linear.weight.dtype())).cast(DType::F32)
}

/// The end of the name of DoRA's magnitude in PEFT's files.
pub(super) const MAGNITUDE: &str = "lora_magnitude_vector";

/// Uniform in ±1/√in, `[r, in]`: PyTorch's `kaiming_uniform_(a=√5)`, as PEFT initialises A.
pub(super) fn kaiming_uniform(r: usize, input: usize, seed: Seed, device: &Device) -> Tensor<2> {
    let bound = 1.0 / (input as f64).sqrt();
    let mut rng = seed.rng();
    let draw = |_| ((2.0 * rng.random::<f64>() - 1.0) * bound) as f32;
    let values: Vec<f32> = (0..r * input).map(draw).collect();
    Tensor::from_data(TensorData::new(values, [r, input]), device)
}
