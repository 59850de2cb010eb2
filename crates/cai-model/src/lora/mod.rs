//! Low-rank adapters (Hu et al., arXiv 2106.09685) on the activation side, and PEFT folders.

mod adapter;
mod config;
mod folder;

pub use adapter::LoraAdapter;
pub use config::LoraConfig;
pub use folder::{ADAPTER_CONFIG, ADAPTER_WEIGHTS, load_adapter, save_adapter};

use burn::tensor::{Tensor, TensorData};
use cai_data::seed::Seed;

use crate::{
    Result,
    gemma::{DecoderLayer, Gemma, Linear, Weight},
};

/// Every projection that an adapter can stand on, with its name in the checkpoint.
pub(crate) fn projections(gemma: &mut Gemma) -> Vec<(String, &mut Linear)> {
    gemma.model.layers.iter_mut().enumerate().flat_map(|(i, layer)| of_layer(i, layer)).collect()
}

fn of_layer(i: usize, layer: &mut DecoderLayer) -> [(String, &mut Linear); 7] {
    let DecoderLayer { self_attn, mlp, .. } = layer;
    let attention = |part: &str| format!("model.layers.{i}.self_attn.{part}");
    let feed_forward = |part: &str| format!("model.layers.{i}.mlp.{part}");
    [
        (attention("q_proj"), &mut self_attn.q_proj),
        (attention("k_proj"), &mut self_attn.k_proj),
        (attention("v_proj"), &mut self_attn.v_proj),
        (attention("o_proj"), &mut self_attn.o_proj),
        (feed_forward("gate_proj"), &mut mlp.gate_proj),
        (feed_forward("up_proj"), &mut mlp.up_proj),
        (feed_forward("down_proj"), &mut mlp.down_proj),
    ]
}

/// Puts a fresh trainable adapter on each targeted projection: A uniform in ±1/√in
/// (PEFT's Kaiming-uniform with a = √5), B zero, so that the model is unchanged at first.
///
/// # Errors
///
/// [`crate::Error::Input`] when no projection is targeted.
pub fn add_adapter(mut gemma: Gemma, config: &LoraConfig, seed: Seed) -> Result<Gemma> {
    config.check()?;
    for (name, linear) in projections(&mut gemma) {
        if config.targets(&name) {
            let [out, input] = linear.size();
            let device = linear.weight.device();
            let a = adapter::kaiming_uniform(config.r, input, seed.derive(&name), &device);
            let b = Tensor::zeros([out, config.r], &device);
            linear.lora = Some(LoraAdapter::new(&name, a, b, config.scale()).trainable());
        }
    }
    Ok(gemma)
}

/// The model with its adapter's factors marked for training, such as after
/// [`load_adapter`], which freezes them. `Module::train` then puts it on the autodiff device.
pub fn train_adapter(mut gemma: Gemma) -> Gemma {
    for (_, linear) in projections(&mut gemma) {
        linear.lora = linear.lora.take().map(LoraAdapter::trainable);
    }
    gemma
}

/// The base alone: the model with its adapter taken off.
pub fn without_adapter(mut gemma: Gemma) -> Gemma {
    for (_, linear) in projections(&mut gemma) {
        linear.lora = None;
    }
    gemma
}

/// Adds each adapter's update to its weight in f32 and removes the adapter. Returns the model and
/// the largest absolute weight change.
pub fn merge_adapter(mut gemma: Gemma) -> (Gemma, f64) {
    let mut largest = 0.0f64;
    for (name, linear) in projections(&mut gemma) {
        if let Some(lora) = linear.lora.take() {
            let base = linear.dense_weight();
            let dtype = base.dtype();
            let delta = lora.delta();
            largest = largest.max(delta.clone().abs().max().into_scalar::<f32>() as f64);
            let merged = base.cast(burn::tensor::DType::F32) + delta;
            linear.weight = Weight::dense(&format!("{name}.weight"), merged.cast(dtype));
        }
    }
    (gemma, largest)
}

/// The values of all factors, A before B, layer by layer.
pub(crate) fn factors(gemma: &Gemma) -> Vec<TensorData> {
    let mut gemma = gemma.clone();
    let of = |linear: &mut Linear| linear.lora.as_ref().map(|l| [l.lora_a.val(), l.lora_b.val()]);
    let adapters = projections(&mut gemma).into_iter().filter_map(|(_, linear)| of(linear));
    adapters.flatten().map(|factor| factor.inner().into_data()).collect()
}
