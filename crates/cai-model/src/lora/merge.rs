use burn::tensor::{DType, Tensor};
use serde::Serialize;

use super::{dora::tiles, rows};
use crate::{
    Result,
    batch::TokenBatch,
    decoder::{Decoder, Linear, Pass, Weight},
    model::LanguageModel,
};

/// How much the entries of the weights change by merging, as they will be kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct WeightChange {
    /// The largest absolute change of one entry.
    pub largest: f64,
    /// The mean absolute change over all entries of the projections with an adapter.
    pub mean: f64,
    /// How many entries that are.
    pub entries: usize,
}

/// Adds each adapter's update to its weight in f32, puts trained rows in their places, and removes
/// the adapter; the result has the weight's type. Returns the model and how far its weights have moved.
///
/// The base is not changed: tensors are shared, and whoever kept the model from before still has it
/// bit for bit. That is how to unmerge; subtracting the update again would not be exact.
pub fn merge_adapter(mut decoder: Decoder) -> (Decoder, WeightChange) {
    let mut change = WeightChange::default();
    let mut total = 0.0;
    let mut add = |entries: usize, largest: f64, sum: f64| {
        change.largest = change.largest.max(largest);
        change.entries += entries;
        total += sum;
    };
    for (name, linear) in decoder.projections() {
        if let Some((merged, largest, sum)) = merged(linear) {
            add(merged.shape().num_elements(), largest, sum);
            linear.lora = None;
            linear.weight = Weight::dense(&format!("{name}.weight"), merged);
        }
    }
    rows::merge(&mut decoder, &mut add);
    change.mean = total / change.entries.max(1) as f64;
    (decoder, change)
}

/// The merged weight, and the largest and the sum of its entries' absolute changes.
fn merged(linear: &Linear) -> Option<(Tensor<2>, f64, f64)> {
    let lora = linear.lora.as_ref()?;
    let weight = linear.dense_weight();
    let dtype = weight.dtype();
    let gain = lora.row_gain(linear);
    let (mut largest, mut sum) = (0.0f64, 0.0);
    let rows = tiles(linear).map(|(start, rows)| {
        let before = weight.clone().narrow(0, start, rows).cast(DType::F32);
        let after = lora.merged(before.clone(), start, gain.as_ref()).cast(dtype);
        let change = (after.clone().cast(DType::F32) - before).abs();
        largest = largest.max(change.clone().max().into_scalar::<f32>() as f64);
        sum += change.sum().into_scalar::<f32>() as f64;
        after
    });
    let merged = Tensor::cat(rows.collect(), 0);
    Some((merged, largest, sum))
}

/// The logits after every token of `prompts`, each run alone: `[tokens, vocabulary]`.
///
/// # Errors
///
/// [`crate::Error::Input`] for an empty prompt.
pub fn prompt_logits(model: &LanguageModel, prompts: &[Vec<u32>]) -> Result<Vec<Tensor<2>>> {
    let logits = |ids: &Vec<u32>| {
        if ids.is_empty() {
            return Err(crate::Error::Input("a prompt without any token has no logits".into()));
        }
        let batch = TokenBatch::right(&[ids], model.tokenizer.pad(), &model.device);
        let hidden = model.decoder.hidden(&batch, &Pass::default());
        let [_, tokens, size] = hidden.dims();
        Ok(model.decoder.logits(hidden.reshape([tokens, size])))
    };
    prompts.iter().map(logits).collect()
}

/// The largest absolute difference between two models' logits on the same prompts.
pub fn largest_change(before: &[Tensor<2>], after: &[Tensor<2>]) -> f64 {
    let change = |(before, after): (&Tensor<2>, &Tensor<2>)| {
        (before.clone() - after.clone()).abs().max().into_scalar::<f32>() as f64
    };
    // NaN would vanish in max.
    before.iter().zip(after).map(change).fold(0.0, |max, d| if d <= max { max } else { d })
}
