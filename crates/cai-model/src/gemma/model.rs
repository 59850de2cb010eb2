use burn::{
    module::Module,
    tensor::{Bool, DType, Device, Int, Tensor, TensorData},
};

use super::{
    DecoderLayer, GemmaConfig, LayerKind, Linear, Pass, Replay, RmsNorm, TensorSource, Weight,
    attention::Context, cache::KvCache, rope::RopeTable,
};
use crate::{Result, batch::TokenBatch};

/// Token embedding, `[vocabulary, hidden]`.
#[derive(Module, Debug)]
pub struct Embedding {
    /// One row per token.
    pub weight: Weight,
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
        let embed_tokens = Embedding { weight: source.weight(name, table)? };
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

    /// Final hidden states of a right-padded batch, `[batch, tokens, hidden]`; those at pads mean
    /// nothing.
    ///
    /// Pads stand behind the text, where the causal mask already hides them.
    pub fn hidden(&self, batch: &TokenBatch, pass: &Pass) -> Tensor<3> {
        self.decode(batch.ids.clone(), &self.contexts(batch), None, pass, &mut |_| {})
    }

    /// Final hidden states like [`Gemma::hidden`], untracked, and what is needed to run the layers
    /// again in the backward pass.
    pub fn hidden_with_replay(&self, batch: &TokenBatch, pass: &Pass) -> (Tensor<3>, Replay) {
        let contexts = self.contexts(batch);
        let mut inputs = Vec::with_capacity(self.model.layers.len() + 1);
        let mut keep = |x: &Tensor<3>| inputs.push(x.clone());
        let hidden = self.valid().decode(batch.ids.clone(), &contexts, None, pass, &mut keep);
        (hidden, Replay { gemma: self.clone(), contexts, inputs, pass: *pass })
    }

    fn contexts(&self, batch: &TokenBatch) -> Kinds {
        let width = batch.width();
        let device = batch.ids.device();
        let positions = [(0..width).collect::<Vec<_>>()];
        let visible = |window: usize| move |_: usize, q: usize, k: usize| k <= q && q - k < window;
        Kinds {
            full: self.context(LayerKind::Full, &positions, width, visible(usize::MAX), &device),
            sliding: self.context(
                LayerKind::Sliding,
                &positions,
                width,
                visible(self.config.sliding_window),
                &device,
            ),
        }
    }

    /// Hidden states of the next tokens `[rows, tokens]`, which are appended to `cache`.
    pub fn hidden_cached(&self, ids: Tensor<2, Int>, cache: &mut KvCache) -> Tensor<3> {
        let [_, tokens] = ids.dims();
        let (start, pads, device) = (cache.len, cache.pads.clone(), ids.device());
        let position = |slot: usize, pad: usize| slot.saturating_sub(pad);
        let positions: Vec<Vec<usize>> = pads
            .iter()
            .map(|&pad| (start..start + tokens).map(|slot| position(slot, pad)).collect())
            .collect();
        // A pad sees itself, so that no row of the softmax is empty.
        let visible = |window: usize| {
            let pads = pads.clone();
            move |row: usize, q: usize, k: usize| {
                let q = start + q;
                q == k || (k >= pads[row] && k < q && q - k < window)
            }
        };
        let keys = start + tokens;
        let contexts = Kinds {
            full: self.context(LayerKind::Full, &positions, keys, visible(usize::MAX), &device),
            sliding: self.context(
                LayerKind::Sliding,
                &positions,
                keys,
                visible(self.config.sliding_window),
                &device,
            ),
        };
        let pass = Pass::default();
        let hidden = self.decode(ids, &contexts, Some(cache), &pass, &mut |_| {});
        cache.len += tokens;
        hidden
    }

