//! The same numbers as TRL on other reference folders, made as cai-model's `tests/fixtures/make.py`
//! says, with more losses (`dpo.losses`, `cpo`) and three steps of AdamW (`dpo.adamw3`):
//!
//! `CAI_PARITY_DIR=folder-of-folders cargo nextest run -p dpo-trainer -p xtask --run-ignored only
//! references --no-capture`

use std::{collections::BTreeMap, path::Path};

use burn::module::Module;
use cai_data::seed::Seed;
use cai_model::{
    decoder::Decoder, lora::without_adapter, model::LanguageModel, tokenizer::Example,
};
use cai_train::{Objective, RunDir, TrainArgs, schedule::LrSchedulerType, train};
use dpo_trainer::{DpoConfig, DpoObjective, Pair, Reference, pair_logps};
use safetensors::SafeTensors;
use serde_json::{Value, json};

use crate::gradient::{Values, gradients};

#[test]
#[ignore = "needs CAI_PARITY_DIR, a folder of reference folders"]
fn references() {
    let Ok(root) = std::env::var("CAI_PARITY_DIR") else { return };
    let mut folders: Vec<_> = std::fs::read_dir(Path::new(&root))
        .expect("CAI_PARITY_DIR is a folder")
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("reference.json").exists())
        .collect();
    folders.sort();
    assert!(!folders.is_empty());
    for folder in folders {
        println!("{}", folder.display());
        check(&folder);
    }
}

fn check(folder: &Path) {
    let text = std::fs::read_to_string(folder.join("reference.json")).unwrap();
    let trl = serde_json::from_str::<Value>(&text).unwrap()["dpo"].clone();
    let tensors = read(&folder.join("reference.safetensors"));
    let device = cai_model::device::parse("cpu").unwrap();
    let model = LanguageModel::load(folder, Some(&folder.join("adapter")), &device).unwrap();
    let model = model.train_adapter().unwrap();
    let pairs = pairs(&trl);
    let base = without_adapter(model.decoder.clone()).valid();
    let pad = model.tokenizer.pad();
    let all: Vec<usize> = (0..pairs.len()).collect();
    let decoder = model.decoder.clone().train();

    let mut worst = (0.0f64, 0.0f64, 0.0f64);
    let cases = trl["losses"].as_object().unwrap().iter().map(|(name, case)| {
        let mut settings = case["settings"].clone();
        settings.as_object_mut().unwrap().entry("loss_type").or_insert(json!(name));
        (name.clone(), settings, case)
    });
    let free = trl["cpo"].as_object().unwrap().iter().map(|(name, case)| {
        let settings = match name.as_str() {
            "simpo" => json!({"objective": "simpo", "simpo_gamma": case["simpo_gamma"]}),
            loss_type => json!({"reference_free": true, "loss_type": loss_type}),
        };
        (format!("cpo {name}"), settings, case)
    });
    for (name, mut settings, case) in cases.chain(free) {
        settings["beta"] = trl["beta"].clone();
        let config: DpoConfig = serde_json::from_value(settings).unwrap();
        config.check().unwrap();
        let logps = match config.needs_reference() {
            true => pair_logps(&base, &pairs, pad, &config, &mut |_| {}).unwrap(),
            false => vec![Default::default(); pairs.len()],
        };
        let reference = Reference { sources: Default::default(), train: logps, held_out: vec![] };
        let objective = DpoObjective {
            train: &pairs,
            held_out: &[],
            reference: &reference,
            pad,
            eval_batch_size: 8,
            config: &config,
        };
        let loss = |items: &[usize]| objective.loss(&decoder, items, Seed(0)).unwrap();
        let whole = loss(&all);
        let count = pairs.len() as f64;
        let off = close(&name, whole.loss / count, &case["mean"]);
        worst.0 = worst.0.max(off);
        for (i, value) in case["per_pair"].as_array().into_iter().flatten().enumerate() {
            worst.0 = worst.0.max(close(&format!("{name} pair {i}"), loss(&[i]).loss, value));
        }
        let grads = gradients(&decoder, &whole.surrogate.div_scalar(count).backward());
        if let Some(norm) = case["grad_norm"].as_f64() {
            let squares = grads.values().flatten().map(|&x| (x as f64).powi(2));
            let off = (squares.sum::<f64>().sqrt() / norm - 1.0).abs();
            assert!(off < 1e-3, "{name}: gradient norm off by {off}");
            worst.1 = worst.1.max(off);
        }
        if name == "sigmoid" {
            worst.2 = compare(&grads, &tensors, "dpo.grad.", |largest| 1e-3 * largest);
            for (name, value) in trl["metrics"].as_object().unwrap() {
                if let Some(ours) = whole.metrics.mean(name) {
                    close(name, ours, value);
                }
            }
            three_steps(&decoder, &objective, &tensors, &trl);
        }
    }
    println!("  losses {:.1e}, gradient norms {:.1e}, gradients {:.1e}", worst.0, worst.1, worst.2);
}

