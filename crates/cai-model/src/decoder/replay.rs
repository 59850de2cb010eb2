//! Training with the activations of one layer at a time (Chen et al., arXiv 1604.06174, with one
//! segment per layer).
//!
//! The forward pass runs without autodiff and keeps the input of each layer. The backward pass goes
//! through the layers from the last to the first: it runs layer i again on its input x, tracked, and
//! with the gradient u of the layer's output takes the gradient of `Σ layer(x) · u` (u constant),
//! which holds those of the layer's parameters and of x, the next u. Keys and values that a later
//! layer takes, and the layers' own inputs, are further inputs whose gradients are kept until their
//! maker is reached.

use burn::{
    module::{Module, ModuleVisitor, Param},
    tensor::{Gradients, Int, Tensor},
};

use super::{
    Decoder, Pass,
    attention::KeyValues,
    contexts::Contexts,
    layer::Beside,
    model::{Watch, of_layer},
};

/// What is kept of a forward pass.
#[derive(Clone, Default)]
pub(super) struct Kept {
    /// The input of each layer, `[batch, tokens, hidden]`, and, last, of the final norm, `[1, slots,
    /// hidden]`.
    inputs: Vec<Tensor<3>>,
    /// Every layer's own input, `[batch · tokens, layers, width]`.
    layers_inputs: Option<Tensor<3>>,
    /// Keys and values that later layers take, by the layer that made them.
    keys_values: Vec<(usize, KeyValues)>,
}

impl Watch for Kept {
    fn input(&mut self, x: &Tensor<3>) {
        self.inputs.push(x.clone());
    }

    fn layers_inputs(&mut self, inputs: &Tensor<3>) {
        self.layers_inputs = Some(inputs.clone());
    }

    fn keys_values(&mut self, layer: usize, seen: &KeyValues) {
        self.keys_values.push((layer, seen.clone()));
    }
}

/// What is kept of a forward pass so that its layers can be run again.
#[derive(Clone)]
pub struct Replay {
    decoder: Decoder,
    contexts: Contexts,
    kept: Kept,
    /// `[batch, tokens]`.
    ids: Tensor<2, Int>,
    /// The slots of `[batch · tokens]` whose final hidden states were wanted.
    at: Tensor<1, Int>,
    pass: Pass,
}

impl Replay {
    pub(super) fn new(
        decoder: &Decoder,
        contexts: Contexts,
        kept: Kept,
        (ids, at): (Tensor<2, Int>, Tensor<1, Int>),
        pass: &Pass,
    ) -> Self {
        Self { decoder: decoder.clone(), contexts, kept, ids, at, pass: *pass }
    }

    /// A scalar whose backward pass gives every trainable parameter p below the head the gradient
    /// that `upstream`, the gradient of the final hidden states `[slots, hidden]`, causes:
    /// `Σ_p Σ (p · ∂p)` with `∂p` constant. Its value means nothing. Untracked if nothing is
    /// trainable.
    pub fn surrogate(&self, upstream: Tensor<2>) -> Tensor<1> {
        let device = upstream.device();
        let mut total = Tensor::<1>::zeros([1], &device);
        let model = &self.decoder.model;
        let below =
            trainable(&model.embed_tokens) || model.per_layer.as_ref().is_some_and(trainable);
        // Below the lowest layer that is trained nothing needs a gradient.
        let lowest = if below { Some(0) } else { model.layers.iter().position(trainable) };
        let (Some(lowest), [inputs @ .., last]) = (lowest, self.kept.inputs.as_slice()) else {
            return total;
        };
        let x = last.clone().autodiff().require_grad();
        let mut grads =
            (model.norm.forward(x.clone()) * upstream.unsqueeze_dim(0)).sum().backward();
        let mut upstream = x.grad_remove(&mut grads);
        // Gradients of keys and values that other layers took, by layer, and of the layers' inputs.
        let mut of_keys_values: Vec<Option<KeyValues>> = vec![None; inputs.len()];
        let mut of_inputs = Vec::new();
        for (i, input) in inputs.iter().enumerate().skip(lowest).rev() {
            let Some(gradient) = upstream else { return total };
            let tracked = |x: &Tensor<3>| x.clone().autodiff().require_grad();
            let x = if i > lowest || below { tracked(input) } else { input.clone().autodiff() };
            let shared = self.shared(i);
            let own = self.kept.layers_inputs.as_ref().map(|inputs| {
                let own = of_layer(inputs, i).autodiff();
                if below { own.require_grad() } else { own }
            });
            let beside = Beside {
                cache: None,
                shared: shared.clone(),
                input: own.clone(),
                at: Some(&self.at).filter(|_| i + 1 == inputs.len()),
            };
            let (out, seen) =
                model.layers[i].forward(x.clone(), self.contexts.of(i), beside, &self.pass);
            let mut sum = (out * gradient).sum();
            if let Some(taken) = of_keys_values[i].take() {
                for (seen, taken) in seen.into_iter().zip(taken) {
                    sum = sum + (seen * taken).sum();
                }
            }
            let mut grads = sum.backward();
            total = collect(&model.layers[i], &mut grads, total);
            if let (Some(layer), Some(shared)) = (self.decoder.shares(i), shared) {
                let new = shared.map(|x| x.grad_remove(&mut grads));
                add(&mut of_keys_values[layer], new);
            }
            of_inputs.push(own.and_then(|own| own.grad_remove(&mut grads)));
            upstream = x.grad_remove(&mut grads);
        }
        match (below, upstream) {
            (true, Some(upstream)) => self.embeddings(total, upstream, of_inputs),
            _ => total,
        }
    }

