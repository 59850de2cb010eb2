//! One function per thing that must agree with Hugging Face. Each takes a reference folder and
//! returns the largest difference it saw, after asserting that it is small.

use std::collections::BTreeMap;

use burn::tensor::{DType, Tensor};
use cai_data::seed::Seed;
use cai_model::{
    batch::TokenBatch,
    decoder::{DecoderSpec, KvCache, Pass},
    export::save_folder,
    generate::{Finish, SamplingConfig, generate},
    model::LanguageModel,
    score::score,
    source::Spelling,
};
use serde_json::Value;

use super::{
    reference::{Array, Reference, ids, largest_difference, numbers, read_safetensors},
    tokenizers, training,
};

/// Of logits: f32 noise between equally valid evaluations is below 1e-5.
pub const LOGITS: f64 = 2e-4;
/// Of losses.
pub const LOSS: f64 = 1e-4;
/// Of a gradient tensor's largest entry.
const GRADIENT: f64 = 1e-3;

/// Asserts that a difference is within its tolerance and hands it on.
pub fn within(what: &str, difference: f64, tolerance: f64) -> f64 {
    println!("{what}: {difference:.1e}");
    assert!(difference <= tolerance, "{what}: off by {difference:e}, tolerance {tolerance:e}");
    difference
}

/// Text and chats become the same ids.
pub fn tokenizer(reference: &Reference) -> f64 {
    tokenizers::ids_agree(&reference.base().tokenizer, &reference.json);
    0.0
}

/// Logits of the right-padded batch of the base model.
pub fn right_padded_logits(reference: &Reference) -> f64 {
    let theirs = reference.tensor("right.logits");
    let difference = right_padded(reference, &reference.base(), theirs);
    within("right-padded logits", difference, LOGITS)
}

/// Logits of the right-padded batch with the adapter on.
pub fn adapter_logits(reference: &Reference) -> f64 {
    let theirs = reference.tensor("adapter.right.logits");
    let difference = right_padded(reference, &reference.adapted(), theirs);
    within("adapter logits", difference, LOGITS)
}

/// The largest difference of a model's logits of the right-padded batch from `theirs`.
pub fn right_padded(reference: &Reference, model: &LanguageModel, theirs: &Array) -> f64 {
    let rows = reference.sequences("right");
    let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
    let batch = TokenBatch::right(&rows, model.tokenizer.pad(), &model.device);
    let hidden = model.decoder.hidden(&batch, &Pass::default());
    compare_logits(reference, model, hidden, "right", theirs)
}

/// Logits of the left-padded batch.
pub fn left_padded_logits(reference: &Reference) -> f64 {
    let model = reference.base();
    let rows = reference.sequences("left");
    let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
    let batch = TokenBatch::left(&rows, model.tokenizer.pad(), &model.device);
    let hidden = model.decoder.hidden(&batch, &Pass::default());
    // The side of the pads does not change a token's logits.
    let theirs = reference.tensor("right.logits");
    let difference = compare_logits(reference, &model, hidden, "left", theirs);
    within("left-padded logits", difference, LOGITS)
}

/// Logits through the cache, as in generation: each row is read in two parts, shorter and longer ones
/// side by side.
pub fn cached_logits(reference: &Reference) -> f64 {
    let model = reference.base();
    let rows = reference.sequences("right");
    let parts: Vec<[&[u32]; 2]> =
        rows.iter().map(|ids| ids.split_at(ids.len() / 2).into()).collect();
    let width = rows.iter().map(Vec::len).max().unwrap();
    let mut cache = KvCache::new(&model.spec, rows.len(), width + 1);
    let mut hidden = vec![Vec::new(); rows.len()];
    for part in [0, 1] {
        let ids: Vec<&[u32]> = parts.iter().map(|parts| parts[part]).collect();
        let read = read(&model, &ids, &mut cache);
        for (row, (hidden, ids)) in hidden.iter_mut().zip(&ids).enumerate() {
            hidden.push(read.clone().narrow(0, row, 1).narrow(1, 0, ids.len()));
        }
    }
    let size = model.spec.hidden_size;
    let padded = hidden.into_iter().zip(&rows).map(|(mut parts, ids)| {
        parts.push(Tensor::zeros([1, width - ids.len(), size], &model.device));
        Tensor::cat(parts, 1)
    });
    let hidden = Tensor::cat(padded.collect(), 0);
    let difference =
        compare_logits(reference, &model, hidden, "right", reference.tensor("right.logits"));
    within("logits through the cache", difference, LOGITS)
}

