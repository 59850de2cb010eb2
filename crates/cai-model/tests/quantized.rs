//! A base in 8 and 4 bits: its products, training on it, and what it does to a model's predictions.

use std::path::{Path, PathBuf};

use burn::{
    module::{Module, ModuleVisitor, Param},
    tensor::{DType, Device, Distribution, Tensor, TensorData},
};
use cai_data::seed::Seed;
use cai_model::{
    Result,
    decoder::{Decoder, Pass, TensorSource, Weight},
    export::save_folder,
    generate::{SamplingConfig, generate},
    lora::{LoraConfig, add_adapter},
    loss::{score_tokens, trained_hidden},
    model::{LanguageModel, LoadOptions},
    quantize::{self, Bits, QuantMatrix},
    source::{Quantize, WeightFiles},
    tokenizer::Example,
};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

const BITS: [Bits; 2] = [Bits::Eight, Bits::Four];

fn matrix(bits: Bits, size: [usize; 2]) -> (QuantMatrix, Tensor<2>) {
    let device = Device::flex();
    let values = Tensor::<2>::random(size, Distribution::Normal(0.0, 0.02), &device).into_data();
    let values: Vec<f32> = values.iter::<f32>().collect();
    let quantised = QuantMatrix::quantize(bits, size, |i, row| {
        row.copy_from_slice(&values[i * size[1]..(i + 1) * size[1]]);
        Ok::<(), ()>(())
    })
    .unwrap();
    let dense = Tensor::from_data(TensorData::new(quantised.rows(0, size[0]), size), &device);
    (quantised, dense)
}

fn close(ours: Tensor<2>, theirs: Tensor<2>, tolerance: f32) {
    assert_eq!(ours.dims(), theirs.dims());
    let scale = theirs.clone().abs().max().into_scalar::<f32>();
    let difference = (ours - theirs).abs().max().into_scalar::<f32>();
    assert!(scale > 0.0 && difference <= tolerance * scale, "{difference} of {scale}");
}

#[test]
fn products_are_those_of_the_dense_matrix() {
    let device = Device::flex();
    for bits in BITS {
        // Whole blocks, a short last block, less than a block; one tile and several.
        for size in [[96, 128], [7, 100], [33, 5], [9000, 1000]] {
            let (quantised, dense) = matrix(bits, size);
            for rows in [1, 3, 9] {
                let normal = Distribution::Normal(0.0, 1.0);
                let x = Tensor::<2>::random([rows, size[1]], normal, &device);
                let y = Tensor::<2>::random([rows, size[0]], normal, &device);
                let tracked = x.clone().autodiff().require_grad();
                let product = quantize::matmul_transposed(tracked.clone(), &quantised);
                close(product.clone().inner(), x.matmul(dense.clone().transpose()), 1e-5);
                let grads = (product * y.clone()).sum().backward();
                let expected = y.matmul(dense.clone());
                close(tracked.grad(&grads).unwrap(), expected, 1e-5);
            }
        }
    }
}

#[test]
fn codes_take_the_memory_they_promise_and_are_close() {
    for (bits, bytes, error) in [(Bits::Eight, 1.0625, 0.005), (Bits::Four, 0.5625, 0.1)] {
        let size = [64, 256];
        let values: Vec<f32> = (0..size[0] * size[1]).map(|i| (i as f32 * 0.37).sin()).collect();
        let quantised = QuantMatrix::quantize(bits, size, |i, row| {
            row.copy_from_slice(&values[i * size[1]..(i + 1) * size[1]]);
            Ok::<(), ()>(())
        })
        .unwrap();
        assert_eq!(quantised.num_bytes() as f64, bytes * values.len() as f64);
        let square = |x: f32| (x * x) as f64;
        let wrong: f64 =
            values.iter().zip(quantised.rows(0, size[0])).map(|(a, b)| square(a - b)).sum();
        let all: f64 = values.iter().map(|&a| square(a)).sum();
        assert!((wrong / all).sqrt() < error, "{bits:?}: {}", (wrong / all).sqrt());
    }
}

/// The weights of a folder as they are after quantisation, dense.
struct Rounded {
    files: WeightFiles,
    bits: Bits,
}

