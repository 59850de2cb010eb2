//! Model folders of any size with random weights, for benches and for tests of memory.

use std::{borrow::Cow, path::Path};

use burn::tensor::{DType, Device, Tensor};
use cai_data::{
    atomic,
    seed::{Seed, gaussian},
};
use half::bf16;
use rayon::prelude::*;
use safetensors::Dtype;

use super::{LazyTensor, SHARD_BYTES, copy_companions, file_dtype, write_model};
use crate::{
    Result,
    gemma::{Gemma, GemmaConfig, TensorSource},
};

/// Numbers that come from one seed.
const CHUNK: usize = 1 << 20;
/// What transformers initialises matrices with.
const STD: f64 = 0.02;

/// Writes a model folder of this shape: matrices from N(0, 0.02²), norms zero, in f32 or bf16, and
/// the tokenizer's files of the model folder `tokenizer`. One tensor is in memory at a time.
///
/// # Errors
///
/// [`crate::Error::Input`] for another type; I/O errors.
pub fn write_random_model(
    config: &GemmaConfig,
    dtype: DType,
    seed: Seed,
    tokenizer: &Path,
    dir: &Path,
) -> Result<()> {
    let dtype = file_dtype("the weights", dtype)?;
    let mut shapes = Shapes(Vec::new());
    Gemma::load(config, &mut shapes)?;
    let lazy = |(name, shape): (String, Vec<usize>)| {
        let (seed, count) = (seed.derive(&name), shape.iter().product());
        let std = if shape.len() == 1 { 0.0 } else { STD };
        let bytes = move || Cow::Owned(random_bytes(count, std, seed, dtype));
        LazyTensor { name, dtype, shape, bytes: Box::new(bytes) }
    };
    write_model(dir, shapes.0.into_iter().map(lazy).collect(), SHARD_BYTES)?;
    atomic::write_json(&dir.join("config.json"), &config.raw)?;
    copy_companions(tokenizer, dir)
}

fn random_bytes(count: usize, std: f64, seed: Seed, dtype: Dtype) -> Vec<u8> {
    let width = dtype.bitsize() / 8;
    let mut bytes = vec![0; count * width];
    bytes.par_chunks_mut(CHUNK * width).enumerate().for_each(|(i, bytes)| {
        let draws = gaussian(bytes.len() / width, std, seed.index(i as u64));
        for (bytes, draw) in bytes.chunks_exact_mut(width).zip(draws) {
            match dtype {
                Dtype::F32 => bytes.copy_from_slice(&draw.to_le_bytes()),
                _ => bytes.copy_from_slice(&bf16::from_f32(draw).to_le_bytes()),
            }
        }
    });
    bytes
}

/// Notes the tensors that a model asks for.
struct Shapes(Vec<(String, Vec<usize>)>);

impl TensorSource for Shapes {
    fn tensor<const D: usize>(&mut self, name: &str, shape: [usize; D]) -> Result<Tensor<D>> {
        self.0.push((name.into(), shape.to_vec()));
        // One number, seen as many: nothing of the model is in memory.
        Ok(Tensor::<D>::zeros([1; D], &Device::flex()).expand(shape))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::checkpoint::load_gemma;

    #[test]
    fn a_random_folder_loads() {
        let dir = tempfile::tempdir().unwrap();
        for (model_type, dtype) in [("gemma", DType::F32), ("gemma3_text", DType::BF16)] {
            let config = GemmaConfig::from_json(json!({
                "model_type": model_type, "vocab_size": 50, "hidden_size": 8,
                "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
                "num_key_value_heads": 1, "head_dim": 4,
            }))
            .unwrap();
            write_random_model(&config, dtype, Seed(1), dir.path(), dir.path()).unwrap();
            let config = GemmaConfig::read(dir.path()).unwrap();
            let device = Device::flex();
            let gemma = load_gemma(dir.path(), &config, DType::F32, None, &device).unwrap();
            let spread = gemma.weights()[0].to_tensor().square().mean().sqrt();
            assert!((spread.into_scalar::<f32>() / STD as f32 - 1.0).abs() < 0.1);
        }
    }
}
