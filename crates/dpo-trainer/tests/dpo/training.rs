use std::{f64::consts::LN_2, fs, path::Path};

use cai_model::model::LanguageModel;
use dpo_trainer::{DpoConfig, DpoReport, ReferenceModel, pair_logps, prepare, run};

use crate::fixture::{adapted, base, config, fresh, pairs};

fn train(model: LanguageModel, config: &DpoConfig, dir: &Path) -> (LanguageModel, DpoReport) {
    run(model, &pairs(), config, dir, "dpo").unwrap()
}

#[test]
fn training_starts_at_ln_2_and_learns_the_preference() {
    for start in [fresh(), adapted()] {
        let folder = tempfile::tempdir().unwrap();
        let (_, report) = train(start, &config(), folder.path());
        assert!((report.first_loss.unwrap() - LN_2).abs() < 1e-6, "{:?}", report.first_loss);
        // The reference scores held-out pairs in the same batches: not even rounding differs.
        assert_eq!(report.eval.loss_start, Some(LN_2));
        assert_eq!(report.eval.accuracy_start, Some(0.0));
        assert!(report.eval.loss_end.unwrap() < 0.6, "{:?}", report.eval);
        assert!(report.eval.accuracy_end.unwrap() > 0.9, "{:?}", report.eval);
        assert!(report.eval.margin_end.unwrap() > 0.0);

        let sources: Vec<&String> = report.eval_by_source.keys().collect();
        assert_eq!(sources, ["feedback", "revision"]);
        let pairs = report.eval_by_source.values().map(|scores| scores.pairs).sum::<usize>();
        assert_eq!(pairs, report.held_out);
        let mean: f64 = report
            .eval_by_source
            .values()
            .map(|s| s.loss_end.unwrap() * s.pairs as f64 / pairs as f64)
            .sum();
        assert!((mean - report.eval.loss_end.unwrap()).abs() < 1e-12);
    }
}

#[test]
fn every_objective_learns_the_preference() {
    use dpo_trainer::PairObjective::*;
    for (objective, beta) in [(Kto, 0.1), (Orpo, 1.0), (Simpo, 2.0)] {
        let folder = tempfile::tempdir().unwrap();
        let config = DpoConfig { objective, beta, ..config() };
        let (_, report) = train(fresh(), &config, folder.path());
        let eval = &report.eval;
        assert!(eval.loss_end.unwrap() < 0.9 * eval.loss_start.unwrap(), "{objective:?} {eval:?}");
        assert!(eval.accuracy_end.unwrap() > 0.9, "{objective:?} {eval:?}");
        // Only KTO compares with a reference; a fresh adapter is the reference.
        assert_eq!(folder.path().join("reference.json").exists(), objective == Kto);
        if objective == Kto {
            assert!((eval.loss_start.unwrap() - 0.5).abs() < 1e-6);
            assert!(report.log_history.iter().any(|entry| entry.metrics.contains_key("eval_kl")));
        }
    }
}

#[test]
fn a_loss_that_sorts_has_no_place_for_labels_and_weights() {
    let folder = tempfile::tempdir().unwrap();
    let config = DpoConfig { loss_type: vec![dpo_trainer::LossType::Aot], ..config() };
    let mut pairs = pairs();
    pairs.iter_mut().for_each(|pair| pair.weight = Some(0.5));
    let error = run(fresh(), &pairs, &config, folder.path(), "dpo").err().unwrap().to_string();
    assert!(error.starts_with("loss_type: aot and aot_unpaired mix the pairs"), "{error}");
}

#[test]
fn a_shared_prompt_changes_nothing_but_rounding() {
    let pairs = prepare(&base().tokenizer, &pairs(), &config()).unwrap().train;
    let model = adapted();
    let logps = |share_prompt| {
        let config = DpoConfig { share_prompt, ..config() };
        pair_logps(&model.decoder, &pairs, model.tokenizer.pad(), &config, &mut |_| {}).unwrap()
    };
    for (shared, alone) in logps(true).iter().zip(logps(false)) {
        assert!((shared.chosen - alone.chosen).abs() < 1e-4, "{shared:?} {alone:?}");
        assert!((shared.rejected - alone.rejected).abs() < 1e-4, "{shared:?} {alone:?}");
    }
}

#[test]
fn soft_labels_start_at_ln_2_too_and_another_reference_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config();
    config.train.max_steps = 1;
    let mut pairs = pairs();
    pairs.iter_mut().for_each(|pair| pair.chosen_probability = Some(0.7));
    let (_, report) = run(adapted(), &pairs, &config, &folder.path().join("soft"), "dpo").unwrap();
    assert!((report.first_loss.unwrap() - LN_2).abs() < 1e-6);
    config.reference = ReferenceModel::Base;
    let (_, report) = run(adapted(), &pairs, &config, &folder.path().join("base"), "dpo").unwrap();
    assert!((report.first_loss.unwrap() - LN_2).abs() > 1e-4);
}

#[test]
fn the_written_adapter_is_the_returned_model() {
    let folder = tempfile::tempdir().unwrap();
    let (model, _) = train(fresh(), &config(), folder.path());
    let loaded = base().with_adapter(&folder.path().join("adapter")).unwrap();
    assert_eq!(model.fingerprint, loaded.fingerprint);
    let pairs = prepare(&model.tokenizer, &pairs(), &config()).unwrap().train;
    let score = |model: &LanguageModel| {
        pair_logps(&model.decoder, &pairs, model.tokenizer.pad(), &config(), &mut |_| {}).unwrap()
    };
    assert_eq!(score(&model), score(&loaded));
    assert_ne!(score(&model), score(&base()));
}

#[test]
fn a_resumed_run_ends_with_the_same_bytes() {
    let (whole, cut) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    train(adapted(), &config(), whole.path());
    // What a kill between the steps 4 and 8 leaves.
    let checkpoint = Path::new("checkpoint-4");
    fs::create_dir(cut.path().join(checkpoint)).unwrap();
    for entry in fs::read_dir(whole.path().join(checkpoint)).unwrap() {
        let name = checkpoint.join(entry.unwrap().file_name());
        fs::copy(whole.path().join(&name), cut.path().join(&name)).unwrap();
    }
    train(adapted(), &config(), cut.path());
    for file in [
        "adapter/adapter_model.safetensors",
        "adapter/adapter_config.json",
        "report.json",
        "reference.json",
        "checkpoint-12/optimizer.safetensors",
        "metrics.jsonl",
    ] {
        let read = |folder: &Path| fs::read(folder.join(file)).unwrap();
        assert!(read(whole.path()) == read(cut.path()), "{file} differs");
    }
}

#[test]
fn a_run_on_other_terms_is_not_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config();
    config.train.max_steps = 1;
    train(fresh(), &config, folder.path());
    config.beta = 0.2;
    for (model, config) in
        [(fresh(), &config), (adapted(), &DpoConfig { beta: 0.1, ..config.clone() })]
    {
        let error = run(model, &pairs(), config, folder.path(), "dpo").err().unwrap().to_string();
        assert!(error.contains("delete the folder"), "{error}");
    }
}

#[test]
fn a_model_that_cannot_be_trained_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let error = run(base(), &pairs(), &config(), folder.path(), "dpo").err().unwrap();
    assert!(error.to_string().contains("no adapter"), "{error}");
    let long = DpoConfig { max_length: 4096, ..config() };
    let error = run(fresh(), &pairs(), &long, folder.path(), "dpo").err().unwrap();
    assert!(error.to_string().contains("context is 128"), "{error}");
}
