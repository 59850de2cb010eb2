use std::path::Path;

use cai_data::{atomic, hash, record::Conversation};
use cai_model::{gemma::Pass, model::LanguageModel};
use cai_train::{RunDir, train};

use crate::{Mode, Result, SftConfig, SftObjective, SftReport, prepare};

/// Trains the adapter on `model` (see [`LanguageModel::add_adapter`] and
/// [`LanguageModel::train_adapter`]) and writes `adapter/` (PEFT), `report.json` and the loop's
/// files into `dir`. Run again after an interruption, it resumes.
///
/// # Errors
///
/// Bad settings, nothing left to train on, and those of the loop.
pub fn run(
    model: LanguageModel,
    conversations: &[Conversation],
    config: &SftConfig,
    dir: &Path,
    label: &str,
) -> Result<(LanguageModel, SftReport)> {
    config.check()?;
    let prepared = prepare(&model.tokenizer, conversations, config)?;
    let objective = SftObjective {
        train: &prepared.train,
        held_out: &prepared.held_out,
        pad: model.tokenizer.pad(),
        eval_batch_size: config.train.per_device_train_batch_size,
        mode: Mode::Adapter,
        pass: Pass { recompute: config.gradient_checkpointing, ..Pass::default() },
    };
    // The loop itself compares its settings.
    let identity = format!("{} {}", model.content_fingerprint(), prepared.fingerprint());
    let run = RunDir::new(dir, hash::bytes(identity.as_bytes())).label(label);
    let (gemma, trained) = train(model.gemma.clone(), &objective, &config.train, &run)?;
    let adapter = dir.join("adapter");
    let model = LanguageModel { gemma, ..model };
    model.save_adapter(&adapter)?;
    let model = model.with_adapter(&adapter)?;
    let total = model.config.num_parameters();
    let report = SftReport {
        records: prepared.total,
        trained: prepared.train.len(),
        held_out: prepared.held_out.len(),
        left_out: prepared.left_out,
        truncated: prepared.truncated,
        trainable_parameters: trained.trainable_parameters,
        trainable_percent: 100.0 * trained.trainable_parameters as f64
            / (total + trained.trainable_parameters) as f64,
        steps: trained.steps,
        eval_loss_start: trained.first("eval_loss"),
        eval_loss_end: trained.last("eval_loss"),
        log_history: trained.log_history,
    };
    atomic::write_json(&dir.join("report.json"), &report)?;
    Ok((model, report))
}