/// Hidden states of the next tokens of each row of the cache.
fn read(model: &LanguageModel, ids: &[&[u32]], cache: &mut KvCache) -> Tensor<3> {
    let batch = TokenBatch::right(ids, model.tokenizer.pad(), &model.device);
    let rows: Vec<usize> = (0..ids.len()).collect();
    model.decoder.hidden_cached(batch.ids, &rows, &batch.lengths, cache).unwrap()
}

/// The largest difference between the logits of `hidden`, whose real tokens stand as in `batch`, and
/// `theirs`, which are right-padded.
fn compare_logits(
    reference: &Reference,
    model: &LanguageModel,
    hidden: Tensor<3>,
    batch: &str,
    theirs: &Array,
) -> f64 {
    let [_, width, size] = hidden.dims();
    let every = reference.logits_every();
    let mut largest = 0.0f64;
    for (row, real) in reference.real_tokens(batch).into_iter().enumerate() {
        let hidden = hidden.clone().narrow(0, row, 1).reshape([width, size]);
        let logits = model.decoder.logits(hidden).cast(DType::F32);
        let [_, vocabulary] = logits.dims();
        let logits: Vec<f64> = logits.into_data().iter::<f64>().collect();
        let theirs = theirs.row(row);
        for (token, at) in real.enumerate() {
            let ours = logits[at * vocabulary..][..vocabulary].iter().step_by(every).copied();
            let ours: Vec<f64> = ours.collect();
            largest = largest.max(largest_difference(&ours, &theirs.row(token).values));
        }
    }
    largest
}

/// Greedy continuations of a batch, of the base model and with the adapter on.
pub fn greedy_tokens(reference: &Reference) -> f64 {
    continues(reference, &reference.base(), "generation");
    continues(reference, &reference.adapted(), "adapter_generation");
    0.0
}

fn continues(reference: &Reference, model: &LanguageModel, name: &str) {
    let Some(theirs) = reference.json[name].as_array() else { panic!("no {name}") };
    let theirs: Vec<Vec<u32>> = theirs.iter().map(ids).collect();
    let prompts = reference.sequences("gen");
    let ours = cached_argmax(model, &prompts, theirs[0].len());
    assert_eq!(ours, theirs, "{name}");

    // The reference went on where `generate` stops.
    let stops = model.tokenizer.stop_ids();
    let sampling = SamplingConfig::greedy(theirs[0].len());
    let seeds = vec![Seed(0); prompts.len()];
    let mut done = 0;
    let generations =
        generate(model, &prompts, &sampling, &seeds, prompts.len(), &mut |n| done += n).unwrap();
    assert_eq!(done, prompts.len());
    for (generation, theirs) in generations.iter().zip(&theirs) {
        let stop = theirs.iter().position(|id| stops.contains(id));
        assert_eq!(generation.ids, theirs[..stop.unwrap_or(theirs.len())], "{name}");
        let finish = if stop.is_some() { Finish::Stop } else { Finish::Length };
        assert_eq!(generation.finish, finish);
    }
}

/// The most likely token, step by step, through the cache; nothing ends a row.
fn cached_argmax(model: &LanguageModel, prompts: &[Vec<u32>], steps: usize) -> Vec<Vec<u32>> {
    let longest = prompts.iter().map(Vec::len).max().unwrap();
    let mut cache = KvCache::new(&model.spec, prompts.len(), longest + steps);
    let mut next: Vec<Vec<u32>> = prompts.to_vec();
    let mut out = vec![Vec::new(); prompts.len()];
    for _ in 0..steps {
        let ids: Vec<&[u32]> = next.iter().map(Vec::as_slice).collect();
        let hidden = read(model, &ids, &mut cache);
        let size = model.spec.hidden_size;
        let last = ids.iter().enumerate().map(|(row, ids)| {
            hidden.clone().narrow(0, row, 1).narrow(1, ids.len() - 1, 1).reshape([1, size])
        });
        let logits = model.decoder.logits(Tensor::cat(last.collect(), 0));
        let best: Vec<u32> =
            logits.argmax(1).into_data().iter::<i64>().map(|id| id as u32).collect();
        for (row, &id) in out.iter_mut().zip(&best) {
            row.push(id);
        }
        next = best.chunks(1).map(<[u32]>::to_vec).collect();
    }
    out
}

