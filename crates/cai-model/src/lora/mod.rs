//! Low-rank adapters (Hu et al., arXiv 2106.09685) on the activation side, with rsLoRA, DoRA and
//! dropout, and PEFT folders.

mod adapter;
mod adapters;
mod config;
mod dora;
mod dropout;
mod folder;
mod merge;
mod modules;
mod peft;

pub use adapter::LoraAdapter;
pub use adapters::Adapters;
pub use config::LoraConfig;
pub use dora::Dora;
pub use folder::{ADAPTER_CONFIG, ADAPTER_WEIGHTS, load_adapter, save_adapter};
pub use merge::{WeightChange, largest_change, merge_adapter, prompt_logits};
pub use modules::{Layers, Modules, Patterns};

use burn::tensor::{Tensor, TensorData};
use cai_data::seed::Seed;

use crate::{
    Error, Result,
    gemma::{DecoderLayer, Gemma, Linear},
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
/// (PEFT's Kaiming-uniform with a = √5), B zero, DoRA's magnitude that of the weight, so that the
/// model is unchanged at first.
///
/// # Errors
///
/// [`crate::Error::Input`] when no projection is targeted.
pub fn add_adapter(mut gemma: Gemma, config: &LoraConfig, seed: Seed) -> Result<Gemma> {
    config.check()?;
    let device = gemma.head().device();
    let mut count = 0;
    for (name, linear) in projections(&mut gemma) {
        linear.lora = None;
        if config.targets(&name) {
            let ([out, input], rank) = (linear.size(), config.rank(&name));
            let a = adapter::kaiming_uniform(rank, input, seed.derive(&name), &device);
            let b = Tensor::zeros([out, rank], &device);
            let dora = config.use_dora.then(|| Dora::new(&name, linear, None));
            let (scale, dropout) = (config.scale(&name), config.lora_dropout);
            let lora = LoraAdapter::new(&name, [a, b], dora, scale, dropout);
            linear.lora = Some(lora.trainable());
            count += 1;
        }
    }
    match count {
        0 => Err(no_target()),
        _ => Ok(gemma),
    }
}

pub(super) fn no_target() -> Error {
    Error::Input(
        "lora.target_modules, exclude_modules and layers_to_transform together leave no projection \
         of this model"
            .into(),
    )
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

/// The values of all that is trained, layer by layer: A, B, DoRA's magnitude.
pub(crate) fn factors(gemma: &Gemma) -> Vec<TensorData> {
    let mut gemma = gemma.clone();
    let adapters =
        projections(&mut gemma).into_iter().filter_map(|(_, linear)| linear.lora.as_ref());
    adapters.flat_map(LoraAdapter::tensors).map(|(_, values)| values).collect()
}

#[cfg(test)]
mod tests;
