use std::path::Path;

use cai_data::{atomic, hash, record::PreferencePair};
use cai_model::{gemma::Pass, model::LanguageModel};
use cai_train::{RunDir, train};

use crate::{DpoConfig, DpoObjective, DpoReport, Error, Reference, Result, prepare};

/// Trains the adapter on `model` to prefer the chosen completions and writes `adapter/` (PEFT),
/// `report.json`, `reference.json` and the loop's files into `dir`. Returns the model with the
/// adapter as it was written. Run again after an interruption, it resumes.
///
/// # Errors
///
/// A model without adapter, bad settings or pairs, nothing left to train on, and those of the loop.
pub fn run(
    model: LanguageModel,
    pairs: &[PreferencePair],
    config: &DpoConfig,
    dir: &Path,
    label: &str,
) -> Result<(LanguageModel, DpoReport)> {
    config.check()?;
    check_context(&model, config.max_length)?;
    let model = model.train_adapter()?;
    let prepared = prepare(&model.tokenizer, pairs, config)?;
    let reference = Reference::load_or_compute(
        &dir.join("reference.json"),
        &model,
        &prepared,
        config,
        &format!("{label} reference"),
    )?;
    let objective = DpoObjective {
        train: &prepared.train,
        held_out: &prepared.held_out,
        reference: &reference,
        pad: model.tokenizer.pad(),
        eval_batch_size: config.train.per_device_train_batch_size,
        loss_type: config.loss_type,
        beta: config.beta,
        pass: Pass { recompute: config.gradient_checkpointing, ..Pass::default() },
    };
    // The loop itself compares its settings; the reference names the pairs.
    let start = model.content_fingerprint();
    let loss = format!("{:?} {}", config.loss_type, config.beta);
    let identity = format!("{start} {} {loss}", reference.fingerprint);
    let run = RunDir::new(dir, hash::bytes(identity.as_bytes())).label(label);
    let (gemma, trained) = train(model.gemma.clone(), &objective, &config.train, &run)?;

    let adapter = dir.join("adapter");
    let model = LanguageModel { gemma, ..model };
    model.save_adapter(&adapter)?;
    let model = model.with_adapter(&adapter)?;
    let parameters = model.config.num_parameters();
    let report = DpoReport::new(prepared, trained, parameters, config.reference, config.beta);
    atomic::write_json(&dir.join("report.json"), &report)?;
    Ok((model, report))
}

fn check_context(model: &LanguageModel, max_length: usize) -> Result<()> {
    let context = model.config.max_position_embeddings;
    if max_length <= context {
        return Ok(());
    }
    let reason =
        format!("is {max_length}, but the model's context is {context}; use {context} or less");
    Err(Error::Setting { key: "max_length", reason })
}
