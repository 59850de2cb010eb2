//! Scaled dot-product attention with shared key/value heads:
//!
//! ```text
//! s = scale·q·kᵀ     x = s, or cap·tanh(s/cap)     p = softmax over visible keys of x     o = p·v
//! ```
//!
//! The fused version keeps no scores. Forward, a block of queries at a time, it computes the scores
//! of the keys that the block sees and keeps the output and each query's `l = log Σ exp x`; backward
//! computes the scores again (Dao et al., arXiv 2205.14135, section 3.1, with blocks of queries only:
//! a block's scores fit into the cache):
//!
//! ```text
//! p = exp(x − l)     D = Σ_d ∂o·o     ∂x = p·(∂o·vᵀ − D)     ∂s = ∂x·(1 − tanh²(s/cap))
//! ∂q = scale·∂s·k    ∂k = scale·∂sᵀ·q    ∂v = pᵀ·∂o
//! ```

mod backward;
mod block;
mod forward;

#[cfg(feature = "cube")]
use burn::backend::fusion::custom::TensorSpec;
use burn::{
    backend::{
        Autodiff, Backend, Dispatch, Flex,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
            grads::Gradients,
            ops::{Backward, Ops, OpsKind},
        },
        backend_extension,
        tensor::FloatTensor,
    },
    tensor::{DType, Tensor, activation::softmax},
};
use burn_flex::FlexTensor;

use super::{Visibility, cpu, fused};

/// Attention of `q` `[batch, heads, queries, dim]` over `k` and `v` `[batch, kv_heads, keys, dim]`,
/// where `visibility` names the keys that each query sees. Returns `[batch, heads, queries, dim]`.
/// The softmax is taken in f32.
pub fn attention(
    q: Tensor<4>,
    k: Tensor<4>,
    v: Tensor<4>,
    visibility: &Visibility,
    scale: f64,
    softcap: Option<f64>,
) -> Tensor<4> {
    if fused([&q, &k, &v]) {
        let [q, k, v] = [q, k, v].map(Tensor::into_dispatch);
        let softcap = softcap.map(|cap| cap as f32);
        let rule = Rule { visibility: visibility.clone(), scale: scale as f32, softcap };
        return Tensor::from_dispatch(<Dispatch as AttentionOps>::attend(q, k, v, rule).0);
    }
    reference(q, k, v, visibility, scale, softcap)
}

/// The same in Burn's operations, for other devices and types.
fn reference(
    q: Tensor<4>,
    k: Tensor<4>,
    v: Tensor<4>,
    visibility: &Visibility,
    scale: f64,
    softcap: Option<f64>,
) -> Tensor<4> {
    let [batch, heads, queries, dim] = q.dims();
    let [_, kv_heads, keys, _] = k.dims();
    let dtype = q.dtype();
    let mask = visibility.mask(&q.device());
    // Query heads that share a key head stand behind each other: no copy of keys and values.
    let group = [batch, kv_heads, heads / kv_heads * queries, dim];
    let scores = q.mul_scalar(scale).reshape(group).matmul(k.swap_dims(2, 3));
    let scores = scores.reshape([batch, heads, queries, keys]).cast(DType::F32);
    let scores = match softcap {
        Some(cap) => scores.div_scalar(cap).tanh().mul_scalar(cap),
        None => scores,
    };
    let scores = scores.mask_fill(mask.expand([batch, heads, queries, keys]), f32::NEG_INFINITY);
    let weights = softmax(scores, 3).cast(dtype);
    let weights = weights.reshape([batch, kv_heads, heads / kv_heads * queries, keys]);
    weights.matmul(v).reshape([batch, heads, queries, dim])
}

/// What scores become before the softmax.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) visibility: Visibility,
    pub(super) scale: f32,
    pub(super) softcap: Option<f32>,
}

