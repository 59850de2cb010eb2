//! Per-layer inputs (Gemma 4 E2B and E4B, Gemma 3n): a second, narrow embedding of each token for
//! each layer, blended with a projection of its first embedding.

use burn::{
    module::Module,
    tensor::{Int, Tensor},
};
use cai_kernels::Activation;

use super::{Embedding, Linear, NormSpec, Pass, PerLayerInputs, RmsNorm, TensorSource};
use crate::Result;

/// Makes all layers' inputs: `(norm(projection(e) / √hidden) + √width · embedding(token)) / √2`,
/// where e is the token's scaled embedding.
#[derive(Module, Debug)]
pub struct PerLayerEmbedding {
    /// `[vocabulary, layers · width]`.
    pub embed_tokens_per_layer: Embedding,
    /// `[layers · width, hidden]`.
    pub per_layer_model_projection: Linear,
    /// Of each layer's part.
    pub per_layer_projection_norm: RmsNorm,
    #[module(skip)]
    width: usize,
}

impl PerLayerEmbedding {
    pub(super) fn load(
        source: &mut impl TensorSource,
        [layers, hidden]: [usize; 2],
        spec: PerLayerInputs,
        norm: NormSpec,
    ) -> Result<Self> {
        let all = layers * spec.width;
        let name = |part: &str| format!("model.{part}");
        let table = [spec.vocab_size, all];
        Ok(Self {
            embed_tokens_per_layer: Embedding::load(
                source,
                &name("embed_tokens_per_layer"),
                table,
            )?,
            per_layer_model_projection: Linear::load(
                source,
                &name("per_layer_model_projection"),
                [all, hidden],
            )?,
            per_layer_projection_norm: RmsNorm::load(
                source,
                &name("per_layer_projection_norm"),
                spec.width,
                norm,
            )?,
            width: spec.width,
        })
    }

    /// `[tokens, layers, width]` of the tokens `ids` and their scaled embeddings `[tokens, hidden]`.
    pub(super) fn forward(
        &self,
        ids: Tensor<1, Int>,
        embeddings: Tensor<2>,
        pass: &Pass,
    ) -> Tensor<3> {
        let [tokens, hidden] = embeddings.dims();
        let split = |x: Tensor<2>| {
            let [_, all] = x.dims();
            x.reshape([tokens, all / self.width, self.width])
        };
        let own = self.embed_tokens_per_layer.forward(ids).mul_scalar((self.width as f64).sqrt());
        let projected = self.per_layer_model_projection.forward(embeddings, pass);
        let projected = split(projected.div_scalar((hidden as f64).sqrt()));
        let sum = self.per_layer_projection_norm.forward(projected) + split(own);
        sum.mul_scalar(0.5f64.sqrt())
    }
}

/// What a layer does with its input z: `x + norm(projection(activation(gate(x)) · z))`.
#[derive(Module, Debug)]
pub struct PerLayerBlock {
    /// `[width, hidden]`.
    pub per_layer_input_gate: Linear,
    /// `[hidden, width]`.
    pub per_layer_projection: Linear,
    /// Of the output.
    pub post_per_layer_input_norm: RmsNorm,
    #[module(skip)]
    activation: Activation,
}

impl PerLayerBlock {
    pub(super) fn load(
        source: &mut impl TensorSource,
        name: &str,
        [width, hidden]: [usize; 2],
        activation: Activation,
        norm: NormSpec,
    ) -> Result<Self> {
        let name = |part: &str| format!("{name}.{part}");
        Ok(Self {
            per_layer_input_gate: Linear::load(
                source,
                &name("per_layer_input_gate"),
                [width, hidden],
            )?,
            per_layer_projection: Linear::load(
                source,
                &name("per_layer_projection"),
                [hidden, width],
            )?,
            post_per_layer_input_norm: RmsNorm::load(
                source,
                &name("post_per_layer_input_norm"),
                hidden,
                norm,
            )?,
            activation,
        })
    }

    /// `x` `[rows, hidden]`, `input` `[rows, width]`.
    pub(super) fn forward(&self, x: Tensor<2>, input: Tensor<2>, pass: &Pass) -> Tensor<2> {
        let gate = self.per_layer_input_gate.forward(x.clone(), pass);
        let opened = cai_kernels::gated(gate, input, self.activation);
        let out = self.per_layer_projection.forward(opened, pass);
        x + self.post_per_layer_input_norm.forward(out)
    }
}
