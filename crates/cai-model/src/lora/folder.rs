//! PEFT adapter folders: adapter_config.json and adapter_model.safetensors.

use std::{collections::HashMap, path::Path};

use burn::tensor::{DType, Tensor};

use super::{LoraAdapter, LoraConfig, projections};
use crate::{
    Error, Result,
    checkpoint::{WeightFiles, write_safetensors},
    gemma::Gemma,
};

/// Name of the settings file.
pub const ADAPTER_CONFIG: &str = "adapter_config.json";
/// Name of the weights file.
pub const ADAPTER_WEIGHTS: &str = "adapter_model.safetensors";
/// Key in the weights' metadata that names the base they were trained on (sha256).
const BASE: &str = "base_sha256";
const PREFIX: &str = "base_model.model.";

/// Writes the model's adapter as a PEFT folder, in f32. `base` is the path or hub name of the base
/// model, `base_fingerprint` the hash of its weights.
///
/// # Errors
///
/// [`Error::Input`] when the model has no adapter; I/O errors.
pub fn save_adapter(
    gemma: &Gemma,
    config: &LoraConfig,
    base: &str,
    base_fingerprint: &str,
    dir: &Path,
) -> Result<()> {
    let mut gemma = gemma.clone();
    let mut tensors = Vec::new();
    for (name, linear) in projections(&mut gemma) {
        if let Some(lora) = &linear.lora {
            for (part, factor) in [("A", &lora.lora_a), ("B", &lora.lora_b)] {
                let name = format!("{PREFIX}{name}.lora_{part}.weight");
                let values = factor.val().inner().cast(DType::F32).into_data();
                tensors.push((name, values));
            }
        }
    }
    if tensors.is_empty() {
        return Err(Error::Input("the model has no adapter to save".into()));
    }
    let metadata = HashMap::from([
        ("format".to_string(), "pt".to_string()),
        (BASE.to_string(), base_fingerprint.to_string()),
    ]);
    write_safetensors(&dir.join(ADAPTER_WEIGHTS), tensors, metadata)?;
    cai_data::atomic::write_json(&dir.join(ADAPTER_CONFIG), &config.to_peft(base))?;
    Ok(())
}

/// Puts the adapter of a PEFT folder on the model, frozen. `base_fingerprint` is compared with the
/// one the adapter was trained on, where the adapter says so.
///
/// # Errors
///
/// [`Error::Adapter`] when settings are not supported, when a tensor is missing, left over or of
/// another shape, or when the adapter belongs to another base.
pub fn load_adapter(
    mut gemma: Gemma,
    base_fingerprint: &str,
    dir: &Path,
) -> Result<(Gemma, LoraConfig)> {
    let fail = |reason: String| Error::Adapter { path: dir.into(), reason };
    if let Some(file) = [ADAPTER_CONFIG, ADAPTER_WEIGHTS].iter().find(|f| !dir.join(f).is_file()) {
        return Err(fail(format!(
            "it has no {file}; give the path of a whole PEFT adapter folder"
        )));
    }
    let path = dir.join(ADAPTER_CONFIG);
    let text = std::fs::read_to_string(&path)
        .map_err(|source| Error::Io { path: path.clone(), source })?;
    let value = serde_json::from_str(&text)
        .map_err(|e| Error::Config { path: path.clone(), reason: format!("not JSON: {e}") })?;
    let config = LoraConfig::from_peft(&value)
        .map_err(|reason| Error::Config { path: path.clone(), reason })?;

    let mut weights = WeightFiles::open_file(&dir.join(ADAPTER_WEIGHTS))?;
    match weights.metadata(BASE) {
        Some(base) if base != base_fingerprint => {
            return Err(fail(format!(
                "it was trained on another base model (weights {}…, these are {}…); \
                 load it on the base it was made for",
                &base[..base.len().min(12)],
                &base_fingerprint[..base_fingerprint.len().min(12)]
            )));
        }
        _ => {}
    }
    for (name, linear) in projections(&mut gemma) {
        if !config.targets(&name) {
            continue;
        }
        let [out, input] = linear.size();
        let device = linear.weight.device();
        let mut factor = |part: &str, shape: [usize; 2]| -> Result<Tensor<2>> {
            let tensor = format!("{PREFIX}{name}.lora_{part}.weight");
            weights
                .tensor(&tensor, shape, DType::F32, &device)
                .map_err(|e| fail(format!("does not fit this base: {e}")))
        };
        let a = factor("A", [config.r, input])?;
        let b = factor("B", [out, config.r])?;
        linear.lora = Some(LoraAdapter::new(&name, a, b, config.scale()));
    }
    match weights.unused().first() {
        Some(name) => Err(fail(format!("tensor '{name}' has no place in this base model"))),
        None => Ok((gemma, config)),
    }
}
