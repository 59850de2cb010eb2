//! A mixture of experts (Shazeer et al., arXiv 1701.06538) as Gemma 4 has it beside its MLP.

use burn::{
    module::{Module, Param},
    tensor::{DType, IndexingUpdateOp, Int, Tensor, TensorData, activation::softmax},
};
use cai_kernels::Activation;

use super::{ExpertsSpec, Linear, NormSpec, Pass, TensorSource, param};
use crate::Result;

/// Chooses each token's experts: `p = softmax(proj(norm(x) · scale / √hidden))`; those with the k
/// largest p, weighted by `p / Σ p` of these k and by a number of each expert.
#[derive(Module, Debug)]
pub struct Router {
    /// `[experts, hidden]`.
    pub proj: Linear,
    /// `[hidden]`.
    pub scale: Param<Tensor<1>>,
    /// `[experts]`.
    pub per_expert_scale: Param<Tensor<1>>,
    #[module(skip)]
    top_k: usize,
    #[module(skip)]
    eps: f64,
}

impl Router {
    pub(super) fn load(
        source: &mut impl TensorSource,
        name: &str,
        hidden: usize,
        experts: ExpertsSpec,
        norm: NormSpec,
    ) -> Result<Self> {
        let mut gain = |part: &str, width| -> Result<_> {
            let name = format!("{name}.{part}");
            Ok(param(&name, source.gain(&name, width, 1.0)?))
        };
        let scale = gain("scale", hidden)?;
        let per_expert_scale = gain("per_expert_scale", experts.count)?;
        let proj = Linear::load(source, &format!("{name}.proj"), [experts.count, hidden])?;
        Ok(Self { proj, scale, per_expert_scale, top_k: experts.top_k, eps: norm.eps })
    }

    /// Weight of every expert for every token of `x` `[tokens, hidden]`, `[tokens, experts]`: 0 for
    /// those that a token does not go to. The choice is a constant of the backward pass.
    fn weights(&self, x: Tensor<2>, pass: &Pass) -> Tensor<2> {
        let [tokens, hidden] = x.dims();
        let gain = self.scale.val().unsqueeze::<2>() / (hidden as f64).sqrt();
        let scores = self.proj.forward(cai_kernels::rms_norm_plain(x, self.eps) * gain, pass);
        let shares = softmax(scores.cast(DType::F32), 1);
        let chosen = largest(&shares, self.top_k);
        let [_, experts] = shares.dims();
        let chosen = TensorData::new(chosen, [tokens, experts]);
        let shares = shares.clone() * Tensor::from_data(chosen, &shares.inner().device());
        let total = shares.clone().sum_dim(1);
        shares / total * self.per_expert_scale.val().cast(DType::F32).unsqueeze()
    }
}

/// 1 where a row's value is among its `k` largest (of equal ones the first), else 0.
fn largest(values: &Tensor<2>, k: usize) -> Vec<f32> {
    let [_, width] = values.dims();
    let values: Vec<f32> = values.clone().inner().into_data().iter::<f32>().collect();
    let row = |row: &[f32]| {
        let mut order: Vec<usize> = (0..width).collect();
        order.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
        let mut chosen = vec![0.0; width];
        order.iter().take(k).for_each(|&i| chosen[i] = 1.0);
        chosen
    };
    values.chunks(width.max(1)).flat_map(row).collect()
}

/// The experts' matrices, one after the other.
#[derive(Module, Debug)]
pub struct Experts {
    /// `[experts, 2 · intermediate, hidden]`: gate, then up.
    pub gate_up_proj: Param<Tensor<3>>,
    /// `[experts, hidden, intermediate]`.
    pub down_proj: Param<Tensor<3>>,
    #[module(skip)]
    activation: Activation,
}

impl Experts {
    pub(super) fn load(
        source: &mut impl TensorSource,
        name: &str,
        hidden: usize,
        spec: ExpertsSpec,
        activation: Activation,
    ) -> Result<Self> {
        let inner = spec.intermediate_size;
        let mut stack = |part: &str, shape| -> Result<_> {
            let name = format!("{name}.{part}");
            Ok(param(&name, source.tensor(&name, shape)?))
        };
        Ok(Self {
            gate_up_proj: stack("gate_up_proj", [spec.count, 2 * inner, hidden])?,
            down_proj: stack("down_proj", [spec.count, hidden, inner])?,
            activation,
        })
    }

    /// What the experts that `router` chooses by `x` make of `y`, both `[tokens, hidden]`.
    pub(super) fn forward(
        &self,
        router: &Router,
        x: Tensor<2>,
        y: Tensor<2>,
        pass: &Pass,
    ) -> Tensor<2> {
        let weights = router.weights(x, pass);
        let [tokens, count] = weights.dims();
        let shares: Vec<f32> = weights.clone().inner().into_data().iter::<f32>().collect();
        let mut out = y.zeros_like();
        for expert in 0..count {
            let goes = |&t: &i64| shares[t as usize * count + expert] != 0.0;
            let rows: Vec<i64> = (0..tokens as i64).filter(goes).collect();
            if rows.is_empty() {
                continue;
            }
            let rows = Tensor::<1, Int>::from_data(rows.as_slice(), &y.clone().inner().device());
            let weight = weights.clone().narrow(1, expert, 1).select(0, rows.clone());
            let made = self.expert(expert, y.clone().select(0, rows.clone()));
            let made = made.clone() * weight.cast(made.dtype());
            out = out.select_assign(0, rows, made, IndexingUpdateOp::Add);
        }
        out
    }

    fn expert(&self, i: usize, x: Tensor<2>) -> Tensor<2> {
        let of = |stack: &Param<Tensor<3>>| stack.val().narrow(0, i, 1).squeeze_dim::<2>(0);
        let (both, down) = (of(&self.gate_up_proj), of(&self.down_proj));
        let wide = x.matmul(both.transpose());
        let [_, width] = wide.dims();
        let gate = wide.clone().narrow(1, 0, width / 2);
        let up = wide.narrow(1, width / 2, width / 2);
        cai_kernels::gated(gate, up, self.activation).matmul(down.transpose())
    }
}