/// Three steps of AdamW through the loop.
fn three_steps(
    decoder: &Decoder,
    objective: &DpoObjective,
    tensors: &BTreeMap<String, Vec<f32>>,
    trl: &Value,
) {
    let args = TrainArgs {
        learning_rate: 1e-3,
        lr_scheduler_type: LrSchedulerType::Constant,
        weight_decay: 0.01,
        max_grad_norm: 0.0,
        max_steps: 3,
        logging_steps: 1,
        per_device_train_batch_size: objective.train.len(),
        ..TrainArgs::default()
    };
    let run = tempfile::tempdir().unwrap();
    let (trained, report) =
        train(decoder.clone(), objective, &args, &RunDir::new(run.path(), "parity")).unwrap();
    for (entry, loss) in report.log_history.iter().zip(trl["adamw_losses"].as_array().unwrap()) {
        close("loss on the way", entry.metrics["loss"], loss);
    }
    let values: Values = cai_train::params::values(&trained.train())
        .unwrap()
        .into_iter()
        .map(|(name, data)| (name, data.iter::<f32>().collect()))
        .collect();
    let off = compare(&values, tensors, "dpo.adamw3.", |_| 1e-4);
    println!("  weights after three steps {off:.1e}");
}

fn pairs(trl: &Value) -> Vec<Pair> {
    let ids =
        |key: &str, i: usize| -> Vec<u32> { serde_json::from_value(trl[key][i].clone()).unwrap() };
    let count = trl["prompt_ids"].as_array().unwrap().len();
    let side = |key: &str, i: usize| {
        let (prompt, completion) = (ids("prompt_ids", i), ids(key, i));
        let mut trained = vec![false; prompt.len()];
        trained.resize(prompt.len() + completion.len(), true);
        Example { ids: [prompt, completion].concat(), trained }
    };
    let pair = |i| Pair {
        chosen: side("chosen_ids", i),
        rejected: side("rejected_ids", i),
        chosen_probability: 1.0,
        weight: 1.0,
        mismatched: None,
        source: None,
    };
    (0..count).map(pair).collect()
}

/// The largest difference between `ours`, by module path, and the tensors under `prefix`, by PEFT's
/// names, each at most `tolerance` of the tensor's largest value.
fn compare(
    ours: &Values,
    tensors: &BTreeMap<String, Vec<f32>>,
    prefix: &str,
    tolerance: fn(f64) -> f64,
) -> f64 {
    let mut worst = 0.0f64;
    let mut seen = 0;
    for (path, values) in ours {
        let (module, factor) = path.split_once(".lora.lora_").unwrap();
        let factor = factor.to_ascii_uppercase();
        let name = format!("{prefix}base_model.model.{module}.lora_{factor}.weight");
        let theirs = &tensors[&name];
        let largest = theirs.iter().fold(0.0f64, |max, &x| max.max((x as f64).abs()));
        for (&a, &b) in values.iter().zip(theirs) {
            let off = (a as f64 - b as f64).abs();
            assert!(off <= tolerance(largest), "{name}: {a} is not {b}");
            worst = worst.max(off);
        }
        seen += 1;
    }
    assert_eq!(seen, tensors.keys().filter(|name| name.starts_with(prefix)).count());
    worst
}

fn read(path: &Path) -> BTreeMap<String, Vec<f32>> {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let floats = file.tensors().into_iter().filter(|(name, _)| name.starts_with("dpo."));
    floats
        .filter(|(_, view)| view.dtype() == safetensors::Dtype::F32)
        .map(|(name, view)| {
            let (words, _) = view.data().as_chunks::<4>();
            (name, words.iter().map(|word| f32::from_le_bytes(*word)).collect())
        })
        .collect()
}

fn close(name: &str, ours: f64, trl: &Value) -> f64 {
    let trl = trl.as_f64().unwrap();
    let off = (ours - trl).abs() / trl.abs().max(1.0);
    assert!(off < 1e-4, "{name}: {ours}, TRL has {trl}");
    off
}
