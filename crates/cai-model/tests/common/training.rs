//! Losses and LoRA gradients of one batch, through the crate's training path.

use std::collections::BTreeMap;

use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param},
    tensor::{Gradients, Tensor, TensorData},
};
use cai_model::{
    decoder::{Decoder, Pass},
    lora::train_adapter,
    loss::{ScoredTokens, score_tokens, trained_hidden},
    model::LanguageModel,
    tokenizer::Example,
};

/// A loss and its gradient with respect to each factor of the adapter, by PEFT's tensor name.
pub struct Step {
    /// The loss.
    pub loss: f64,
    /// `base_model.model.model.layers.0.….lora_A.weight` and so on.
    pub grads: BTreeMap<String, Vec<f64>>,
    /// What the loss was computed from.
    pub scored: ScoredTokens,
}

/// Supervised fine-tuning: mean negative log-probability of the trained tokens.
pub fn sft(model: &LanguageModel, examples: &[Example], pass: &Pass) -> Step {
    step(model, examples, pass, |logps, _| {
        let tokens = logps.len() as f64;
        let loss = -logps.iter().map(|&p| p as f64).sum::<f64>() / tokens;
        (loss, vec![-(1.0 / tokens) as f32; logps.len()])
    })
}

/// DPO (Rafailov et al., arXiv 2305.18290, equation 7): mean over pairs of
/// `−log σ(β(Δchosen − Δrejected))`. `examples`: all chosen, then all rejected; `reference`: the
/// log-probability of each under the reference model.
pub fn dpo(
    model: &LanguageModel,
    examples: &[Example],
    reference: &[f64],
    beta: f64,
    pass: &Pass,
) -> Step {
    let pairs = examples.len() / 2;
    step(model, examples, pass, |logps, rows| {
        let policy: Vec<f64> =
            rows.iter().map(|row| logps[row.clone()].iter().map(|&p| p as f64).sum()).collect();
        let ratio = |row: usize| policy[row] - reference[row];
        let mut weights = vec![0.0; logps.len()];
        let mut loss = 0.0;
        for pair in 0..pairs {
            let margin = beta * (ratio(pair) - ratio(pairs + pair));
            loss += (-margin).exp().ln_1p() / pairs as f64;
            // d loss / d margin = −σ(−margin)
            let slope = -beta / (1.0 + margin.exp()) / pairs as f64;
            weights[rows[pair].clone()].fill(slope as f32);
            weights[rows[pairs + pair].clone()].fill(-slope as f32);
        }
        (loss, weights)
    })
}

/// Runs `loss`, which takes token log-probabilities and the tokens of each row, and returns the
/// loss and its derivative with respect to every log-probability.
fn step(
    model: &LanguageModel,
    examples: &[Example],
    pass: &Pass,
    loss: impl FnOnce(&[f32], &[std::ops::Range<usize>]) -> (f64, Vec<f32>),
) -> Step {
    let decoder = train_adapter(model.decoder.clone()).train();
    let refs: Vec<&Example> = examples.iter().collect();
    let trained = trained_hidden(&decoder, &refs, model.tokenizer.pad(), pass);
    let scored = score_tokens(&decoder, &trained, true);
    let (loss, weights) = loss(&scored.logps, &trained.rows);
    let grads = scored.surrogate(&weights).unwrap().backward();
    Step { loss, grads: adapter_gradients(&decoder, &grads), scored }
}

fn adapter_gradients(decoder: &Decoder, grads: &Gradients) -> BTreeMap<String, Vec<f64>> {
    let whole = whole(decoder);
    let mut collect = Collect { path: Vec::new(), grads, whole, found: BTreeMap::new() };
    decoder.visit(&mut collect);
    collect.found
}

/// PEFT's name of the part of an adapter at `path` of the module; `whole` says of embedding and head
/// whether all of their rows are trained.
fn peft_name(path: &str, whole: [bool; 2]) -> Option<String> {
    let row = |table: &str, whole| {
        let end = if whole { "weight" } else { "token_adapter.trainable_tokens_delta" };
        Some(format!("base_model.model.{table}.{end}"))
    };
    match path {
        "model.embed_tokens.trained.values" => return row("model.embed_tokens", whole[0]),
        "head_rows.values" => return row("lm_head", whole[1]),
        _ => {}
    }
    let (module, factor) = path.split_once(".lora.")?;
    let factor = match factor {
        "lora_a" => "lora_A.weight",
        "lora_b" => "lora_B.weight",
        "dora.magnitude" => "lora_magnitude_vector",
        other => panic!("{other} is no part of an adapter"),
    };
    Some(format!("base_model.model.{module}.{factor}"))
}

/// Of embedding and head, whether all of their rows are trained.
fn whole(decoder: &Decoder) -> [bool; 2] {
    [&decoder.model.embed_tokens.trained, &decoder.head_rows]
        .map(|rows| rows.as_ref().is_some_and(|rows| rows.ids.is_none()))
}

/// One step of gradient descent on a trainable adapter.
pub fn descend(decoder: Decoder, step: &Step, rate: f64) -> Decoder {
    let whole = whole(&decoder);
    decoder.map(&mut Descend { path: Vec::new(), step, rate, whole })
}

struct Descend<'a> {
    path: Vec<String>,
    step: &'a Step,
    rate: f64,
    whole: [bool; 2],
}

impl ModuleMapper for Descend<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(name) = peft_name(&self.path.join("."), self.whole) else {
            return param;
        };
        let grad: Vec<f32> = self.step.grads[&name].iter().map(|&x| x as f32).collect();
        param.map(|value| {
            let grad = TensorData::new(grad, value.shape());
            value.clone() - Tensor::from_data(grad, &value.device()).mul_scalar(self.rate)
        })
    }

    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.into());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }
}

struct Collect<'a> {
    path: Vec<String>,
    grads: &'a Gradients,
    whole: [bool; 2],
    found: BTreeMap<String, Vec<f64>>,
}

impl ModuleVisitor for Collect<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let path = self.path.join(".");
        let grad = param.val().grad(self.grads);
        let Some(name) = peft_name(&path, self.whole) else {
            assert!(grad.is_none(), "the frozen {path} has a gradient");
            return;
        };
        let grad = grad.unwrap_or_else(|| panic!("{path} has no gradient"));
        self.found.insert(name, grad.into_data().iter::<f64>().collect());
    }

    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.into());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }
}
