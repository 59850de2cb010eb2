use std::path::Path;

use cai_model::model::LanguageModel;
use dpo_trainer::{DpoConfig, Prepared, Reference, ReferenceModel, pair_logps, prepare};

use crate::fixture::{adapted, base, config, fresh, pairs};

fn load(path: &Path, model: &LanguageModel, prepared: &Prepared, config: &DpoConfig) -> Reference {
    Reference::load_or_compute(path, model, prepared, config, "").unwrap()
}

/// The error of a file that is not of this run.
fn refused(path: &Path, model: &LanguageModel, prepared: &Prepared, config: &DpoConfig) -> String {
    let before = std::fs::read(path).unwrap();
    let error = Reference::load_or_compute(path, model, prepared, config, "").unwrap_err();
    assert_eq!(std::fs::read(path).unwrap(), before, "a refused file stays as it is");
    let message = error.to_string();
    assert!(message.starts_with(&format!("{}: ", path.display())), "{message}");
    assert!(message.contains("delete the folder"), "{message}");
    message
}

#[test]
fn kept_numbers_are_used_and_stale_ones_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("reference.json");
    let (model, config) = (fresh(), config());
    let prepared = prepare(&model.tokenizer, &pairs(), &config).unwrap();
    let first = load(&path, &model, &prepared, &config);
    assert_eq!((first.train.len(), first.held_out.len()), {
        (prepared.train.len(), prepared.held_out.len())
    });

    // A mark on the kept file shows that it is used.
    let mut marked = first.clone();
    marked.train[0].chosen = -1234.5;
    let mark = |reference: &Reference| {
        std::fs::write(&path, serde_json::to_vec(reference).unwrap()).unwrap();
    };
    mark(&marked);
    assert_eq!(load(&path, &model, &prepared, &config), marked);

    let fewer = prepare(&model.tokenizer, &pairs()[1..], &config).unwrap();
    let shared = DpoConfig { share_prompt: !config.share_prompt, ..config.clone() };
    let message = refused(&path, &adapted(), &prepared, &config);
    assert!(
        message.contains("was made with another reference model (base or adapter),"),
        "{message}"
    );
    let message = refused(&path, &model, &fewer, &config);
    assert!(message.contains("was made with other pairs,"), "{message}");
    let message = refused(&path, &model, &prepared, &shared);
    assert!(message.contains("was made with other settings (objective Dpo, "), "{message}");
    let message = refused(&path, &adapted(), &fewer, &config);
    assert!(message.contains("(base or adapter) and other pairs,"), "{message}");

    marked.train.pop();
    mark(&marked);
    let message = refused(&path, &model, &prepared, &config);
    assert!(message.contains("was made with another number of pairs,"), "{message}");
    std::fs::write(&path, "{\"sources\": ").unwrap();
    let message = refused(&path, &model, &prepared, &config);
    assert!(message.contains("is damaged (EOF"), "{message}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn the_base_as_reference_has_no_adapter() {
    let folder = tempfile::tempdir().unwrap();
    let (model, config) = (adapted(), config());
    let prepared = prepare(&model.tokenizer, &pairs(), &config).unwrap();
    let pad = model.tokenizer.pad();
    let alone = pair_logps(&base().decoder, &prepared.train, pad, &config, &mut |_| {}).unwrap();

    let start = load(&folder.path().join("start.json"), &model, &prepared, &config);
    let config = DpoConfig { reference: ReferenceModel::Base, ..config };
    let base = load(&folder.path().join("base.json"), &model, &prepared, &config);
    assert_eq!(base.train, alone);
    assert_ne!(start.train, alone);
    assert_ne!(start.sources.model, base.sources.model);
}