/// TRL's SFT loss, with the adapter off and on.
pub fn sft_loss(reference: &Reference) -> f64 {
    let examples = reference.sft_examples();
    let tokens: usize = examples.iter().map(|e| e.trained.iter().filter(|&&t| t).count()).sum();
    assert_eq!(tokens as u64, reference.json["sft"]["tokens_in_loss"].as_u64().unwrap());
    let mean = |model: &LanguageModel| {
        let scores = score(model, &examples, 3, &mut |_| {}).unwrap();
        -scores.iter().map(|s| s.logprob).sum::<f64>() / tokens as f64
    };
    let ours = [mean(&reference.base()), mean(&reference.adapted())];
    let theirs = ["loss_base", "loss_adapter"].map(|k| reference.json["sft"][k].as_f64().unwrap());
    within("SFT loss", largest_difference(&ours, &theirs), LOSS)
}

/// Gradients of TRL's SFT loss with respect to the adapter.
pub fn sft_gradients(reference: &Reference) -> f64 {
    let step = training::sft(&reference.adapted(), &reference.sft_examples(), &Pass::default());
    let theirs = reference.json["sft"]["loss_adapter"].as_f64().unwrap();
    within("SFT loss in training", (step.loss - theirs).abs(), LOSS);
    compare_gradients(reference.tensors_under("sft.grad."), &step)
}

/// Log-probabilities of whole completions, policy (adapter on) and reference (off).
pub fn completion_logps(reference: &Reference) -> f64 {
    let logps = &reference.json["dpo"]["logps"];
    let both = |side: &str| -> Vec<f64> {
        let list = |half: &str| numbers(&logps[format!("{side}_{half}")]);
        [list("chosen"), list("rejected")].concat()
    };
    let examples = reference.dpo_examples();
    let ours = |model: &LanguageModel| -> Vec<f64> {
        let scores = score(model, &examples, 3, &mut |_| {}).unwrap();
        for (score, example) in scores.iter().zip(&examples) {
            assert_eq!(score.tokens, example.trained.iter().filter(|&&t| t).count());
        }
        scores.iter().map(|s| s.logprob).collect()
    };
    let policy = largest_difference(&ours(&reference.adapted()), &both("policy"));
    let base = largest_difference(&ours(&reference.base()), &both("ref"));
    // Sums over a completion: about 20 tokens, each within the loss's tolerance.
    within("completion log-probabilities", policy.max(base), 20.0 * LOSS)
}

/// TRL's DPO sigmoid loss; reference log-probabilities are our own, with the adapter off.
pub fn dpo_loss(reference: &Reference) -> f64 {
    let theirs = reference.json["dpo"]["losses"]["sigmoid"]["mean"].as_f64().unwrap();
    within("DPO loss", (dpo_step(reference, &Pass::default()).loss - theirs).abs(), LOSS)
}

/// Gradients of TRL's DPO loss with respect to the adapter.
pub fn dpo_gradients(reference: &Reference) -> f64 {
    compare_gradients(reference.tensors_under("dpo.grad."), &dpo_step(reference, &Pass::default()))
}

/// With the layers run again in the backward pass, losses and gradients stay the same.
pub fn recomputation(reference: &Reference) -> f64 {
    let (once, again) = (Pass::default(), Pass { recompute: true, ..Pass::default() });
    let sft = |pass| training::sft(&reference.adapted(), &reference.sft_examples(), pass);
    let dpo = |pass| dpo_step(reference, pass);
    // Gemma 4's gradients are sums of larger terms: f32 keeps a digit less of them.
    let scaled = reference.base().spec.layers.iter().any(|layer| layer.scaled);
    let bound = if scaled { 1e-4 } else { 1e-5 };
    let mut largest = 0.0f64;
    for (kept, recomputed) in [(sft(&once), sft(&again)), (dpo(&once), dpo(&again))] {
        within("loss", (kept.loss - recomputed.loss).abs(), 1e-6);
        assert!(kept.grads.keys().eq(recomputed.grads.keys()), "gradients of other tensors");
        for (name, kept) in &kept.grads {
            let scale = kept.iter().fold(0.0f64, |max, x| max.max(x.abs()));
            let difference = largest_difference(kept, &recomputed.grads[name]) / scale;
            largest = largest.max(within(&format!("gradient of {name}"), difference, bound));
        }
    }
    compare_gradients(reference.tensors_under("dpo.grad."), &dpo(&again));
    largest
}

