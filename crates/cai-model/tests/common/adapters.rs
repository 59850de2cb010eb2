//! Adapters of every kind that PEFT made (`fixtures/adapters.py`), against its numbers.

use std::{collections::HashMap, path::Path};

use burn::tensor::{DType, Tensor};
use cai_data::seed::Seed;
use cai_model::{
    decoder::Pass,
    export::{save_folder, write_safetensors},
    lora::{largest_change, merge_adapter, prompt_logits, train_adapter},
    model::LanguageModel,
};
use serde_json::Value;

use super::{
    checks::{LOGITS, LOSS, compare_gradients, right_padded, within},
    device, fixture,
    reference::{Reference, largest_difference, read_safetensors},
    training,
};

/// An adapter, and the reference folder of its base.
struct Adapter {
    own: Reference,
    base: Reference,
}

impl Adapter {
    fn read(name: &str) -> Self {
        let own = Reference::read(&fixture(name));
        let base = Reference::read(&fixture(own.json["base"].as_str().unwrap()));
        Self { own, base }
    }

    fn model(&self) -> LanguageModel {
        self.base.base().with_adapter(&self.own.dir).unwrap()
    }

    fn difference(&self, model: &LanguageModel) -> f64 {
        right_padded(&self.base, model, self.own.tensor("logits"))
    }
}

/// Logits with the adapter on.
pub fn logits(name: &str) -> f64 {
    let adapter = Adapter::read(name);
    within("logits", adapter.difference(&adapter.model()), LOGITS)
}

/// Loss, and its gradient with respect to all that is trained.
pub fn gradients(name: &str) -> f64 {
    let adapter = Adapter::read(name);
    let step = training::sft(&adapter.model(), &adapter.base.sft_examples(), &Pass::default());
    within("loss", (step.loss - adapter.own.tensor("loss").values[0]).abs(), LOSS);
    compare_gradients(adapter.own.tensors_under("grad."), &step)
}

/// Read and saved by us: the same tensors, and every key of PEFT's settings with its value.
pub fn round_trip(name: &str) -> f64 {
    let adapter = Adapter::read(name);
    let model = adapter.model();
    let dir = tempfile::tempdir().unwrap();
    model.save_adapter(dir.path()).unwrap();
    let tensors = |dir: &Path| read_safetensors(&dir.join("adapter_model.safetensors"));
    let (ours, theirs) = (tensors(dir.path()), tensors(&adapter.own.dir));
    assert!(ours.keys().eq(theirs.keys()), "other tensor names");
    for (name, array) in &theirs {
        assert_eq!(
            (&ours[name].shape, &ours[name].values),
            (&array.shape, &array.values),
            "{name}"
        );
    }
    let settings = |dir: &Path| -> Value {
        let text = std::fs::read_to_string(dir.join("adapter_config.json")).unwrap();
        let mut settings: Value = serde_json::from_str(&text).unwrap();
        settings["base_model_name_or_path"] = Value::Null;
        settings
    };
    assert_eq!(settings(dir.path()), settings(&adapter.own.dir));
    let again = adapter.base.base().with_adapter(dir.path()).unwrap();
    assert_eq!(again.adapter, model.adapter);
    within("logits with the adapter saved again", adapter.difference(&again), LOGITS)
}

/// As many numbers are trained as PEFT says.
pub fn parameters(name: &str) -> f64 {
    let adapter = Adapter::read(name);
    let model = adapter.model();
    let ours = model.adapter.as_ref().unwrap().num_parameters(&model.spec);
    assert_eq!(ours as u64, adapter.own.json["parameters"].as_u64().unwrap());
    0.0
}

/// Merged and written as a folder, the model says whether its head is tied as PEFT's does.
pub fn merged_head(name: &str) -> f64 {
    let adapter = Adapter::read(name);
    let (decoder, _) = merge_adapter(adapter.model().decoder);
    let tied = adapter.own.json["merged_tied"].as_bool().unwrap();
    assert_eq!(decoder.spec().tie_word_embeddings, tied);
    let dir = tempfile::tempdir().unwrap();
    save_folder(&decoder, Some(&adapter.base.dir), DType::F32, dir.path()).unwrap();
    let again = LanguageModel::load(dir.path(), None, &device()).unwrap();
    let theirs = adapter.own.tensor("merged.logits");
    within("logits of the merged folder", right_padded(&adapter.base, &again, theirs), LOGITS)
}