#[backend_extension(Flex, Cube: cfg(feature = "cube"), Fusion: cfg(feature = "cube"), Autodiff)]
pub(super) trait AttentionOps: Backend {
    /// The output, and l of each `[batch, queries, heads]`.
    #[fusion(meta = |q, _, _, _| (q.clone(), log_sums_of(q)))]
    fn attend(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        rule: Rule,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// Gradients of q, k and v.
    #[fusion(meta = |q, k, v, _, _, _, _| (q.clone(), k.clone(), v.clone()))]
    fn attend_backward(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        out: FloatTensor<Self>,
        log_sums: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        rule: Rule,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

#[cfg(feature = "cube")]
fn log_sums_of(q: &TensorSpec) -> TensorSpec {
    let [batch, heads, queries, _] = q.shape.dims();
    TensorSpec::new([batch, queries, heads].into(), DType::F32)
}

impl AttentionOps for Flex {
    fn attend(q: FlexTensor, k: FlexTensor, v: FlexTensor, rule: Rule) -> (FlexTensor, FlexTensor) {
        forward::attention([&q, &k, &v].map(block::rows), &rule)
    }

    fn attend_backward(
        q: FlexTensor,
        k: FlexTensor,
        v: FlexTensor,
        out: FlexTensor,
        log_sums: FlexTensor,
        grad: FlexTensor,
        rule: Rule,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        let [q, k, v, grad] = [&q, &k, &v, &grad].map(block::rows);
        let [q, k, v] = backward::attention([q, k, v], &out, &grad, cpu::numbers(&log_sums), &rule);
        (q, k, v)
    }
}

impl<B: AttentionOps, C: CheckpointStrategy> AttentionOps for Autodiff<B, C> {
    fn attend(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        rule: Rule,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let [(q, q_node), (k, k_node), (v, v_node)] =
            [q, k, v].map(FloatTensor::<Self>::into_parts);
        let (out, log_sums) = B::attend(q.clone(), k.clone(), v.clone(), rule.clone());
        let nodes = [q_node, k_node, v_node];
        let tracked = match Attention.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                prep.finish(([q, k, v, out.clone(), log_sums.clone()], rule), out)
            }
            OpsKind::UnTracked(prep) => prep.finish(out),
        };
        (tracked, FloatTensor::<Self>::new(log_sums))
    }

    fn attend_backward(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: Rule,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        unreachable!("a backward pass is not differentiated")
    }
}

#[derive(Debug)]
struct Attention;

impl<B: AttentionOps> Backward<B, 3> for Attention {
    /// q, k, v, the output, and l.
    type State = ([FloatTensor<B>; 5], Rule);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let ([q, k, v, out, log_sums], rule) = ops.state;
        let (q, k, v) = B::attend_backward(q, k, v, out, log_sums, grad, rule);
        for (node, gradient) in ops.parents.iter().zip([q, k, v]) {
            if let Some(node) = node {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Int;

    use super::*;
    use crate::{
        Segment,
        testing::{check, check_half, random},
    };

    /// Heads of queries and of keys, width of a head, scale.
    #[derive(Clone, Copy)]
    struct Heads(usize, usize, usize, f64);

    const SMALL: Heads = Heads(4, 2, 6, 0.4);

    /// Checks a batch, with tensors as projections lay them out and as a cache does.
    fn attends(batch: usize, visibility: &Visibility) {
        attends_with(SMALL, batch, visibility);
    }

    fn attends_with(
        Heads(heads, kv_heads, dim, scale): Heads,
        batch: usize,
        visibility: &Visibility,
    ) {
        let [_, queries, keys] = visibility.dims();
        for softcap in [None, Some(1.5)] {
            let shapes = [("q", queries, heads), ("k", keys, kv_heads), ("v", keys, kv_heads)];
            let inputs = shapes.map(|(name, tokens, heads)| {
                random(name, [batch, tokens, heads, dim]).swap_dims(1, 2)
            });
            let [q, k, v] = inputs.clone();
            let cached = [q, k, v].map(|x| {
                let [batch, heads, tokens, dim] = x.dims();
                let room = Tensor::zeros([batch, heads, tokens + 3, dim], &x.device());
                let all = [0..batch, 0..heads, 0..tokens, 0..dim];
                room.slice_assign(all.clone(), x).slice(all)
            });
            for inputs in [inputs, cached] {
                check(
                    inputs,
                    |[q, k, v]| attention(q, k, v, visibility, scale, softcap),
                    |[q, k, v]| reference(q, k, v, visibility, scale, softcap),
                );
            }
        }
    }

    #[test]
    fn causal_and_windowed() {
        for window in [None, Some(1), Some(20)] {
            attends(1, &Visibility::causal(150, window));
            attends(3, &Visibility::causal(9, window));
        }
    }

    #[test]
    fn behind_a_cache() {
        for window in [None, Some(5)] {
            attends(3, &Visibility::continued(&[8, 6, 1], 1, window));
            attends(3, &Visibility::continued(&[0, 2, 7], 12, window));
            attends(1, &Visibility::continued(&[70], 70, window));
        }
    }

    /// Widths of Llama (64, 128), Gemma (256, 512) and others; every key head its own, all shared.
    #[test]
    fn with_heads_of_any_family() {
        for heads in [
            Heads(3, 1, 64, 0.125),
            Heads(9, 3, 64, 0.125),
            Heads(2, 2, 80, 0.1),
            Heads(14, 2, 7, 1.0),
            Heads(4, 1, 256, 0.0625),
            Heads(8, 2, 512, 0.03),
        ] {
            attends_with(heads, 2, &Visibility::causal(11, Some(4)));
            // Decoding, and a chunk of a prompt behind a cache, its window shorter and longer than both.
            attends_with(heads, 2, &Visibility::continued(&[9, 3], 1, Some(5)));
            for window in [None, Some(3), Some(12)] {
                attends_with(heads, 1, &Visibility::continued(&[20], 8, window));
            }
        }
    }

    /// As in layers whose keys are their values, and in layers that use an earlier layer's.
    #[test]
    fn keys_that_are_values() {
        let visibility = Visibility::causal(9, None);
        let inputs = ["q", "kv"].map(|name| random(name, [2, 3, 9, 8]));
        check(
            inputs,
            |[q, kv]| attention(q, kv.clone(), kv, &visibility, 0.35, None),
            |[q, kv]| reference(q, kv.clone(), kv, &visibility, 0.35, None),
        );
    }

    #[test]
    fn in_segments() {
        let segment = |start, len, parent| Segment { start, len, parent };
        let pair = vec![
            segment(0, 50, None),
            segment(50, 30, None),
            segment(80, 40, Some(1)),
            segment(120, 1, Some(0)),
            segment(121, 19, Some(0)),
        ];
        for window in [None, Some(25)] {
            let rows = [pair.clone(), vec![segment(0, 90, None)]];
            attends(2, &Visibility::segments(&rows, 141, window));
        }
    }

    #[test]
    fn in_half_precision() {
        let visibility = Visibility::causal(9, None);
        let Heads(heads, kv_heads, dim, scale) = SMALL;
        let shapes = [("q", heads), ("k", kv_heads), ("v", kv_heads)];
        check_half(
            shapes.map(|(name, heads)| random(name, [3, 9, heads, dim]).swap_dims(1, 2)),
            |[q, k, v]| attention(q, k, v, &visibility, scale, Some(1.5)),
            |[q, k, v]| reference(q, k, v, &visibility, scale, Some(1.5)),
        );
    }

    #[test]
    fn a_query_sees_no_other_key() {
        // Two pads, then a text of three.
        let text = Segment { start: 2, len: 3, parent: None };
        let visibility = Visibility::segments(&[vec![text]], 5, None);
        let [q, k] = ["q", "k"].map(|name| random(name, [1, 4, 5, 6]));
        let device = burn::tensor::Device::flex();
        let v = Tensor::<1, Int>::arange(0..5, &device)
            .float()
            .reshape([1, 1, 5, 1])
            .expand([1, 4, 5, 6]);
        let out = attention(q, k, v, &visibility, 1.0, None);
        let out: Vec<f32> = out.narrow(1, 0, 1).narrow(3, 0, 1).into_data().iter().collect();
        assert_eq!(out[..3], [0.0, 1.0, 2.0]);
        assert!(out[3] > 2.0 && out[3] < 3.0 && out[4] > 2.0 && out[4] < 4.0);
    }
}
