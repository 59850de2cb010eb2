//! Rotary position embedding (Su et al., arXiv 2104.09864) in the rotate-half layout: number i
//! of a head's first half and number i of its second are one pair, turned by the angle
//! `position · θ^(−2i/d)`:
//!
//! ```text
//! (x₁, x₂) → (x₁c − x₂s, x₂c + x₁s)      backward: the turn by the opposite angle
//! ```

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
    tensor::{DType, Tensor},
};
use burn_flex::{FlexTensor, Layout};
use rayon::prelude::*;

use super::{
    cpu::{self, numbers, vectorized},
    fused,
};

/// Turns the pairs of `x` `[batch, heads, tokens, dim]` by angles whose cosines and sines are given,
/// `[batch or 1, 1, tokens, dim / 2]` in f32.
pub fn rotate(x: Tensor<4>, cos: Tensor<4>, sin: Tensor<4>) -> Tensor<4> {
    if fused([&x]) && fused([&cos, &sin]) {
        let [x, cos, sin] = [x, cos, sin].map(Tensor::into_dispatch);
        return Tensor::from_dispatch(<Dispatch as RopeOps>::rotate(x, cos, sin, 1.0));
    }
    reference(x, cos, sin)
}

/// The same in Burn's operations, for other devices and types.
fn reference(x: Tensor<4>, cos: Tensor<4>, sin: Tensor<4>) -> Tensor<4> {
    let [.., dim] = x.dims();
    let dtype = x.dtype();
    let x = x.cast(DType::F32);
    let x1 = x.clone().narrow(3, 0, dim / 2);
    let x2 = x.narrow(3, dim / 2, dim / 2);
    let turned = [x1.clone() * cos.clone() - x2.clone() * sin.clone(), x2 * cos + x1 * sin];
    Tensor::cat(turned.to_vec(), 3).cast(dtype)
}

#[backend_extension(Flex, Cube: cfg(feature = "cube"), Fusion: cfg(feature = "cube"), Autodiff)]
pub(super) trait RopeOps: Backend {
    /// Turns by the angles times `sign`.
    #[fusion(dtype = x, shape = x)]
    fn rotate(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        sign: f32,
    ) -> FloatTensor<Self>;
}

impl RopeOps for Flex {
    fn rotate(x: FlexTensor, cos: FlexTensor, sin: FlexTensor, sign: f32) -> FlexTensor {
        turn(x, &cpu::contiguous(cos), &cpu::contiguous(sin), sign)
    }
}

impl<B: RopeOps, C: CheckpointStrategy> RopeOps for Autodiff<B, C> {
    fn rotate(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        sign: f32,
    ) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        let [cos, sin] = [cos, sin].map(FloatTensor::<Self>::into_primitive);
        let out = B::rotate(x, cos.clone(), sin.clone(), sign);
        match Rotate.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((cos, sin, sign), out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }
}

#[derive(Debug)]
struct Rotate;

impl<B: RopeOps> Backward<B, 1> for Rotate {
    type State = (FloatTensor<B>, FloatTensor<B>, f32);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let (cos, sin, sign) = ops.state;
        if let [Some(node)] = &ops.parents {
            grads.register::<B>(node.id, B::rotate(grad, cos, sin, -sign));
        }
    }
}

/// Turns by the angles times `sign`; in place if nothing else holds `x`.
///
/// Works on numbers that lie as `[batch, tokens, heads, dim]`, as projections write them; others are
/// copied into that order.
fn turn(x: FlexTensor, cos: &FlexTensor, sin: &FlexTensor, sign: f32) -> FlexTensor {
    let mut x = cpu::contiguous(swap(x));
    let [batch, tokens, heads, dim] = x.layout().shape().dims();
    let half = dim / 2;
    let [rows, ..] = cos.layout().shape().dims::<4>();
    debug_assert!(rows == 1 || rows == batch);
    let (cos, sin) = (numbers(cos), numbers(sin));
    let width = heads * dim;
    let task = cpu::task_rows(width);
    cpu::numbers_mut(&mut x).par_chunks_mut(task * width).enumerate().for_each(|(i, x)| {
        for (row, x) in x.chunks_exact_mut(width).enumerate() {
            // Which angles: those of the row's own token, or of the token in every row.
            let angles = (i * task + row) % (rows * tokens) * half;
            turn_token(x, &cos[angles..angles + half], &sin[angles..angles + half], sign);
        }
    });
    swap(x)
}

vectorized! {
    /// All heads of one token.
    fn turn_token(heads: &mut [f32], cos: &[f32], sin: &[f32], sign: f32) {
        let half = cos.len();
        for head in heads.chunks_exact_mut(2 * half) {
            let (x1, x2) = head.split_at_mut(half);
            for (((x1, x2), &c), &s) in x1.iter_mut().zip(x2).zip(cos).zip(sin) {
                let (a, b, s) = (*x1, *x2, sign * s);
                *x1 = a * c - b * s;
                *x2 = b * c + a * s;
            }
        }
    }
}

/// `[batch, heads, tokens, dim]` as `[batch, tokens, heads, dim]` and back; nothing moves.
fn swap(x: FlexTensor) -> FlexTensor {
    let layout: Layout = x.layout().transpose(1, 2);
    x.with_layout(layout)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check, check_half, random};

    #[test]
    fn the_fused_version_is_the_reference() {
        let [batch, heads, tokens, dim] = [3, 2, 70, 10];
        for rows in [1, batch] {
            let angles = random("angles", [rows, 1, tokens, dim / 2]);
            let (cos, sin) = (angles.clone().cos(), angles.sin());
            let beside = |table: &Tensor<4>, x: &Tensor<4>| {
                table.clone().to_device(&x.device().without_autodiff())
            };
            let turned = |x: Tensor<4>| {
                let (cos, sin) = (beside(&cos, &x), beside(&sin, &x));
                rotate(x, cos, sin)
            };
            let expected = |x: Tensor<4>| {
                let (cos, sin) = (beside(&cos, &x), beside(&sin, &x));
                reference(x, cos, sin)
            };
            check([random("x", [batch, heads, tokens, dim])], |[x]| turned(x), |[x]| expected(x));
            check_half(
                [random("x", [batch, heads, tokens, dim])],
                |[x]| turned(x),
                |[x]| expected(x),
            );
            // As attention calls it: a view of what the projection wrote.
            let view = random("x", [batch, tokens, heads, dim]).swap_dims(1, 2);
            check([view], |[x]| turned(x), |[x]| expected(x));
        }
    }
}