/// What TRL logs beside the loss: entropy and accuracy of the chosen tokens, mean logits of both.
pub fn dpo_metrics(reference: &Reference) -> f64 {
    let metrics = &reference.json["dpo"]["metrics"];
    let scored = dpo_step(reference, &Pass::default()).scored;
    let examples = reference.dpo_examples();
    let count = |e: &cai_model::tokenizer::Example| e.trained.iter().filter(|&&t| t).count();
    let chosen: usize = examples[..examples.len() / 2].iter().map(count).sum();
    let mean = |x: &[f32]| x.iter().map(|&x| x as f64).sum::<f64>() / x.len() as f64;
    let correct: Vec<f32> = scored.correct.iter().map(|&c| c as u8 as f32).collect();
    let ours = [
        ("entropy", mean(&scored.entropy)),
        ("mean_token_accuracy", mean(&correct[..chosen])),
        ("logits/chosen", mean(&scored.mean_logits[..chosen])),
        ("logits/rejected", mean(&scored.mean_logits[chosen..])),
    ];
    let off = |(name, ours): &(&str, f64)| {
        let difference = (ours - metrics[*name].as_f64().unwrap()).abs();
        within(name, difference, LOGITS)
    };
    ours.iter().map(off).fold(0.0, f64::max)
}

fn dpo_step(reference: &Reference, pass: &Pass) -> training::Step {
    let examples = reference.dpo_examples();
    let scores = score(&reference.base(), &examples, examples.len(), &mut |_| {}).unwrap();
    let base: Vec<f64> = scores.iter().map(|s| s.logprob).collect();
    let beta = reference.json["dpo"]["beta"].as_f64().unwrap();
    training::dpo(&reference.adapted(), &examples, &base, beta, pass)
}

/// The largest difference relative to the largest entry of the same tensor.
pub fn compare_gradients(theirs: BTreeMap<&str, &Array>, step: &training::Step) -> f64 {
    // Ours are those of a text model, theirs perhaps of one that also sees.
    let theirs: BTreeMap<String, &Array> =
        theirs.into_iter().map(|(name, array)| (Spelling::plain(name), array)).collect();
    assert!(step.grads.keys().eq(theirs.keys()), "gradients of other tensors");
    let mut largest = 0.0f64;
    for (name, theirs) in theirs {
        let scale = theirs.values.iter().fold(0.0f64, |max, x| max.max(x.abs()));
        assert!(scale > 0.0, "{name}: the reference's gradient is zero and tests nothing");
        let difference = largest_difference(&step.grads[&name], &theirs.values) / scale;
        largest = largest.max(within(&format!("gradient of {name}"), difference, GRADIENT));
    }
    largest
}

/// PEFT's adapter, read and saved by us: the same tensors, and readable again.
pub fn adapter_round_trip(reference: &Reference) -> f64 {
    let model = reference.adapted();
    let dir = tempfile::tempdir().unwrap();
    model.save_adapter(dir.path()).unwrap();
    let file = "adapter_model.safetensors";
    let theirs = read_safetensors(&reference.dir.join("adapter").join(file));
    let ours = read_safetensors(&dir.path().join(file));
    assert!(ours.keys().eq(theirs.keys()), "other tensor names");
    for (name, array) in &theirs {
        assert_eq!(
            (&ours[name].shape, &ours[name].values),
            (&array.shape, &array.values),
            "{name}"
        );
    }
    let again = reference.base().with_adapter(dir.path()).unwrap();
    assert_eq!(again.adapter, model.adapter);
    let difference = right_padded(reference, &again, reference.tensor("adapter.right.logits"));
    within("logits with the adapter saved again", difference, LOGITS)
}

/// A base folder saved by us: the same tensors, and readable again with the same logits.
pub fn folder_round_trip(reference: &Reference) -> f64 {
    let model = reference.base();
    let dir = tempfile::tempdir().unwrap();
    save_folder(&model.decoder, Some(&reference.dir), DType::F32, dir.path()).unwrap();
    let theirs = read_safetensors(&reference.dir.join("model.safetensors"));
    let ours = read_safetensors(&dir.path().join("model.safetensors"));
    assert!(ours.keys().eq(theirs.keys()), "other tensor names");
    for (name, array) in &theirs {
        assert_eq!(
            (&ours[name].shape, &ours[name].values),
            (&array.shape, &array.values),
            "{name}"
        );
    }
    let again = LanguageModel::load(dir.path(), None, &model.device).unwrap();
    assert_eq!(again.spec, model.spec);
    let difference = right_padded(reference, &again, reference.tensor("right.logits"));
    within("logits of the folder saved again", difference, LOGITS)
}

/// The config in the key names of hub checkpoints means the same model.
pub fn hub_config(reference: &Reference) -> f64 {
    let read = |name: &str| -> Value {
        serde_json::from_str(&std::fs::read_to_string(reference.dir.join(name)).unwrap()).unwrap()
    };
    let hub = DecoderSpec::from_json(read("config_v4.json")).unwrap();
    let ours = DecoderSpec::from_json(read("config.json")).unwrap();
    assert_eq!(DecoderSpec { raw: ours.raw.clone(), ..hub }, ours);
    0.0
}
