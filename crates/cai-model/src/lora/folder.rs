//! PEFT adapter folders: adapter_config.json and adapter_model.safetensors.

use std::{collections::HashMap, path::Path};

use burn::tensor::DType;

use super::{
    Dora, LoraAdapter, LoraConfig, adapter::MAGNITUDE, no_target, rows, trained_tensors,
    without_adapter,
};
use crate::{
    Error, Result,
    decoder::Decoder,
    export::write_safetensors,
    source::{Spelling, WeightFiles},
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
    decoder: &Decoder,
    config: &LoraConfig,
    base: &str,
    base_fingerprint: &str,
    dir: &Path,
) -> Result<()> {
    let named = trained_tensors(decoder).into_iter();
    let tensors: Vec<_> = named.map(|(name, values)| (format!("{PREFIX}{name}"), values)).collect();
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
    mut decoder: Decoder,
    base_fingerprint: &str,
    dir: &Path,
) -> Result<(Decoder, LoraConfig)> {
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
    let device = decoder.head().weight.device();
    let spelling = Spelling::new(weights.unused());
    let misfit = |e: Error| fail(format!("does not fit this base: {e}"));
    decoder = without_adapter(decoder);
    // Settings speak of modules as the file's tensors do.
    let names: Vec<(String, String)> = decoder
        .projections()
        .into_iter()
        .map(|(name, _)| (spelling.spelled(&name), name))
        .collect();
    let config = config.translated(&names);
    let mut count = 0;
    for (name, linear) in decoder.projections() {
        if !config.targets(&name) {
            continue;
        }
        let tensor = |end: &str| spelling.of(&format!("{PREFIX}{name}.{end}"));
        let ([out, input], rank) = (linear.size(), config.rank(&name));
        let a = weights.tensor(&tensor("lora_A.weight"), [rank, input], DType::F32, &device);
        let b = weights.tensor(&tensor("lora_B.weight"), [out, rank], DType::F32, &device);
        let factors = [a.map_err(misfit)?, b.map_err(misfit)?];
        let dora = match config.use_dora {
            true => {
                let magnitude = weights.tensor(&tensor(MAGNITUDE), [out], DType::F32, &device);
                Some(Dora::new(&name, linear, Some(magnitude.map_err(misfit)?)))
            }
            false => None,
        };
        let (scale, dropout) = (config.scale(&name), config.lora_dropout);
        let lora = LoraAdapter::new(&name, factors, dora, scale, dropout);
        linear.lora = Some(lora.frozen(linear));
        count += 1;
    }
    rows::load(&mut decoder, &config, |name, shape| {
        let name = spelling.of(&format!("{PREFIX}{name}"));
        weights.tensor(&name, shape, DType::F32, &device)
    })
    .map_err(misfit)?;
    let left = weights.unused();
    let (other, left): (Vec<_>, Vec<_>) = left.into_iter().partition(|n| Spelling::is_not_text(n));
    if !other.is_empty() {
        let (count, path) = (other.len(), dir.display());
        tracing::info!("{path}: {count} tensors for images or sound are left out");
    }
    match left.first() {
        Some(name) => Err(fail(format!(
            "tensor '{name}' has no place in this base model with these settings"
        ))),
        None if count == 0 => Err(fail(no_target().to_string())),
        None => Ok((decoder, config)),
    }
}
