//! What the tests share: a tiny random Gemma with the numbers of TRL (cai-model's fixture, whose
//! `make.py` says how it was made), and pairs in a small language.

use std::path::{Path, PathBuf};

use cai_data::record::{Message, PreferencePair};
use cai_data::seed::Seed;
use cai_model::{lora::LoraConfig, model::LanguageModel};
use cai_train::{TrainArgs, progress};
use dpo_trainer::DpoConfig;

pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../cai-model/tests/fixtures/gemma1")
}

/// The base alone.
pub fn base() -> LanguageModel {
    progress::set_quiet(true);
    let device = cai_model::device::parse("cpu").unwrap();
    LanguageModel::load(&folder(), None, &device).unwrap()
}

/// The base with an adapter that changes it.
pub fn adapted() -> LanguageModel {
    base().with_adapter(&folder().join("adapter")).unwrap().train_adapter().unwrap()
}

/// The base with a fresh adapter.
pub fn fresh() -> LanguageModel {
    let lora = LoraConfig { r: 4, lora_alpha: 8.0, ..LoraConfig::default() };
    base().add_adapter(&lora, Seed(3)).unwrap()
}

pub fn pair(prompt: &str, chosen: &str, rejected: &str) -> PreferencePair {
    let [chosen, rejected] = [chosen, rejected].map(|text| vec![Message::assistant(text)]);
    PreferencePair::new(vec![Message::user(prompt)], chosen, rejected)
}

/// Pairs whose chosen completions are of one kind and whose rejected ones of another.
pub fn pairs() -> Vec<PreferencePair> {
    let pair = |i: usize| {
        let mut pair = pair(
            &format!("What is {i}?"),
            &format!("It is safe {}.", "so ".repeat(i % 3)),
            &format!("Because {} is hot.", i % 4),
        );
        let source = if i.is_multiple_of(2) { "feedback" } else { "revision" };
        pair.extra.insert("source".into(), source.into());
        pair
    };
    (0..40).map(pair).collect()
}

/// Settings that train fast.
pub fn config() -> DpoConfig {
    DpoConfig {
        max_length: 64,
        held_out: 0.25,
        train: TrainArgs {
            learning_rate: 2e-2,
            max_steps: 12,
            save_steps: 4,
            logging_steps: 3,
            ..DpoConfig::default().train
        },
        ..DpoConfig::default()
    }
}
