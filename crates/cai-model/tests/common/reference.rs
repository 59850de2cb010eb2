//! A model folder with the numbers that Hugging Face's libraries computed from it.

use std::{
    collections::BTreeMap,
    ops::Range,
    path::{Path, PathBuf},
};

use cai_model::{model::LanguageModel, tokenizer::Example};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use super::device;

/// One folder: `reference.json`, `reference.safetensors`, and what the model is loaded from.
pub struct Reference {
    /// The model folder; its PEFT adapter is in `adapter/`.
    pub dir: PathBuf,
    /// Everything that is not a tensor.
    pub json: Value,
    tensors: BTreeMap<String, Array>,
}

/// A tensor of the reference, integers as f64 too.
#[derive(Clone, Debug)]
pub struct Array {
    /// Length of each dimension.
    pub shape: Vec<usize>,
    /// Values, last dimension fastest.
    pub values: Vec<f64>,
}

impl Array {
    /// Row `i` of the first dimension.
    pub fn row(&self, i: usize) -> Array {
        let size: usize = self.shape[1..].iter().product();
        let values = self.values[i * size..(i + 1) * size].to_vec();
        Array { shape: self.shape[1..].to_vec(), values }
    }
}

impl Reference {
    /// Reads the folder.
    pub fn read(dir: &Path) -> Self {
        let json = std::fs::read_to_string(dir.join("reference.json")).expect("reference.json");
        let json = serde_json::from_str(&json).expect("reference.json is JSON");
        let tensors = read_safetensors(&dir.join("reference.safetensors"));
        Self { dir: dir.into(), json, tensors }
    }

    /// The base model.
    pub fn base(&self) -> LanguageModel {
        LanguageModel::load(&self.dir, None, &device()).unwrap()
    }

    /// The base model with the adapter on it.
    pub fn adapted(&self) -> LanguageModel {
        self.base().with_adapter(&self.dir.join("adapter")).unwrap()
    }

    /// A tensor by name.
    pub fn tensor(&self, name: &str) -> &Array {
        self.tensors.get(name).unwrap_or_else(|| panic!("no tensor {name} in the reference"))
    }

    /// The tensors whose names begin with `prefix`, by the rest of their names.
    pub fn tensors_under(&self, prefix: &str) -> BTreeMap<&str, &Array> {
        let under = |(name, array)| Some((str::strip_prefix(name, prefix)?, array));
        self.tensors.iter().map(|(n, a)| (n.as_str(), a)).filter_map(under).collect()
    }

    /// Of how many consecutive vocabulary entries one logit is kept (1: all of them).
    pub fn logits_every(&self) -> usize {
        self.json["logits_every"].as_u64().unwrap_or(1) as usize
    }

    /// The rows of `NAME.input_ids` without their pads.
    pub fn sequences(&self, name: &str) -> Vec<Vec<u32>> {
        let ids = self.tensor(&format!("{name}.input_ids"));
        let real = self.real_tokens(name);
        real.into_iter()
            .enumerate()
            .map(|(i, real)| ids.row(i).values[real].iter().map(|&id| id as u32).collect())
            .collect()
    }

    /// Where the real tokens of each row stand, by `NAME.attention_mask`.
    pub fn real_tokens(&self, name: &str) -> Vec<Range<usize>> {
        let mask = self.tensor(&format!("{name}.attention_mask"));
        (0..mask.shape[0])
            .map(|i| {
                let row = mask.row(i).values;
                let start = row.iter().position(|&m| m == 1.0).expect("a token");
                let end = row.iter().rposition(|&m| m == 1.0).expect("a token") + 1;
                assert!(row[start..end].iter().all(|&m| m == 1.0), "{name}: a hole in row {i}");
                start..end
            })
            .collect()
    }

    /// TRL's SFT batch: trained are the tokens with a label.
    pub fn sft_examples(&self) -> Vec<Example> {
        self.examples("sft", self.tensor("sft.labels"), |label| label != -100.0)
    }

    /// TRL's DPO batch: all chosen, then all rejected.
    pub fn dpo_examples(&self) -> Vec<Example> {
        self.examples("dpo", self.tensor("dpo.completion_mask"), |mask| mask == 1.0)
    }

    fn examples(&self, name: &str, marks: &Array, trained: fn(f64) -> bool) -> Vec<Example> {
        let real = self.real_tokens(name);
        let rows = self.sequences(name).into_iter().zip(real).enumerate();
        rows.map(|(i, (ids, real))| {
            let trained = marks.row(i).values[real].iter().map(|&m| trained(m)).collect();
            Example { ids, trained }
        })
        .collect()
    }
}

/// Every tensor of a safetensors file (f32 or int64).
pub fn read_safetensors(path: &Path) -> BTreeMap<String, Array> {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let array = |name: &str| {
        let view = file.tensor(name).expect("a listed tensor");
        let values = match view.dtype() {
            Dtype::F32 => {
                view.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b) as f64).collect()
            }
            Dtype::I64 => {
                view.data().as_chunks().0.iter().map(|b| i64::from_le_bytes(*b) as f64).collect()
            }
            other => panic!("{name} is {other:?}"),
        };
        Array { shape: view.shape().to_vec(), values }
    };
    file.names().into_iter().map(|name| (name.to_string(), array(name))).collect()
}

/// A list of numbers of the reference.
pub fn numbers(value: &Value) -> Vec<f64> {
    let list = value.as_array().unwrap_or_else(|| panic!("{value} is not a list"));
    list.iter().map(|x| x.as_f64().expect("a number")).collect()
}

/// A list of token ids of the reference.
pub fn ids(value: &Value) -> Vec<u32> {
    numbers(value).into_iter().map(|id| id as u32).collect()
}

/// The largest absolute difference.
pub fn largest_difference(ours: &[f64], theirs: &[f64]) -> f64 {
    assert_eq!(ours.len(), theirs.len(), "different numbers of values");
    let pairs = ours.iter().zip(theirs);
    // NaN would vanish in max.
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, |max, d| if d <= max { max } else { d })
}
