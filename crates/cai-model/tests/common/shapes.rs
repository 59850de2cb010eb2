//! Models of further shapes (`fixtures/shapes.py`), which have no tokenizer.

use std::{collections::HashMap, path::Path};

use burn::tensor::{DType, Tensor, TensorData};
use cai_model::{
    batch::TokenBatch,
    decoder::{Decoder, DecoderSpec, KvCache, Pass},
    export::{save_folder, write_safetensors},
    source::{Held, load_folder},
};

use super::{
    checks::{LOGITS, within},
    device, fixture,
    reference::{Array, largest_difference, read_safetensors},
};

/// Right-padded, left-padded, through a cache, and after a round trip through a folder.
pub fn logits(name: &str) {
    let dir = fixture("shapes").join(name);
    let decoder = read(&dir);
    within(name, right(&dir, &decoder), LOGITS);
    within(name, left(&dir, &decoder), LOGITS);
    within(name, cached(&dir, &decoder), LOGITS);
    let again = tempfile::tempdir().unwrap();
    save_folder(&decoder, Some(&dir), DType::F32, again.path()).unwrap();
    within(name, right(&dir, &read(again.path())), LOGITS);
}

/// The model that also sees images, under the names that transformers 5 has in memory.
pub fn other_spelling() {
    let dir = fixture("shapes").join("gemma3_images");
    let other = tempfile::tempdir().unwrap();
    std::fs::copy(dir.join("config.json"), other.path().join("config.json")).unwrap();
    let renamed =
        read_safetensors(&dir.join("model.safetensors")).into_iter().map(|(name, array)| {
            let name = match name.strip_prefix("language_model.model.") {
                Some(rest) => format!("model.language_model.{rest}"),
                None => format!("model.{name}"),
            };
            let values: Vec<f32> = array.values.iter().map(|&x| x as f32).collect();
            (name, TensorData::new(values, array.shape))
        });
    let file = other.path().join("model.safetensors");
    write_safetensors(&file, renamed.collect(), HashMap::new()).unwrap();
    within("logits", right(&dir, &read(other.path())), LOGITS);
}

fn read(dir: &Path) -> Decoder {
    let spec = DecoderSpec::read(dir).unwrap();
    let held = Held { dtype: DType::F32, quantize: None, device: device() };
    load_folder(dir, &spec, &held).unwrap()
}

fn right(dir: &Path, decoder: &Decoder) -> f64 {
    let (rows, theirs) = rows(dir);
    let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
    let batch = TokenBatch::right(&rows, 0, &device());
    let hidden = decoder.hidden(&batch, &Pass::default());
    compare(decoder, hidden, &theirs, |row| (0, rows[row].len()))
}

fn left(dir: &Path, decoder: &Decoder) -> f64 {
    let (rows, theirs) = rows(dir);
    let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
    let batch = TokenBatch::left(&rows, 0, &device());
    let width = batch.width();
    let hidden = decoder.hidden(&batch, &Pass::default());
    compare(decoder, hidden, &theirs, |row| (width - rows[row].len(), rows[row].len()))
}

/// One token of each row, then the others behind it.
fn cached(dir: &Path, decoder: &Decoder) -> f64 {
    let (rows, theirs) = rows(dir);
    let all: Vec<usize> = (0..rows.len()).collect();
    let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
    let batch = TokenBatch::right(&rows, 0, &device());
    let mut cache = KvCache::new(decoder.spec(), rows.len(), batch.width());
    let mut read = |from: usize, tokens: usize| {
        let counts: Vec<usize> = rows.iter().map(|row| tokens.min(row.len() - from)).collect();
        let ids = batch.ids.clone().narrow(1, from, tokens);
        decoder.hidden_cached(ids, &all, &counts, &mut cache).unwrap()
    };
    let hidden = Tensor::cat(vec![read(0, 1), read(1, batch.width() - 1)], 1);
    compare(decoder, hidden, &theirs, |row| (0, rows[row].len()))
}

/// The token ids without pads, and their right-padded logits.
fn rows(dir: &Path) -> (Vec<Vec<u32>>, Array) {
    let mut tensors = read_safetensors(&dir.join("reference.safetensors"));
    let (ids, mask) = (&tensors["input_ids"], &tensors["attention_mask"]);
    let row = |i: usize| {
        let (ids, mask) = (ids.row(i).values, mask.row(i).values);
        ids.iter().zip(mask).filter(|(_, m)| *m == 1.0).map(|(&id, _)| id as u32).collect()
    };
    let rows = (0..ids.shape[0]).map(row).collect();
    (rows, tensors.remove("logits").unwrap())
}

/// The largest difference; `real` says for each row where its tokens begin and how many there are.
fn compare(
    decoder: &Decoder,
    hidden: Tensor<3>,
    theirs: &Array,
    real: impl Fn(usize) -> (usize, usize),
) -> f64 {
    let [rows, width, size] = hidden.dims();
    let mut largest = 0.0f64;
    for row in 0..rows {
        let logits = decoder.logits(hidden.clone().narrow(0, row, 1).reshape([width, size]));
        let vocabulary = logits.dims()[1];
        let logits: Vec<f64> = logits.into_data().iter::<f64>().collect();
        let (start, tokens) = real(row);
        let ours = &logits[start * vocabulary..][..tokens * vocabulary];
        let theirs = &theirs.row(row).values[..tokens * vocabulary];
        largest = largest.max(largest_difference(ours, theirs));
    }
    largest
}
