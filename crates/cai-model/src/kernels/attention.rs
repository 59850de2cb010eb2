use burn::tensor::{DType, Tensor, activation::softmax};

use super::Visibility;

/// Scaled dot-product attention with shared key/value heads.
///
/// `q`: `[batch, heads, queries, dim]`; `k`, `v`: `[batch, kv_heads, keys, dim]`; `visibility`: the
/// keys that each query sees. Returns `[batch, heads, queries, dim]`. The softmax is taken in f32.
pub fn attention(
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
