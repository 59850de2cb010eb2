//! The classifier from records to predictions, on a small synthetic task.

use std::path::Path;

use burn::tensor::Device;
use cai_data::record::LabelledText;
use cai_data::seed::Seed;
use cai_train::TrainArgs;
use rand::RngExt;
use rand::seq::IndexedRandom;
use safety_classifier::{ClassifierConfig, Report, SafetyClassifier, evaluate, train};

const LABELS: [&str; 3] = ["safe", "hate_speech", "self_harm"];
const WORDS: [[&str; 4]; 3] = [
    ["garden", "bread", "music", "river"],
    ["despise", "vermin", "inferior", "expel"],
    ["hopeless", "cutting", "worthless", "ending"],
];
const FILLERS: [&str; 8] = ["the", "of", "some", "today", "please", "they", "about", "with"];

/// Texts of fillers around two words that give the class away.
fn records(number: usize, seed: u64) -> Vec<LabelledText> {
    (0..number)
        .map(|i| {
            let mut rng = Seed(seed).index(i as u64).rng();
            let class = i % LABELS.len();
            let length = rng.random_range(3..12);
            let mut words: Vec<&str> =
                (0..length).filter_map(|_| FILLERS.choose(&mut rng)).copied().collect();
            for _ in 0..2 {
                let place = rng.random_range(0..=words.len());
                words.insert(place, WORDS[class][rng.random_range(0..4)]);
            }
            let mut record = LabelledText::new(words.join(" "), LABELS[class]);
            record.group = Some(if i % 2 == 0 { "a" } else { "b" }.into());
            record
        })
        .collect()
}

fn config() -> ClassifierConfig {
    ClassifierConfig {
        labels: LABELS.map(String::from).to_vec(),
        vocab_size: 320,
        max_length: 48,
        d_model: 32,
        n_layers: 1,
        n_heads: 2,
        d_ff: 64,
        dropout: 0.1,
        train: TrainArgs {
            learning_rate: 3e-3,
            num_train_epochs: 6.0,
            per_device_train_batch_size: 32,
            ..ClassifierConfig::default().train
        },
        ..Default::default()
    }
}

fn trained(dir: &Path) -> Report {
    train(&config(), &records(600, 1), &Device::flex(), dir).unwrap()
}

#[test]
fn it_learns_calibrates_and_answers_the_same_after_loading() {
    let dir = tempfile::tempdir().unwrap();
    let report = trained(dir.path());
    assert!(report.held_out.accuracy > 0.95, "{}", report.markdown());
    assert!(report.held_out.roc_auc.unwrap() > 0.95);
    assert!(report.held_out.groups.is_some());
    assert!(report.calibration.after.nll <= report.calibration.before.nll);
    assert!(report.markdown().contains("| self_harm |"));

    let classifier = SafetyClassifier::load(dir.path(), &Device::flex()).unwrap();
    let new = records(90, 2);
    let evaluation = evaluate(&classifier, &new, 5).unwrap();
    assert!(evaluation.accuracy > 0.95, "{evaluation:?}");

    let texts: Vec<&str> =
        new.iter().map(|record| record.text.as_str()).chain(["", "🙂"]).collect();
    let predictions = classifier.predict(&texts).unwrap();
    let again = SafetyClassifier::load(dir.path(), &Device::flex()).unwrap();
    assert_eq!(again.predict(&texts).unwrap(), predictions);
    assert_eq!(again.fingerprint(), classifier.fingerprint());
    for (text, together) in texts.iter().zip(&predictions) {
        let alone = &classifier.predict(&[text]).unwrap()[0];
        assert!((alone.harm - together.harm).abs() < 1e-5, "{text}: {alone:?} {together:?}");
        let sum: f64 = together.probabilities.values().sum();
        assert!((sum - 1.0).abs() < 1e-9);
        assert!((together.harm - (1.0 - together.probabilities["safe"])).abs() < 1e-9);
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let reports = dirs.each_ref().map(|dir| trained(dir.path()));
    // Once more over a complete run: it is taken up, not repeated.
    assert_eq!(trained(dirs[0].path()), reports[1]);
    let files = ["config.json", "model.safetensors", "tokenizer.json", "calibration.json"];
    for file in files.into_iter().chain(["report.json", "report.md"]) {
        let bytes = |dir: &tempfile::TempDir| std::fs::read(dir.path().join(file)).unwrap();
        assert!(bytes(&dirs[0]) == bytes(&dirs[1]), "{file} differs");
    }
}

#[test]
fn bad_records_are_errors_that_name_them() {
    let dir = tempfile::tempdir().unwrap();
    let error = |records: &[LabelledText]| {
        train(&config(), records, &Device::flex(), dir.path()).unwrap_err().to_string()
    };
    assert!(error(&[]).contains("no labelled texts to train on"));
    let mut some = records(30, 1);
    some.push(LabelledText::new("hello", "nice"));
    assert!(error(&some).contains("record 31: unknown label \"nice\""));
    let some: Vec<_> = records(30, 1).into_iter().filter(|r| r.label != "self_harm").collect();
    assert!(error(&some).contains("label self_harm"));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_damaged_folder_is_an_error_that_names_the_file() {
    let dir = tempfile::tempdir().unwrap();
    trained(dir.path());
    let error = || SafetyClassifier::load(dir.path(), &Device::flex()).unwrap_err().to_string();

    let weights = dir.path().join("model.safetensors");
    let bytes = std::fs::read(&weights).unwrap();
    std::fs::write(&weights, &bytes[..bytes.len() / 2]).unwrap();
    assert!(error().contains("model.safetensors"), "{}", error());
    std::fs::write(&weights, &bytes).unwrap();

    let config = dir.path().join("config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("\"d_ff\": 64", "\"d_ff\": 32")).unwrap();
    assert!(error().contains("model.safetensors") && error().contains("32"), "{}", error());
    std::fs::write(&config, text.replace("\"safe_label\": \"safe\"", "\"safe_label\": \"ok\""))
        .unwrap();
    assert!(error().contains("config.json"), "{}", error());
    std::fs::write(&config, text).unwrap();

    std::fs::remove_file(dir.path().join("calibration.json")).unwrap();
    assert!(error().contains("calibration.json"), "{}", error());
}
