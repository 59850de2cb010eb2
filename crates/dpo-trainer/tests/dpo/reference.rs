use std::path::Path;

use cai_model::model::LanguageModel;
use dpo_trainer::{DpoConfig, Prepared, Reference, ReferenceModel, pair_logps, prepare};

use crate::fixture::{adapted, base, config, fresh, pairs};

fn load(path: &Path, model: &LanguageModel, prepared: &Prepared, config: &DpoConfig) -> Reference {
    Reference::load_or_compute(path, model, prepared, config, "").unwrap()
}

#[test]
fn kept_numbers_are_used_and_stale_ones_never() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("reference.json");
    let (model, config) = (fresh(), config());
    let prepared = prepare(&model.tokenizer, &pairs(), &config).unwrap();
    let first = load(&path, &model, &prepared, &config);
    assert_eq!((first.train.len(), first.held_out.len()), {
        (prepared.train.len(), prepared.held_out.len())
    });

    // A mark on the kept file shows whether it is used.
    let mut marked = first.clone();
    marked.train[0].chosen = -1234.5;
    let mark = |reference: &Reference| {
        std::fs::write(&path, serde_json::to_vec(reference).unwrap()).unwrap();
    };
    mark(&marked);
    assert_eq!(load(&path, &model, &prepared, &config), marked);

    // Another adapter, other pairs, too few numbers, a damaged file.
    let other = load(&path, &adapted(), &prepared, &config);
    assert_ne!(other.sources.model, marked.sources.model);
    assert_eq!(other.sources.pairs, marked.sources.pairs);
    assert_ne!(other.train[0], first.train[0]);
    mark(&marked);
    let fewer = prepare(&model.tokenizer, &pairs()[1..], &config).unwrap();
    let of_fewer = load(&path, &model, &fewer, &config);
    assert_ne!(of_fewer.sources.pairs, first.sources.pairs);
    assert_eq!(of_fewer.sources.model, first.sources.model);
    mark(&marked);
    let alone = DpoConfig { share_prompt: false, ..config.clone() };
    let of_alone = load(&path, &model, &prepared, &alone);
    assert_ne!(of_alone.sources.settings, first.sources.settings);
    assert_ne!(of_alone.train[0].chosen, -1234.5);
    marked.train.pop();
    mark(&marked);
    assert_eq!(load(&path, &model, &prepared, &config), first);
    std::fs::write(&path, "{\"fingerprint\": ").unwrap();
    assert_eq!(load(&path, &model, &prepared, &config), first);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn the_base_as_reference_has_no_adapter() {
    let folder = tempfile::tempdir().unwrap();
    let (model, config) = (adapted(), config());
    let prepared = prepare(&model.tokenizer, &pairs(), &config).unwrap();
    let pad = model.tokenizer.pad();
    let alone = pair_logps(&base().gemma, &prepared.train, pad, &config, &mut |_| {}).unwrap();

    let start = load(&folder.path().join("start.json"), &model, &prepared, &config);
    let config = DpoConfig { reference: ReferenceModel::Base, ..config };
    let base = load(&folder.path().join("base.json"), &model, &prepared, &config);
    assert_eq!(base.train, alone);
    assert_ne!(start.train, alone);
    assert_ne!(start.sources.model, base.sources.model);
}