    /// Keys and values of another layer that layer `i` takes, tracked.
    fn shared(&self, i: usize) -> Option<KeyValues> {
        let layer = self.decoder.shares(i)?;
        let (_, seen) = self.kept.keys_values.iter().find(|(maker, _)| *maker == layer)?;
        Some(seen.clone().map(|x| x.autodiff().require_grad()))
    }

    /// Adds what the embeddings and the layers' own inputs are made of; `of_inputs` are the
    /// gradients of the latter, the last layer's first.
    fn embeddings(
        &self,
        total: Tensor<1>,
        upstream: Tensor<3>,
        of_inputs: Vec<Option<Tensor<2>>>,
    ) -> Tensor<1> {
        let [batch, tokens, hidden] = upstream.dims();
        let embeddings = self.decoder.embed(self.ids.clone(), &self.pass);
        let inputs =
            self.decoder.per_layer_inputs(self.ids.clone(), embeddings.clone(), &self.pass);
        let mut sum = (embeddings * upstream.reshape([batch * tokens, hidden])).sum();
        if let Some(inputs) = inputs {
            for (i, gradient) in of_inputs.into_iter().rev().enumerate() {
                if let Some(gradient) = gradient {
                    sum = sum + (of_layer(&inputs, i) * gradient).sum();
                }
            }
        }
        let mut grads = sum.backward();
        let total = collect(&self.decoder.model.embed_tokens, &mut grads, total);
        match &self.decoder.model.per_layer {
            Some(inputs) => collect(inputs, &mut grads, total),
            None => total,
        }
    }
}

fn add(sum: &mut Option<KeyValues>, new: [Option<Tensor<4>>; 2]) {
    let [Some(k), Some(v)] = new else { return };
    *sum = Some(match sum.take() {
        Some([a, b]) => [a + k, b + v],
        None => [k, v],
    });
}

fn trainable<M: Module>(module: &M) -> bool {
    struct Any(bool);
    impl ModuleVisitor for Any {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0 |= param.is_require_grad();
        }
    }
    let mut any = Any(false);
    module.visit(&mut any);
    any.0
}

/// `total` and `Σ p · ∂p` of each trainable parameter of `module`.
fn collect<M: Module>(module: &M, grads: &mut Gradients, total: Tensor<1>) -> Tensor<1> {
    struct Collect<'a> {
        grads: &'a mut Gradients,
        total: Tensor<1>,
    }
    impl ModuleVisitor for Collect<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let value = param.val();
            if let Some(grad) = value.grad_remove(self.grads) {
                self.total = self.total.clone() + (value * grad).sum();
            }
        }
    }
    let mut collect = Collect { grads, total };
    module.visit(&mut collect);
    collect.total
}
