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
mod rows;

pub use adapter::LoraAdapter;
pub use adapters::Adapters;
pub use config::{LoraConfig, TokenIndices};
pub use dora::Dora;
pub use folder::{ADAPTER_CONFIG, ADAPTER_WEIGHTS, load_adapter, save_adapter};
pub use merge::{WeightChange, largest_change, merge_adapter, prompt_logits};
pub use modules::{Layers, Modules, Patterns};

use burn::tensor::{Tensor, TensorData};
use cai_data::seed::Seed;

use crate::{
    Error, Result,
    decoder::{Decoder, TrainedRows},
};

/// Puts a fresh trainable adapter on each targeted projection: A uniform in ±1/√in
/// (PEFT's Kaiming-uniform with a = √5), B zero, DoRA's magnitude that of the weight, and trained
/// rows that begin as they are, so that the model is unchanged at first.
///
/// # Errors
///
/// [`crate::Error::Input`] when no projection is targeted, or a token has no row.
pub fn add_adapter(mut decoder: Decoder, config: &LoraConfig, seed: Seed) -> Result<Decoder> {
    config.check()?;
    decoder = without_adapter(decoder);
    let device = decoder.head().weight.device();
    let mut count = 0;
    for (name, linear) in decoder.projections() {
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
    rows::add(&mut decoder, config)?;
    match count {
        0 => Err(no_target()),
        _ => Ok(decoder),
    }
}

pub(super) fn no_target() -> Error {
    Error::Input(
        "lora.target_modules, exclude_modules and layers_to_transform together leave no projection \
         of this model"
            .into(),
    )
}

/// The model with its adapter's factors and rows marked for training, such as after
/// [`load_adapter`], which freezes them. `Module::train` then puts it on the autodiff device.
pub fn train_adapter(mut decoder: Decoder) -> Decoder {
    for (_, linear) in decoder.projections() {
        linear.lora = linear.lora.take().map(LoraAdapter::trainable);
    }
    for rows in rows::slots(&mut decoder) {
        *rows = rows.take().map(TrainedRows::trainable);
    }
    decoder
}

/// The base alone: the model with its adapter taken off.
pub fn without_adapter(mut decoder: Decoder) -> Decoder {
    for (_, linear) in decoder.projections() {
        linear.lora = None;
    }
    for rows in rows::slots(&mut decoder) {
        *rows = None;
    }
    decoder
}

/// All that is trained, off the autodiff graph, under PEFT's names without their prefix: of each
/// projection A, B and DoRA's magnitude, then rows of embedding and head.
pub(crate) fn trained_tensors(decoder: &Decoder) -> Vec<(String, TensorData)> {
    let mut decoder = decoder.clone();
    let mut all = Vec::new();
    for (name, linear) in decoder.projections() {
        if let Some(lora) = &linear.lora {
            let named = lora.tensors().into_iter();
            all.extend(named.map(|(end, values)| (format!("{name}.{end}"), values)));
        }
    }
    all.extend(rows::tensors(&mut decoder));
    all
}

#[cfg(test)]
mod tests;
