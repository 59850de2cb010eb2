//! The classifier from records to predictions, on a small synthetic task.

use std::path::Path;

use burn::tensor::Device;
use cai_data::record::LabelledText;
use cai_data::seed::Seed;
use cai_model::lora::LoraConfig;
use cai_train::TrainArgs;
use rand::RngExt;
use rand::seq::IndexedRandom;
use safety_classifier::assess::{AssessConfig, assess};
use safety_classifier::decoder::DecoderConfig;
use safety_classifier::explain::explain;
use safety_classifier::ngrams::BagConfig;
use safety_classifier::{
    Architecture, ClassifierConfig, Pooling, Report, SafetyClassifier, Task, WarmStart, evaluate,
    stream, train,
};

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

#[test]
fn an_encoder_can_begin_by_guessing_hidden_tokens() {
    let epochs = |number| TrainArgs { num_train_epochs: number, ..WarmStart::default().train };
    let warm_start = WarmStart { train: epochs(2.0), ..WarmStart::default() };
    let dir = tempfile::tempdir().unwrap();
    let config = ClassifierConfig { warm_start, ..config() };
    let report = train(&config, &records(600, 1), &Device::flex(), dir.path()).unwrap();
    assert!(report.held_out.accuracy > 0.95, "{}", report.markdown());
    assert!(dir.path().join("training/warm-start").is_dir());
    // Another start, another encoder.
    let plain = trained(tempfile::tempdir().unwrap().path());
    assert!(report.networks[0] != plain.networks[0]);
}

fn hybrid(dir: &Path) -> SafetyClassifier {
    let config = ClassifierConfig {
        architecture: Architecture::Hybrid,
        fold: true,
        encoders: 2,
        bags: 1,
        bag: BagConfig {
            width: 8,
            train: TrainArgs { num_train_epochs: 2.0, ..BagConfig::default().train },
            ..BagConfig::default()
        },
        pooling: Pooling::Attention,
        token_dropout: 0.1,
        label_smoothing: 0.05,
        prior_softening: 0.2,
        train: TrainArgs { num_train_epochs: 3.0, ..config().train },
        ..config()
    };
    train(&config, &records(600, 1), &Device::flex(), dir).unwrap();
    SafetyClassifier::load(dir, &Device::flex()).unwrap()
}

#[test]
fn a_hybrid_predicts_files_survives_any_text_and_is_assessed() {
    let dir = tempfile::tempdir().unwrap();
    let classifier = hybrid(dir.path());
    let new = records(90, 2);
    assert!(evaluate(&classifier, &new, 5).unwrap().accuracy > 0.95);

    // Nothing a file can hold makes it fail.
    let long = "despise vermin ".repeat(70_000);
    let one_word = "x".repeat(1_000_000);
    let unusual = [
        "",
        " ",
        "\u{0}\u{1}\u{fffd}",
        &long,
        &one_word,
        "🙂🙂",
        "[PAD][CLS][SEP]",
        "&#x;&#999999999;&",
    ];
    for (text, prediction) in unusual.iter().zip(classifier.predict(&unusual).unwrap()) {
        let sum: f64 = prediction.probabilities.values().sum();
        assert!((sum - 1.0).abs() < 1e-9 && prediction.harm.is_finite(), "{:.20}", text);
    }
    assert!(classifier.predict(&[&long]).unwrap()[0].truncated);
    assert!(classifier.predict(&[]).unwrap().is_empty());

    // A file in, lines in the same order out; CSV and JSONL agree.
    let texts: Vec<&str> = new.iter().map(|record| record.text.as_str()).collect();
    let jsonl: String =
        texts.iter().map(|text| format!("{}\n", serde_json::json!({ "text": text }))).collect();
    let csv: String = std::iter::once("text\n".to_string())
        .chain(texts.iter().map(|text| format!("\"{text}\"\n")))
        .collect();
    let path = dir.path().join("texts.csv");
    std::fs::write(&path, csv).unwrap();
    let (mut from_jsonl, mut from_csv) = (Vec::new(), Vec::new());
    let lines = |output: &mut Vec<u8>| {
        stream::classify_lines(&classifier, jsonl.as_bytes(), "texts", output)
    };
    assert_eq!(lines(&mut from_jsonl).unwrap(), 90);
    assert_eq!(stream::classify_file(&classifier, &path, &mut from_csv).unwrap(), 90);
    assert_eq!(from_jsonl, from_csv);
    let found: Vec<serde_json::Value> = String::from_utf8(from_jsonl)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    for (line, prediction) in found.iter().zip(classifier.predict(&texts).unwrap()) {
        assert_eq!(line["label"], prediction.label);
        assert_eq!(line["scores"]["safe"], prediction.probabilities["safe"]);
    }
    let bad = "{\"text\":\"fine\"}\n\n{\"txt\":1}\n";
    let mut output = Vec::new();
    let error = stream::classify_lines(&classifier, bad.as_bytes(), "bad.jsonl", &mut output);
    let error = error.unwrap_err().to_string();
    assert!(error.contains("bad.jsonl:3") && error.contains("text"), "{error}");
    assert_eq!(output.iter().filter(|&&byte| byte == b'\n').count(), 1);

    let baseline = vec!["safe".to_string(); new.len()];
    let config = AssessConfig { min_group_size: 5, ..AssessConfig::default() };
    let assessment = assess(&classifier, &new, Some(&baseline), &config).unwrap();
    assert!(assessment.comparison.as_ref().unwrap().accuracy.low > 0.0);
    assert!(assessment.robustness.attacks.len() == 6 && assessment.groups.len() == 2);
    assessment.save(dir.path(), None).unwrap();
    let page = std::fs::read_to_string(dir.path().join("report.html")).unwrap();
    assert!(page.contains("Should it be deployed?") && page.contains("hate_speech"));
    assert_eq!(page.matches("<svg").count(), 5);
    let error = assess(&classifier, &new, Some(&baseline[1..]), &config).unwrap_err();
    assert!(error.to_string().contains("89 predictions for 90 texts"), "{error}");

    let explanation = explain(&classifier, "the garden of hopeless worthless people").unwrap();
    assert_eq!(explanation.prediction.label, "self_harm");
    let share = |word: &str| explanation.words.iter().find(|(w, _)| w == word).unwrap().1;
    assert!(share("hopeless").max(share("worthless")) > share("of"), "{explanation:?}");
    assert!(explain(&classifier, "").unwrap().words.is_empty());
}

