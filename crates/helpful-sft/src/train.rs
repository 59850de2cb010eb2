use std::path::Path;

use cai_data::{atomic, hash, record::Conversation};
use cai_model::{decoder::Pass, model::LanguageModel};
use cai_train::{RunDir, batches::Batches, train};

use crate::{Mode, Prepared, Result, SftConfig, SftObjective, SftReport, pack, prepare};

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
    for example in prepared.train.iter().chain(&prepared.held_out) {
        model.tokenizer.check_ids(&example.ids, model.spec.vocab_size)?;
    }
    let untold = model.untold_tokens();
    if model.adapter.as_ref().is_some_and(|adapter| !adapter.trains_rows(&untold)) {
        tracing::warn!("{label}: {}", model.untold_advice(&untold));
    }
    let rows = rows(&prepared, config);
    let objective = SftObjective {
        train: &prepared.train,
        weights: &prepared.weights,
        rows: &rows,
        held_out: &prepared.held_out,
        pad: model.tokenizer.pad(),
        eval_batch_size: config.train.per_device_train_batch_size,
        mode: Mode::Adapter,
        pass: Pass {
            recompute: config.gradient_checkpointing,
            neftune_alpha: config.neftune_noise_alpha.unwrap_or_default(),
            ..Pass::default()
        },
    };
    // The loop itself compares its settings.
    let (packing, noise) = (config.packing, config.neftune_noise_alpha);
    let identity =
        format!("{} {} {packing} {noise:?}", model.content_fingerprint(), prepared.fingerprint());
    let run = RunDir::new(dir, hash::bytes(identity.as_bytes())).label(label).config(config);
    let (decoder, trained) = train(model.decoder.clone(), &objective, &config.train, &run)?;
    let adapter = dir.join("adapter");
    let model = LanguageModel { decoder, ..model };
    model.save_adapter(&adapter)?;
    let model = model.with_adapter(&adapter)?;
    let total = model.spec.num_parameters();
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
        eval_loss_end: trained.at(trained.model_step, "eval_loss"),
        log_history: trained.log_history,
    };
    atomic::write_json(&dir.join("report.json"), &report)?;
    Ok((model, report))
}

/// The rows of training examples, if they share rows.
fn rows(prepared: &Prepared, config: &SftConfig) -> Vec<Vec<usize>> {
    if !config.packing {
        return Vec::new();
    }
    let lengths: Vec<usize> = prepared.train.iter().map(|example| example.ids.len()).collect();
    pack(&lengths, config.max_length)
}

/// The training examples that the first optimiser step sees, in the order of its rows.
///
/// # Errors
///
/// When there is none.
pub fn first_batch(prepared: &Prepared, config: &SftConfig) -> Result<Vec<usize>> {
    let lengths: Vec<usize> = prepared.train.iter().map(|example| example.ids.len()).collect();
    let rows = match config.packing {
        true => pack(&lengths, config.max_length),
        false => (0..lengths.len()).map(|i| vec![i]).collect(),
    };
    let tokens = |row: &Vec<usize>| row.iter().map(|&i| lengths[i]).sum();
    let mut batches = Batches::new(rows.iter().map(tokens).collect(), &config.train)?;
    Ok(batches.step(0).concat().into_iter().flat_map(|row| rows[row].clone()).collect())
}
