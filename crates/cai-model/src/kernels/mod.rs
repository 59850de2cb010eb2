//! The operations between matrix products, each behind one function so that a fused version can
//! take its place.

use burn::tensor::{
    Bool, DType, Tensor,
    activation::{sigmoid, softmax},
};

/// Gemma's RMSNorm over the last dimension: `x / √(mean(x²) + ε) · (1 + w)` in f32, cast back.
///
/// `x`: `[.., width]`, `weight`: `[width]`.
pub fn rms_norm<const D: usize>(x: Tensor<D>, weight: Tensor<1>, eps: f64) -> Tensor<D> {
    let dtype = x.dtype();
    let x = x.cast(DType::F32);
    let mean_square = x.clone().square().mean_dim(D - 1);
    let scale = weight.cast(DType::F32).add_scalar(1.0).unsqueeze::<D>();
    (x / mean_square.add_scalar(eps).sqrt() * scale).cast(dtype)
}

/// `gelu(gate) · up` with the tanh approximation of GELU (Hendrycks and Gimpel, arXiv 1606.08415):
/// `½x(1 + tanh z)` with `z = √(2/π)(x + 0.044715x³)`. Any shape, both the same.
///
/// Computed as `x·σ(2z)`, the same function: `½(1 + tanh z) = σ(2z)`, and exp is several times
/// faster than tanh on CPU.
pub fn geglu<const D: usize>(gate: Tensor<D>, up: Tensor<D>) -> Tensor<D> {
    let root = 2.0 * (2.0 / std::f64::consts::PI).sqrt();
    let slope = gate.clone().square().mul_scalar(0.044715 * root).add_scalar(root);
    let open = sigmoid(gate.clone() * slope);
    gate * open * up
}

/// Scaled dot-product attention with shared key/value heads.
///
/// `q`: `[batch, heads, queries, dim]`; `k`, `v`: `[batch, kv_heads, keys, dim]`; `mask`: true where
/// a query may not look, `[batch or 1, 1, queries, keys]`, at least one key visible in every row.
/// Returns `[batch, heads, queries, dim]`. The softmax is taken in f32.
pub fn attention(
    q: Tensor<4>,
    k: Tensor<4>,
    v: Tensor<4>,
    mask: Tensor<4, Bool>,
    scale: f64,
    softcap: Option<f64>,
) -> Tensor<4> {
    let [batch, heads, queries, dim] = q.dims();
    let [_, kv_heads, keys, _] = k.dims();
    let dtype = q.dtype();
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