#[test]
fn rows_of_one_class_are_an_error_that_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let one: Vec<_> = records(60, 1).into_iter().filter(|record| record.label == "safe").collect();
    let error = train(&config(), &one, &Device::flex(), dir.path()).unwrap_err().to_string();
    assert!(error.contains("hate_speech, self_harm"), "{error}");
}

#[test]
fn a_text_can_have_several_labels() {
    let dir = tempfile::tempdir().unwrap();
    let config = ClassifierConfig { task: Task::MultiLabel, ..config() };
    // Every fourth harmful text is of both kinds.
    let both = |number, seed| -> Vec<LabelledText> {
        let mut records = records(number, seed);
        for i in (1..number).step_by(4) {
            let other = records[(i + 1) % number].clone();
            if records[i].label != "safe"
                && other.label != "safe"
                && other.label != records[i].label
            {
                records[i].text = format!("{} {}", records[i].text, other.text);
                records[i].label = format!("{}|{}", records[i].label, other.label);
            }
        }
        records
    };
    let new = both(120, 2);
    let error = train(&self::config(), &new, &Device::flex(), dir.path()).unwrap_err().to_string();
    assert!(error.contains("multi_label"), "{error}");

    let report = train(&config, &both(900, 1), &Device::flex(), dir.path()).unwrap();
    assert!(report.held_out.accuracy > 0.85 && report.held_out.confusion.is_empty());
    let classifier = SafetyClassifier::load(dir.path(), &Device::flex()).unwrap();
    let evaluation = evaluate(&classifier, &new, 5).unwrap();
    assert!(evaluation.macro_f1 > 0.9, "{evaluation:?}");
    let text = "they despise vermin and the hopeless cutting today";
    let prediction = &classifier.predict(&[text]).unwrap()[0];
    assert_eq!(prediction.labels, ["hate_speech", "self_harm"], "{prediction:?}");
    assert!((prediction.harm - (1.0 - prediction.probabilities["safe"])).abs() < 1e-12);
    let mut output = Vec::new();
    let line = format!("{}\n", serde_json::json!({ "text": text }));
    stream::classify_lines(&classifier, line.as_bytes(), "texts", &mut output).unwrap();
    let line: serde_json::Value = serde_json::from_slice(&output).unwrap();
    assert_eq!(line["labels"], serde_json::json!(["hate_speech", "self_harm"]));

    let mut wrong = both(60, 1);
    wrong[1].label = "safe|self_harm".into();
    let error = train(&config, &wrong, &Device::flex(), dir.path()).unwrap_err().to_string();
    assert!(error.contains("safe label beside others"), "{error}");
}

#[test]
fn a_head_on_gemma_is_trained_kept_and_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let base = format!("{}/../../artifacts/models/mini-gemma", env!("CARGO_MANIFEST_DIR"));
    let decoder = DecoderConfig {
        model: base,
        max_length: 32,
        lora: LoraConfig { r: 4, ..LoraConfig::default() },
        train: TrainArgs {
            learning_rate: 2e-3,
            num_train_epochs: 4.0,
            ..DecoderConfig::default().train
        },
        ..DecoderConfig::default()
    };
    let config = ClassifierConfig { architecture: Architecture::Decoder, decoder, ..config() };
    let report = train(&config, &records(240, 1), &Device::flex(), dir.path()).unwrap();
    assert!(report.held_out.accuracy > 0.9, "{}", report.markdown());
    for file in
        ["head.safetensors", "adapter/adapter_model.safetensors", "adapter/adapter_config.json"]
    {
        assert!(dir.path().join(file).is_file(), "{file}");
    }
    let classifier = SafetyClassifier::load(dir.path(), &Device::flex()).unwrap();
    let evaluation = evaluate(&classifier, &records(90, 2), 5).unwrap();
    assert!(evaluation.accuracy > 0.9, "{evaluation:?}");
    let prediction = &classifier.predict(&["music of the hopeless worthless"]).unwrap()[0];
    assert_eq!(prediction.label, "self_harm", "{prediction:?}");
    assert!(classifier.predict(&["", &"bread ".repeat(100)]).unwrap()[1].truncated);

    std::fs::remove_file(dir.path().join("head.safetensors")).unwrap();
    let error = SafetyClassifier::load(dir.path(), &Device::flex()).unwrap_err().to_string();
    assert!(error.contains("head.safetensors"), "{error}");
}
