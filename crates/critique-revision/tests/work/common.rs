//! A tiny model with random weights, a small constitution, prompts of the mini world.
#![allow(dead_code)]

use std::fs;
use std::path::Path;

use burn::tensor::{DType, Device, Tensor, TensorData};
use cai_data::constitution::Constitution;
use cai_data::record::LabelledText;
use cai_data::seed::Seed;
use cai_data::world::World;
use cai_model::decoder::{Decoder, DecoderSpec, RandomInit, TensorSource};
use cai_model::export::save_folder;
use cai_model::generate::SamplingConfig;
use cai_model::model::LanguageModel;
use cai_model::tokenizer::{GEMMA_CHAT_TEMPLATE, train_bpe};
use cai_train::TrainArgs;
use critique_revision::{CritiqueConfig, CritiquePrompt, FeedbackConfig};
use safety_classifier::{ClassifierConfig, SafetyClassifier};
use serde_json::json;
use tempfile::TempDir;

/// A Gemma of two narrow layers. Weights are wide enough that its choices are not all alike.
pub fn model(seed: u64) -> (TempDir, LanguageModel) {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new();
    let texts = world.red_team(200, Seed(1)).into_iter().map(|r| r.prompt[0].content.clone());
    train_bpe(texts, 500, GEMMA_CHAT_TEMPLATE, dir.path()).unwrap();
    let config = DecoderSpec::from_json(json!({
        "architectures": ["GemmaForCausalLM"], "bos_token_id": 2, "eos_token_id": 1,
        "head_dim": 8, "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 16,
        "intermediate_size": 32, "max_position_embeddings": 256, "model_type": "gemma",
        "num_attention_heads": 2, "num_hidden_layers": 2, "num_key_value_heads": 1,
        "pad_token_id": 0, "vocab_size": 500,
    }))
    .unwrap();
    let device = Device::flex();
    let mut source = Brief(RandomInit { seed: Seed(seed), std: 0.4, device: device.clone() });
    let decoder = Decoder::load(&config, &mut source).unwrap();
    save_folder(&decoder, None, DType::F32, dir.path()).unwrap();
    let model = LanguageModel::load(dir.path(), None, &device).unwrap();
    (dir, model)
}

/// Random weights of a model that often ends its turn.
struct Brief(RandomInit);

impl TensorSource for Brief {
    fn tensor<const D: usize>(
        &mut self,
        name: &str,
        shape: [usize; D],
    ) -> cai_model::Result<Tensor<D>> {
        let tensor = self.0.tensor(name, shape)?;
        if name != "model.embed_tokens.weight" {
            return Ok(tensor);
        }
        let mut values: Vec<f32> = tensor.into_data().iter::<f32>().collect();
        let end_of_turn = 6 * shape[1]..7 * shape[1];
        values[end_of_turn].iter_mut().for_each(|value| *value *= 5.0);
        Ok(Tensor::from_data(TensorData::new(values, shape), &self.0.device))
    }
}

/// A classifier that has seen a few texts: its numbers are its own, not good.
pub fn classifier() -> (TempDir, SafetyClassifier) {
    let dir = tempfile::tempdir().unwrap();
    let texts: Vec<LabelledText> = World::new().labelled(120, Seed(3));
    let config = ClassifierConfig {
        vocab_size: 300,
        max_length: 32,
        d_model: 8,
        n_layers: 1,
        n_heads: 1,
        d_ff: 8,
        train: TrainArgs {
            max_steps: 2,
            per_device_train_batch_size: 16,
            ..ClassifierConfig::default().train
        },
        ..ClassifierConfig::default()
    };
    safety_classifier::train(&config, &texts, &Device::flex(), dir.path()).unwrap();
    let classifier = SafetyClassifier::load(dir.path(), &Device::flex()).unwrap();
    (dir, classifier)
}

pub fn constitution() -> Constitution {
    let text = include_str!("../../../../configs/constitution.yaml");
    Constitution::parse(text, "constitution.yaml").unwrap()
}

pub fn prompts(count: usize) -> Vec<CritiquePrompt> {
    World::new().red_team(count, Seed(2)).into_iter().map(CritiquePrompt::from).collect()
}

fn sampling(temperature: f64) -> SamplingConfig {
    SamplingConfig { max_new_tokens: 12, temperature, ..SamplingConfig::default() }
}

pub fn critique_config() -> CritiqueConfig {
    CritiqueConfig {
        batch_size: 4,
        initial: sampling(1.0),
        critique: sampling(0.7),
        revision: sampling(0.7),
        stop_when_safe: false,
        ..CritiqueConfig::default()
    }
}

pub fn feedback_config() -> FeedbackConfig {
    FeedbackConfig {
        batch_size: 4,
        principles_per_pair: 2,
        sampling: sampling(1.0),
        ..FeedbackConfig::default()
    }
}

/// All files of a folder with their bytes, by name.
pub fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect();
    files.sort();
    files
}

/// The first `whole` lines of a finished file as the unfinished file of `to`, with `torn` bytes of
/// the next line: what a killed run leaves.
pub fn leave_unfinished(finished: &Path, to: &Path, whole: usize, torn: usize) {
    let bytes = fs::read(finished).unwrap();
    let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    let kept = [lines[..whole].concat(), lines[whole][..torn].to_vec()].concat();
    let name = format!("{}.part", finished.file_name().unwrap().to_str().unwrap());
    fs::create_dir_all(to).unwrap();
    fs::write(to.join(name), kept).unwrap();
}
