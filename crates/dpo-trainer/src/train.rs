use std::path::Path;

use cai_data::{atomic, hash, record::PreferencePair};
use cai_model::model::LanguageModel;
use cai_train::{RunDir, TrainArgs, batches::Batches, train};

use crate::{
    DpoConfig, DpoObjective, DpoReport, Error, Pair, Prepared, Reference, Result, prepare,
};

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
    for pair in prepared.train.iter().chain(&prepared.held_out) {
        for example in [&pair.chosen, &pair.rejected] {
            model.tokenizer.check_ids(&example.ids, model.spec.vocab_size)?;
        }
    }
    check_sorted(&prepared, config)?;
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
        config,
    };
    // The loop itself compares its settings; the reference names the pairs.
    let start = model.content_fingerprint();
    let loss = loss_settings(config);
    let identity = format!("{start} {:?} {loss}", reference.sources);
    let run = RunDir::new(dir, hash::bytes(identity.as_bytes())).label(label).config(config);
    let (decoder, trained) = train(model.decoder.clone(), &objective, &config.train, &run)?;

    let adapter = dir.join("adapter");
    let model = LanguageModel { decoder, ..model };
    model.save_adapter(&adapter)?;
    let model = model.with_adapter(&adapter)?;
    let parameters = model.spec.num_parameters();
    let report = DpoReport::new(prepared, trained, parameters, config.reference, config.beta);
    atomic::write_json(&dir.join("report.json"), &report)?;
    Ok((model, report))
}

/// The settings of the loss, which decide the result, in words.
fn loss_settings(config: &DpoConfig) -> String {
    let without_loop = DpoConfig { train: TrainArgs::default(), ..config.clone() };
    format!("{without_loop:?}")
}

/// A loss that sorts the pairs of a batch has no place for weights and labels of single pairs.
fn check_sorted(prepared: &Prepared, config: &DpoConfig) -> Result<()> {
    let own = |pair: &&Pair| pair.weight != 1.0 || pair.chosen_probability != 1.0;
    let count = prepared.train.iter().filter(own).count();
    if count == 0 || !config.sorts_pairs() {
        return Ok(());
    }
    let reason = format!(
        "aot and aot_unpaired mix the pairs of a batch, but {count} pairs have a weight or a \
         chosen_probability; use another loss, or soft_labels: false and no weights"
    );
    Err(Error::Setting { key: "loss_type", reason })
}

fn check_context(model: &LanguageModel, max_length: usize) -> Result<()> {
    let context = model.spec.max_position_embeddings;
    if max_length <= context {
        return Ok(());
    }
    let reason =
        format!("is {max_length}, but the model's context is {context}; use {context} or less");
    Err(Error::Setting { key: "max_length", reason })
}

/// The training pairs that the first optimiser step sees, in order.
///
/// # Errors
///
/// When there is none.
pub fn first_batch(prepared: &Prepared, config: &DpoConfig) -> Result<Vec<usize>> {
    let longer = |pair: &Pair| pair.chosen.ids.len().max(pair.rejected.ids.len());
    let lengths = prepared.train.iter().map(longer).collect();
    Ok(Batches::new(lengths, &config.train)?.step(0).concat())
}
