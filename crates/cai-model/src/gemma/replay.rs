//! Training with the activations of one layer at a time (Chen et al., arXiv 1604.06174, with one
//! segment per layer).
//!
//! The forward pass runs without autodiff and keeps the input of each layer. The backward pass goes
//! through the layers from the last to the first: it runs layer i again on its input x, tracked, and
//! with the gradient u of the layer's output takes the gradient of `Σ layer(x) · u` (u constant),
//! which holds those of the layer's parameters and of x, the next u.

use burn::{
    module::{Module, ModuleVisitor, Param},
    tensor::{Gradients, Int, Tensor},
};

use super::{DecoderLayer, Gemma, Pass, model::Kinds};

/// What is kept of a forward pass so that its layers can be run again.
#[derive(Clone)]
pub struct Replay {
    pub(super) gemma: Gemma,
    pub(super) contexts: Kinds,
    /// The input of each layer, `[batch, tokens, hidden]`, and, last, of the final norm, `[1, slots,
    /// hidden]`.
    pub(super) inputs: Vec<Tensor<3>>,
    /// The slots of `[batch · tokens]` whose final hidden states were wanted.
    pub(super) at: Tensor<1, Int>,
    pub(super) pass: Pass,
}

impl Replay {
    /// A scalar whose backward pass gives every trainable parameter p of the layers the gradient
    /// that `upstream`, the gradient of the final hidden states `[slots, hidden]`, causes:
    /// `Σ_p Σ (p · ∂p)` with `∂p` constant. Its value means nothing. Untracked if no layer has a
    /// trainable parameter.
    pub fn surrogate(&self, upstream: Tensor<2>) -> Tensor<1> {
        let device = upstream.device();
        let mut total = Tensor::<1>::zeros([1], &device);
        let model = &self.gemma.model;
        // Below the lowest layer that is trained nothing needs a gradient.
        let Some(lowest) = model.layers.iter().position(trainable) else { return total };
        let [inputs @ .., last] = self.inputs.as_slice() else { return total };
        let x = last.clone().autodiff().require_grad();
        let mut grads =
            (model.norm.forward(x.clone()) * upstream.unsqueeze_dim(0)).sum().backward();
        let mut upstream = x.grad_remove(&mut grads);
        for (i, input) in inputs.iter().enumerate().skip(lowest).rev() {
            let (Some(context), Some(gradient)) = (self.contexts.of(&self.gemma, i), upstream)
            else {
                return total;
            };
            let x = input.clone().autodiff();
            let x = if i > lowest { x.require_grad() } else { x };
            let at = Some(&self.at).filter(|_| i + 1 == inputs.len());
            let out = model.layers[i].forward(x.clone(), context, None, &self.pass, at);
            let mut grads = (out * gradient).sum().backward();
            let mut collect = Collect { grads: &mut grads, total };
            model.layers[i].visit(&mut collect);
            total = collect.total;
            upstream = x.grad_remove(&mut grads);
        }
        total
    }
}

fn trainable(layer: &DecoderLayer) -> bool {
    struct Any(bool);
    impl ModuleVisitor for Any {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0 |= param.is_require_grad();
        }
    }
    let mut any = Any(false);
    layer.visit(&mut any);
    any.0
}

/// Adds `Σ p · ∂p` of each trainable parameter to `total`.
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