    /// Logits of hidden states `[rows, hidden]`: `[rows, vocabulary]`, soft-capped where the model
    /// does so.
    pub fn logits(&self, hidden: Tensor<2>) -> Tensor<2> {
        let logits = self.head().project(hidden).cast(DType::F32);
        match self.config.final_logit_softcapping {
            Some(cap) => logits.div_scalar(cap).tanh().mul_scalar(cap),
            None => logits,
        }
    }

    /// Every matrix: embedding, projections layer by layer, and the head if it is one of its own.
    pub fn weights(&self) -> Vec<&Weight> {
        let projections = self.model.layers.iter().flat_map(|layer| {
            let (attention, mlp) = (&layer.self_attn, &layer.mlp);
            [
                &attention.q_proj,
                &attention.k_proj,
                &attention.v_proj,
                &attention.o_proj,
                &mlp.gate_proj,
                &mlp.up_proj,
                &mlp.down_proj,
            ]
        });
        let linears = projections.chain(&self.lm_head).map(|linear| &linear.weight);
        std::iter::once(&self.model.embed_tokens.weight).chain(linears).collect()
    }

    /// The head's weight, `[vocabulary, hidden]`.
    pub fn head(&self) -> &Weight {
        match &self.lm_head {
            Some(head) => &head.weight,
            None => &self.model.embed_tokens.weight,
        }
    }

    /// `on_input` sees the input of each layer and of the final norm.
    fn decode(
        &self,
        ids: Tensor<2, Int>,
        contexts: &Kinds,
        mut cache: Option<&mut KvCache>,
        pass: &Pass,
        on_input: &mut dyn FnMut(&Tensor<3>),
    ) -> Tensor<3> {
        let [batch, tokens] = ids.dims();
        let hidden = self.config.hidden_size;
        let table = &self.model.embed_tokens.weight;
        // Hugging Face rounds √hidden to the embedding's dtype; f32 keeps it whole.
        let scale = (hidden as f64).sqrt();
        let x = table.select(ids.reshape([batch * tokens])).mul_scalar(scale);
        let mut x = x.reshape([batch, tokens, hidden]);
        for (i, layer) in self.model.layers.iter().enumerate() {
            on_input(&x);
            let cache = cache.as_mut().map(|cache| (i, &mut **cache));
            x = match contexts.of(self, i) {
                Some(context) => layer.forward(x, context, cache, pass),
                None => x,
            };
        }
        on_input(&x);
        self.model.norm.forward(x)
    }

    /// RoPE table and mask of one kind of layer, `None` if the model has no such layer.
    fn context(
        &self,
        kind: LayerKind,
        positions: &[Vec<usize>],
        keys: usize,
        visible: impl Fn(usize, usize, usize) -> bool,
        device: &Device,
    ) -> Option<Context> {
        if !self.config.layer_kinds.contains(&kind) {
            return None;
        }
        let rope = match kind {
            LayerKind::Full => self.config.rope,
            LayerKind::Sliding => self.config.local_rope,
        };
        let (rows, queries) = (positions.len(), positions[0].len());
        let mut hidden = Vec::with_capacity(rows * queries * keys);
        for row in 0..rows {
            for q in 0..queries {
                hidden.extend((0..keys).map(|k| !visible(row, q, k)));
            }
        }
        let mask = TensorData::new(hidden, [rows, 1, queries, keys]);
        Some(Context {
            rope: RopeTable::new(rope, self.config.head_dim, positions, device),
            mask: Tensor::<4, Bool>::from_bool(mask, device),
        })
    }
}

/// What the layers of each kind share in one forward pass.
#[derive(Clone)]
pub(super) struct Kinds {
    full: Option<Context>,
    sliding: Option<Context>,
}

impl Kinds {
    /// That of layer `i`.
    pub(super) fn of(&self, gemma: &Gemma, i: usize) -> Option<&Context> {
        match gemma.config.layer_kinds[i] {
            LayerKind::Full => self.full.as_ref(),
            LayerKind::Sliding => self.sliding.as_ref(),
        }
    }
}
