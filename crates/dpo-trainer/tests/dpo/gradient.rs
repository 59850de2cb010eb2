//! The gradient that training uses against finite differences of the loss, through the whole model.

use std::collections::BTreeMap;

use burn::{
    module::{Module, ModuleVisitor, Param},
    tensor::{Gradients, Tensor, TensorData},
};
use cai_data::seed::Seed;
use cai_model::decoder::Decoder;
use cai_train::{Objective, params};
use dpo_trainer::{DpoConfig, DpoObjective, Reference, prepare};

use crate::fixture::{adapted, config, pairs};

pub type Values = BTreeMap<String, Vec<f32>>;

#[test]
fn the_gradient_is_that_of_the_loss() {
    let model = adapted();
    let mut pairs = pairs();
    for (i, pair) in pairs.iter_mut().enumerate() {
        pair.chosen_probability = Some([0.8, 0.35, 1.0][i % 3]);
        pair.weight = Some([1.0, 0.5][i % 2]);
    }
    let config = DpoConfig { held_out: 0.0, ..config() };
    let prepared = prepare(&model.tokenizer, &pairs, &config).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("reference.json");
    // The base as reference, so that margins are not all zero.
    let config = DpoConfig { reference: dpo_trainer::ReferenceModel::Base, ..config };
    let reference = Reference::load_or_compute(&path, &model, &prepared, &config, "").unwrap();
    let objective = DpoObjective {
        train: &prepared.train,
        held_out: &[],
        reference: &reference,
        pad: model.tokenizer.pad(),
        eval_batch_size: 8,
        config: &config,
    };
    let decoder = model.decoder.train();
    let items: Vec<usize> = (0..8).collect();
    let loss = |decoder: &Decoder| objective.loss(decoder, &items, Seed(0)).unwrap();
    let grads = gradients(&decoder, &loss(&decoder).surrogate.backward());

    // Along the gradient, and along half of its entries.
    for kept in [|_| true, |i| i % 2 == 0] {
        let masked = |(name, values): (&String, &Vec<f32>)| {
            let keep = |(i, &x): (usize, &f32)| if kept(i) { x } else { 0.0 };
            (name.clone(), values.iter().enumerate().map(keep).collect())
        };
        let direction: Values = grads.iter().map(masked).collect();
        let norm = dot(&direction, &direction).sqrt();
        let h = 3e-3;
        let at = |step: f64| loss(&moved(&decoder, &direction, step / norm)).loss;
        let measured = (at(h) - at(-h)) / (2.0 * h);
        let expected = dot(&grads, &direction) / norm;
        assert!((measured / expected - 1.0).abs() < 5e-3, "{measured} is not {expected}");
    }
}

/// The model with `step · direction` added to its trainable parameters.
fn moved(decoder: &Decoder, direction: &Values, step: f64) -> Decoder {
    let add = |(name, data): (String, TensorData)| {
        let values = data.iter::<f32>().zip(&direction[&name]);
        let values: Vec<f32> = values.map(|(x, d)| x + (step * *d as f64) as f32).collect();
        (name, TensorData::new(values, data.shape().clone()))
    };
    let values = params::values(decoder).unwrap().into_iter().map(add).collect();
    params::load(decoder.clone(), values).unwrap()
}

fn dot(a: &Values, b: &Values) -> f64 {
    let pairs = a.iter().flat_map(|(name, values)| values.iter().zip(&b[name]));
    pairs.map(|(&x, &y)| x as f64 * y as f64).sum()
}

pub fn gradients(decoder: &Decoder, grads: &Gradients) -> Values {
    struct Collect<'a> {
        path: Vec<String>,
        grads: &'a Gradients,
        found: Values,
    }
    impl ModuleVisitor for Collect<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(grad) = param.val().grad(self.grads) {
                self.found.insert(self.path.join("."), grad.into_data().iter::<f32>().collect());
            }
        }

        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.push(name.into());
        }

        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.pop();
        }
    }
    let mut collect = Collect { path: Vec::new(), grads, found: Values::new() };
    decoder.visit(&mut collect);
    collect.found
}
