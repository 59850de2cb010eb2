use burn::{
    module::{Module, Param},
    tensor::{DType, Tensor},
};

use super::adapter::MAGNITUDE;
use crate::decoder::{Linear, param};

/// Rows of a base weight that are widened to f32 at a time.
const TILE_ROWS: usize = 1024;

/// DoRA's magnitude of a projection (Liu et al., arXiv 2402.09353): row i of the weight becomes
/// `mᵢ · (W + s·B·A)ᵢ / ‖(W + s·B·A)ᵢ‖`. The norm counts as a constant in the backward pass
/// (section 4.3), as in PEFT.
///
/// The norm needs no dense update. With `C = W·Aᵀ`, which is the base applied to the rows of A,
///
/// ```text
/// ‖(W + s·B·A)ᵢ‖² = ‖Wᵢ‖² + 2s·Σⱼ Bᵢⱼ Cᵢⱼ + s²·Σⱼ Bᵢⱼ (B·A·Aᵀ)ᵢⱼ
/// ```
#[derive(Module, Debug)]
pub struct Dora {
    /// `[out]`.
    pub magnitude: Param<Tensor<1>>,
    /// `‖Wᵢ‖²`, `[out]`.
    #[module(skip)]
    base_squares: Tensor<1>,
    /// The factor of each output where nothing is trained, so that it is computed only once.
    #[module(skip)]
    fixed: Option<Tensor<1>>,
}

impl Dora {
    /// For the projection `name`, with a magnitude `[out]`, or that of the base weight itself.
    pub(super) fn new(name: &str, linear: &Linear, magnitude: Option<Tensor<1>>) -> Self {
        let base_squares = row_squares(linear);
        let magnitude = magnitude.unwrap_or_else(|| base_squares.clone().sqrt());
        let magnitude = param(&format!("{name}.{MAGNITUDE}"), magnitude);
        Self { magnitude, base_squares, fixed: None }
    }

    pub(super) fn trainable(self) -> Self {
        Self { magnitude: self.magnitude.set_require_grad(true), fixed: None, ..self }
    }

    pub(super) fn frozen(
        self,
        factors: [Tensor<2>; 2],
        scale: f64,
        project: impl Fn(Tensor<2>) -> Tensor<2>,
    ) -> Self {
        let gain = self.gain(factors, scale, project).inner();
        Self { fixed: Some(gain), ..self }
    }

    /// `m / ‖W + s·B·A‖` by rows, `[out]`; only m is on the autodiff graph. All in f32, `project` too.
    pub(super) fn gain(
        &self,
        [a, b]: [Tensor<2>; 2],
        scale: f64,
        project: impl Fn(Tensor<2>) -> Tensor<2>,
    ) -> Tensor<1> {
        if let Some(gain) = &self.fixed {
            return gain.clone();
        }
        let c = project(a.clone()).inner().transpose();
        let gram = a.clone().matmul(a.transpose());
        let update = c.mul_scalar(2.0 * scale) + b.clone().matmul(gram).mul_scalar(scale * scale);
        let squares = self.base_squares.clone() + (b * update).sum_dim(1).squeeze_dim::<1>(1);
        // A row that is nearly zero may come out below it by rounding.
        let norm = squares.clamp_min(f32::MIN_POSITIVE as f64).sqrt();
        self.magnitude.val() / norm
    }
}

/// The squared norm of each row of the base weight, `[out]`, in f32.
fn row_squares(linear: &Linear) -> Tensor<1> {
    let weight = linear.dense_weight();
    let squares = tiles(linear).map(|(start, rows)| {
        let tile = weight.clone().narrow(0, start, rows).cast(DType::F32);
        tile.square().sum_dim(1).squeeze_dim::<1>(1)
    });
    Tensor::cat(squares.collect(), 0)
}

/// First row and number of rows of each tile of a projection's weight.
pub(super) fn tiles(linear: &Linear) -> impl Iterator<Item = (usize, usize)> {
    let [out, _] = linear.size();
    (0..out).step_by(TILE_ROWS).map(move |start| (start, TILE_ROWS.min(out - start)))
}
