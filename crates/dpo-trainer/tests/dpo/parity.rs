//! The same loss and metrics as TRL's DPOTrainer, from the records on.

use burn::module::Module;
use cai_data::seed::Seed;
use cai_train::{Metrics, Objective};
use dpo_trainer::{DpoConfig, DpoObjective, Prepared, Reference, ReferenceModel, prepare};
use serde_json::Value;

use crate::fixture::{adapted, config, folder, pair};

#[test]
fn loss_and_metrics_are_those_of_trl() {
    let text = std::fs::read_to_string(folder().join("reference.json")).unwrap();
    let trl = serde_json::from_str::<Value>(&text).unwrap()["dpo"].clone();
    // PAIRS of cai-model's tests/fixtures/make.py.
    let pairs = [
        pair("What is rust?", "A safe language.", "No idea."),
        pair("Name a colour of the sea.", "Blue.", "It is red, I think."),
        pair("Why?", "It is hot in the sun.", "Because."),
    ];
    let model = adapted();
    let config = DpoConfig { held_out: 0.0, reference: ReferenceModel::Base, ..config() };
    let Prepared { train, .. } = prepare(&model.tokenizer, &pairs, &config).unwrap();
    // Once as training pairs, once as held-out pairs.
    let prepared = Prepared { held_out: train.clone(), train, ..Prepared::default() };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("reference.json");
    let reference = Reference::load_or_compute(&path, &model, &prepared, &config, "").unwrap();
    for (i, logps) in reference.train.iter().enumerate() {
        close("ref_chosen", logps.chosen, &trl["logps"]["ref_chosen"][i]);
        close("ref_rejected", logps.rejected, &trl["logps"]["ref_rejected"][i]);
    }
    let objective = DpoObjective {
        train: &prepared.train,
        held_out: &prepared.held_out,
        reference: &reference,
        pad: model.tokenizer.pad(),
        eval_batch_size: 2,
        config: &config,
    };
    let step = objective.loss(&model.decoder.clone().train(), &[0, 1, 2], Seed(0)).unwrap();
    close("loss", step.loss / 3.0, &trl["losses"]["sigmoid"]["mean"]);
    assert_eq!(step.tokens as u64, trl["metrics"]["num_tokens"].as_u64().unwrap());
    compare(&step.metrics, &trl["metrics"]);

    let held_out = objective.evaluate(&model.decoder).unwrap();
    close("eval_loss", held_out.mean("loss").unwrap(), &trl["losses"]["sigmoid"]["mean"]);
    compare(&held_out, &trl["metrics"]);
}

fn compare(ours: &Metrics, trl: &Value) {
    for (name, value) in trl.as_object().unwrap().iter().filter(|(name, _)| *name != "num_tokens") {
        close(name, ours.mean(name).unwrap_or_else(|| panic!("no metric {name}")), value);
    }
}

fn close(name: &str, ours: f64, trl: &Value) {
    let trl = trl.as_f64().unwrap();
    assert!((ours - trl).abs() < 1e-4, "{name}: {ours}, TRL has {trl}");
}