impl TensorSource for Rounded {
    fn tensor<const D: usize>(&mut self, name: &str, shape: [usize; D]) -> Result<Tensor<D>> {
        self.files.tensor(name, shape, DType::F32, &Device::flex())
    }

    fn weight(&mut self, name: &str, size: [usize; 2]) -> Result<Weight> {
        let table = name.contains("embed_tokens") || name.contains("lm_head");
        let bits = if table { Bits::Eight } else { self.bits };
        let codes = self.files.quantized(name, size, bits)?;
        let dense = TensorData::new(codes.rows(0, size[0]), size);
        Ok(Weight::dense(name, Tensor::from_data(dense, &Device::flex())))
    }
}

fn gradients(decoder: &Decoder, pass: &Pass) -> Vec<Vec<f32>> {
    struct Collect<'a>(&'a burn::tensor::Gradients, Vec<Vec<f32>>);
    impl ModuleVisitor for Collect<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let grad = param.val().grad(self.0);
            self.1.extend(grad.map(|grad| grad.into_data().iter::<f32>().collect()));
        }
    }
    let lora = LoraConfig { r: 4, ..LoraConfig::default() };
    let decoder = add_adapter(decoder.clone(), &lora, Seed(3)).unwrap().train();
    let ids: Vec<u32> = (0..23).map(|i| 3 + (i * 37) % 200).collect();
    let trained = (0..23).map(|i| i > 4).collect();
    let example = Example { ids, trained };
    let trained = trained_hidden(&decoder, &[&example], 0, pass);
    let scored = score_tokens(&decoder, &trained, true);
    let grads = scored.surrogate(&vec![-1.0; scored.logps.len()]).unwrap().backward();
    let mut collect = Collect(&grads, Vec::new());
    decoder.visit(&mut collect);
    assert!(!collect.1.is_empty());
    collect.1
}

fn quantized(dir: &Path, bits: Bits) -> LanguageModel {
    let quantize = Some(Quantize::To(bits));
    let options = LoadOptions { quantize, ..LoadOptions::default() };
    LanguageModel::load_with(dir, &options, &Device::flex()).unwrap()
}

#[test]
fn adapters_train_on_it_as_on_the_dense_rounded_weights() {
    for (name, bits) in [("gemma1", Bits::Eight), ("gemma2", Bits::Four), ("untied", Bits::Four)] {
        let dir = fixture(name);
        let model = quantized(&dir, bits);
        let mut source = Rounded { files: WeightFiles::open(&dir).unwrap(), bits };
        let dense = Decoder::load(&model.spec, &mut source).unwrap();
        let expected = gradients(&dense, &Pass::default());
        for recompute in [false, true] {
            let ours = gradients(&model.decoder, &Pass { recompute, ..Pass::default() });
            assert_eq!(ours.len(), expected.len());
            for (ours, expected) in ours.iter().zip(&expected) {
                let largest = expected.iter().fold(0f32, |max, x| max.max(x.abs()));
                for (a, b) in ours.iter().zip(expected) {
                    assert!(
                        (a - b).abs() <= 1e-4 * largest.max(1e-6),
                        "{name} {recompute}: {a} {b}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_quantised_model_generates_and_is_another_model() {
    let dir = fixture("gemma3");
    let device = Device::flex();
    let plain = LanguageModel::load(&dir, None, &device).unwrap();
    let prompt = vec![2, 40, 41, 42];
    let mut fingerprints = vec![plain.fingerprint.clone()];
    for bits in BITS {
        let model = quantized(&dir, bits);
        let sampling = SamplingConfig::greedy(4);
        let prompts = [prompt.clone()];
        let out = generate(&model, &prompts, &sampling, &[Seed(0)], 1, &mut |_| {}).unwrap();
        assert!(out[0].logprob.is_finite());
        assert_eq!(model.base_fingerprint, plain.base_fingerprint);
        fingerprints.push(model.fingerprint.clone());
        let out = tempfile::tempdir().unwrap();
        let error = save_folder(&model.decoder, None, DType::F32, out.path()).unwrap_err();
        assert!(error.to_string().contains("quantised"), "{error}");
    }
    fingerprints.sort();
    fingerprints.dedup();
    assert_eq!(fingerprints.len(), 3);
}
