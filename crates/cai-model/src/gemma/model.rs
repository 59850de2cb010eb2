use burn::{
    module::{Module, Param},
    tensor::{DType, Device, Int, Tensor},
};

use super::{
    DecoderLayer, GemmaConfig, LayerKind, Linear, Pass, RmsNorm, TensorSource, attention::Context,
    cache::KvCache, param, rope::RopeTable,
};
use crate::{Result, batch::TokenBatch, kernels::Visibility};

/// Token embedding, `[vocabulary, hidden]`.
#[derive(Module, Debug)]
pub struct Embedding {
    /// One row per token.
    pub weight: Param<Tensor<2>>,
}

/// The decoder without its head.
#[derive(Module, Debug)]
pub struct GemmaModel {
    /// Token embedding; also the head when tied.
    pub embed_tokens: Embedding,
    /// Decoder layers.
    pub layers: Vec<DecoderLayer>,
    /// Final norm.
    pub norm: RmsNorm,
}

/// A Gemma causal language model. Field names are Hugging Face's, so that a tensor's path in the
/// module is its name in a checkpoint.
#[derive(Module, Debug)]
pub struct Gemma {
    /// The decoder.
    pub model: GemmaModel,
    /// The head, when it is not the embedding.
    pub lm_head: Option<Linear>,
    #[module(skip)]
    config: GemmaConfig,
}

impl Gemma {
    /// Builds the model from `source`, asking for every tensor exactly once.
    ///
    /// # Errors
    ///
    /// Those of the source.
    pub fn load(config: &GemmaConfig, source: &mut impl TensorSource) -> Result<Self> {
        let table = [config.vocab_size, config.hidden_size];
        let name = "model.embed_tokens.weight";
        let embed_tokens = Embedding { weight: param(name, source.tensor(name, table)?) };
        let layer = |i| DecoderLayer::load(source, &format!("model.layers.{i}"), config);
        let layers = (0..config.num_hidden_layers).map(layer).collect::<Result<_>>()?;
        let norm = RmsNorm::load(source, "model.norm", config.hidden_size, config.rms_norm_eps)?;
        let lm_head = match config.tie_word_embeddings {
            true => None,
            false => Some(Linear::load(source, "lm_head", table)?),
        };
        let model = GemmaModel { embed_tokens, layers, norm };
        Ok(Self { model, lm_head, config: config.clone() })
    }

    /// The config it was built with.
    pub fn config(&self) -> &GemmaConfig {
        &self.config
    }

    /// Final hidden states of a batch, `[batch, tokens, hidden]`; those at pads mean nothing.
    pub fn hidden(&self, batch: &TokenBatch, pass: &Pass) -> Tensor<3> {
        let visible = |window| Visibility::segments(&batch.segments, batch.width(), window);
        let contexts = self.contexts(batch.positions(), visible, &batch.ids.device());
        self.decode(batch.ids.clone(), &contexts, None, pass)
    }

    /// Hidden states of the next tokens `[rows, tokens]`, which are appended to `cache`.
    pub fn hidden_cached(&self, ids: Tensor<2, Int>, cache: &mut KvCache) -> Tensor<3> {
        let [_, tokens] = ids.dims();
        let (start, pads) = (cache.len, &cache.pads);
        let slots = |&pad: &usize| {
            (start..start + tokens).map(move |slot| slot.saturating_sub(pad)).collect()
        };
        let positions = pads.iter().map(slots).collect();
        let visible = |window| Visibility::cached(pads, start, tokens, window);
        let contexts = self.contexts(positions, visible, &ids.device());
        let hidden = self.decode(ids, &contexts, Some(cache), &Pass::default());
        cache.len += tokens;
        hidden
    }

    /// Logits of hidden states `[rows, hidden]`: `[rows, vocabulary]`, soft-capped where the model
    /// does so.
    pub fn logits(&self, hidden: Tensor<2>) -> Tensor<2> {
        let logits = hidden.matmul(self.head().transpose()).cast(DType::F32);
        match self.config.final_logit_softcapping {
            Some(cap) => logits.div_scalar(cap).tanh().mul_scalar(cap),
            None => logits,
        }
    }

    /// The head's weight, `[vocabulary, hidden]`.
    pub fn head(&self) -> Tensor<2> {
        match &self.lm_head {
            Some(head) => head.weight.val(),
            None => self.model.embed_tokens.weight.val(),
        }
    }

    fn decode(
        &self,
        ids: Tensor<2, Int>,
        contexts: &Kinds,
        mut cache: Option<&mut KvCache>,
        pass: &Pass,
    ) -> Tensor<3> {
        let [batch, tokens] = ids.dims();
        let hidden = self.config.hidden_size;
        let table = self.model.embed_tokens.weight.val();
        // Hugging Face rounds √hidden to the embedding's dtype; f32 keeps it whole.
        let scale = (hidden as f64).sqrt();
        let x = table.select(0, ids.reshape([batch * tokens])).mul_scalar(scale);
        let mut x = x.reshape([batch, tokens, hidden]);
        for (i, layer) in self.model.layers.iter().enumerate() {
            let context = match self.config.layer_kinds[i] {
                LayerKind::Full => &contexts.full,
                LayerKind::Sliding => &contexts.sliding,
            };
            let cache = cache.as_mut().map(|cache| (i, &mut **cache));
            x = match context {
                Some(context) => layer.forward(x, context, cache, pass),
                None => x,
            };
        }
        self.model.norm.forward(x)
    }

    /// RoPE table and visible keys of each kind of layer that the model has. `positions` are those
    /// of each row's tokens, `visible` makes the visibility for a window.
    fn contexts(
        &self,
        mut positions: Vec<Vec<usize>>,
        visible: impl Fn(Option<usize>) -> Visibility,
        device: &Device,
    ) -> Kinds {
        if positions.iter().all(|row| *row == positions[0]) {
            positions.truncate(1);
        }
        let context = |kind: LayerKind| {
            let (rope, window) = match kind {
                LayerKind::Full => (self.config.rope, None),
                LayerKind::Sliding => (self.config.local_rope, Some(self.config.sliding_window)),
            };
            self.config.layer_kinds.contains(&kind).then(|| Context {
                rope: RopeTable::new(rope, self.config.head_dim, &positions, device),
                visibility: visible(window),
            })
        };
        Kinds { full: context(LayerKind::Full), sliding: context(LayerKind::Sliding) }
    }
}

/// What the layers of each kind share in one forward pass.
struct Kinds {
    full: Option<Context>,
    sliding: Option<Context>,
}
