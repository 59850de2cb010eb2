//! Model folders of any size with random weights, for benches and for tests of memory.

use std::{borrow::Cow, path::Path};

use burn::tensor::DType;
use cai_data::{
    atomic,
    seed::{Seed, gaussian},
};
use half::bf16;
use rayon::prelude::*;
use safetensors::Dtype;

use super::{LazyTensor, SHARD_BYTES, copy_companions, file_dtype, write_model};
use crate::{Result, decoder::DecoderSpec};

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
    spec: &DecoderSpec,
    dtype: DType,
    seed: Seed,
    tokenizer: &Path,
    dir: &Path,
) -> Result<()> {
    let dtype = file_dtype("the weights", dtype)?;
    // Norms that change nothing, biases that add nothing.
    let identity = 1.0 - spec.norm.offset as f32;
    let lazy = |(name, shape): (String, Vec<usize>)| {
        let (seed, count) = (seed.derive(&name), shape.iter().product());
        let constant = match shape.len() {
            1 if name.ends_with(".bias") => Some(0.0),
            1 => Some(identity),
            _ => None,
        };
        let bytes = move || {
            Cow::Owned(match constant {
                Some(value) => to_bytes(&vec![value; count], dtype),
                None => random_bytes(count, seed, dtype),
            })
        };
        LazyTensor { name, dtype, shape, bytes: Box::new(bytes) }
    };
    write_model(dir, spec.tensors().into_iter().map(lazy).collect(), SHARD_BYTES)?;
    atomic::write_json(&dir.join("config.json"), &spec.raw)?;
    copy_companions(tokenizer, dir)
}

fn random_bytes(count: usize, seed: Seed, dtype: Dtype) -> Vec<u8> {
    let width = dtype.bitsize() / 8;
    let mut bytes = vec![0; count * width];
    bytes.par_chunks_mut(CHUNK * width).enumerate().for_each(|(i, bytes)| {
        let draws = gaussian(bytes.len() / width, STD, seed.index(i as u64));
        bytes.copy_from_slice(&to_bytes(&draws, dtype));
    });
    bytes
}

fn to_bytes(values: &[f32], dtype: Dtype) -> Vec<u8> {
    match dtype {
        Dtype::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        _ => values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use serde_json::json;

    use super::*;
    use crate::source::{Held, load_folder};

    #[test]
    fn a_random_folder_loads() {
        let dir = tempfile::tempdir().unwrap();
        for (model_type, dtype) in [("gemma", DType::F32), ("gemma3_text", DType::BF16)] {
            let config = DecoderSpec::from_json(json!({
                "model_type": model_type, "vocab_size": 50, "hidden_size": 8,
                "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
                "num_key_value_heads": 1, "head_dim": 4,
            }))
            .unwrap();
            write_random_model(&config, dtype, Seed(1), dir.path(), dir.path()).unwrap();
            let config = DecoderSpec::read(dir.path()).unwrap();
            let held = Held { dtype: DType::F32, quantize: None, device: Device::flex() };
            let decoder = load_folder(dir.path(), &config, &held).unwrap();
            let spread = decoder.weights()[0].to_tensor().square().mean().sqrt();
            assert!((spread.into_scalar::<f32>() / STD as f32 - 1.0).abs() < 0.1);
        }
    }
}
