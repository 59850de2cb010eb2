use burn::tensor::{DType, Tensor};

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