/// The merged model has the logits of the adapter, and the base is as it was.
pub fn merged(name: &str) -> f64 {
    let adapter = Adapter::read(name);
    let with_adapter = adapter.model();
    let (decoder, change) = merge_adapter(with_adapter.decoder.clone());
    assert!(change.largest > change.mean && change.mean > 0.0 && change.entries > 0, "{change:?}");
    let merged = LanguageModel { decoder, adapter: None, ..with_adapter.clone() };
    let prompts = adapter.base.sequences("right");
    let logits = |model: &LanguageModel| prompt_logits(model, &prompts).unwrap();
    let difference = largest_change(&logits(&with_adapter), &logits(&merged));
    within("logits of the merged model", difference, LOGITS);
    // What the adapter stands on is shared with what was merged, and has not moved.
    within("logits with the adapter", adapter.difference(&with_adapter), LOGITS);
    within("merged logits", adapter.difference(&merged), LOGITS)
}

/// What is computed once for a frozen adapter is the same as what training computes each time.
pub fn trained_further(name: &str) -> f64 {
    let adapter = Adapter::read(name);
    let frozen = adapter.model();
    let trainable = LanguageModel { decoder: train_adapter(frozen.decoder.clone()), ..frozen };
    within("logits of the trainable adapter", adapter.difference(&trainable), LOGITS)
}

/// Layers that are run again in the backward pass see the same magnitudes and dropout masks.
pub fn recomputed(name: &str) -> f64 {
    let adapter = Adapter::read(name);
    let examples = adapter.base.sft_examples();
    let step = |recompute| {
        let pass = Pass { seed: Some(Seed(9)), recompute, ..Pass::default() };
        training::sft(&adapter.model(), &examples, &pass)
    };
    let (once, again) = (step(false), step(true));
    // Off the autodiff device sums are rounded in another order.
    within("loss of recomputed layers", (once.loss - again.loss).abs(), 1e-5);
    let largest = |grad: &[f64]| grad.iter().fold(0.0f64, |max, x| max.max(x.abs()));
    let difference = |(name, grad): (&String, &Vec<f64>)| {
        largest_difference(grad, &again.grads[name]) / largest(grad)
    };
    let difference = once.grads.iter().map(difference).fold(0.0, f64::max);
    within("gradients of recomputed layers", difference, 1e-4)
}

/// Trains an adapter with the settings of each of PEFT's, and saves it in `out/NAME` with its logits
/// of the base's `right` batch in `logits.safetensors`, row by row.
pub fn save_all(out: &Path) {
    let folders = ["adapters", "rows"].map(fixture);
    for entry in folders.iter().flat_map(|folder| std::fs::read_dir(folder).unwrap()) {
        let name = entry.as_ref().unwrap().file_name();
        let kind = entry.unwrap().path().parent().unwrap().file_name().unwrap().to_owned();
        let path = Path::new(&kind).join(&name);
        let adapter = Adapter::read(path.to_str().unwrap());
        let config = adapter.model().adapter.unwrap();
        let mut model = adapter.base.base().add_adapter(&config, Seed(5)).unwrap();
        let examples = adapter.base.sft_examples();
        let losses = (0..20).map(|_| {
            let step = training::sft(&model, &examples, &Pass::default());
            model.decoder = training::descend(model.decoder.clone(), &step, 0.2);
            step.loss
        });
        let losses: Vec<f64> = losses.collect();
        println!("{name:?}: loss {:.4} to {:.4}", losses[0], losses[19]);
        model.save_adapter(&out.join(&name)).unwrap();
        let logits = prompt_logits(&model, &adapter.base.sequences("right")).unwrap();
        let named = |(i, logits): (usize, Tensor<2>)| (format!("logits.{i}"), logits.into_data());
        let logits = logits.into_iter().enumerate().map(named).collect();
        let file = out.join(&name).join("logits.safetensors");
        write_safetensors(&file, logits, HashMap::new()).unwrap();
    }
}
