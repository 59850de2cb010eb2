use burn::{
    module::Module,
    tensor::{DType, Device, Int, Tensor},
};

use super::{
    DecoderLayer, GemmaConfig, LayerKind, Linear, Pass, Replay, RmsNorm, TensorSource, Weight,
    attention::Context, cache::KvCache, noise, rope::RopeTable,
};
use cai_kernels::Visibility;

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

    /// Final hidden states of a batch, `[batch, tokens, hidden]`; those at pads mean nothing.
    pub fn hidden(&self, batch: &TokenBatch, pass: &Pass) -> Tensor<3> {
        self.decode(batch.ids.clone(), &self.batch_contexts(batch), None, pass, None, &mut |_| {})
    }

    /// Those at some slots of `[batch · tokens]` only, at least one, `[slots, hidden]`, for less work.
    pub fn hidden_at(&self, batch: &TokenBatch, at: &Tensor<1, Int>, pass: &Pass) -> Tensor<2> {
        let contexts = self.batch_contexts(batch);
        self.decode(batch.ids.clone(), &contexts, None, pass, Some(at), &mut |_| {}).squeeze_dim(0)
    }

    /// Final hidden states like [`Gemma::hidden_at`], untracked, and what is needed to run the
    /// layers again in the backward pass.
    pub fn hidden_with_replay(
        &self,
        batch: &TokenBatch,
        at: &Tensor<1, Int>,
        pass: &Pass,
    ) -> (Tensor<2>, Replay) {
        let contexts = self.batch_contexts(batch);
        let mut inputs = Vec::with_capacity(self.model.layers.len() + 1);
        let mut keep = |x: &Tensor<3>| inputs.push(x.clone());
        let ids = batch.ids.clone();
        let hidden = self.valid().decode(ids, &contexts, None, pass, Some(at), &mut keep);
        let (gemma, at) = (self.clone(), at.clone());
        (hidden.squeeze_dim(0), Replay { gemma, contexts, inputs, at, pass: *pass })
    }

    fn batch_contexts(&self, batch: &TokenBatch) -> Kinds {
        let visible = |window| Visibility::segments(&batch.segments, batch.width(), window);
        self.contexts(batch.positions(), visible, &batch.ids.device())
    }

    /// Hidden states of the next tokens of some rows of `cache`, `[rows, tokens, hidden]`, which are
    /// added to it.
    ///
    /// `ids` `[rows, tokens]`: the first `counts[i]` of a row are the next tokens of cache row
    /// `rows[i]`; pads may stand behind them, whose hidden states mean nothing.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Input`] when there is no such row, it is given twice, or it has no room for
    /// so many tokens, pads included.
    pub fn hidden_cached(
        &self,
        ids: Tensor<2, Int>,
        rows: &[usize],
        counts: &[usize],
        cache: &mut KvCache,
    ) -> Result<Tensor<3>> {
        self.decode_cached(ids, rows, counts, cache, None)
    }

    /// The same, but only the hidden state of each row's last new token, `[rows, hidden]`, for less
    /// work; that of a row without a new token means nothing.
    ///
    /// # Errors
    ///
    /// Those of [`Gemma::hidden_cached`].
    pub fn last_hidden_cached(
        &self,
        ids: Tensor<2, Int>,
        rows: &[usize],
        counts: &[usize],
        cache: &mut KvCache,
    ) -> Result<Tensor<2>> {
        let [_, tokens] = ids.dims();
        let last = counts.iter().enumerate().map(|(row, n)| (row * tokens + n.max(&1) - 1) as i64);
        let last: Vec<i64> = last.collect();
        let at = Tensor::from_data(last.as_slice(), &ids.device());
        Ok(self.decode_cached(ids, rows, counts, cache, Some(&at))?.squeeze_dim(0))
    }

    fn decode_cached(
        &self,
        ids: Tensor<2, Int>,
        rows: &[usize],
        counts: &[usize],
        cache: &mut KvCache,
        at: Option<&Tensor<1, Int>>,
    ) -> Result<Tensor<3>> {
        let ([_, tokens], device) = (ids.dims(), ids.device());
        let starts = cache.begin(rows, counts, tokens, &device)?;
        let positions = starts.iter().map(|&start| (start..start + tokens).collect()).collect();
        let visible = |window| Visibility::continued(&starts, tokens, window);
        let contexts = self.contexts(positions, visible, &device);
        let hidden = self.decode(ids, &contexts, Some(cache), &Pass::default(), at, &mut |_| {});
        cache.end(rows, counts);
        Ok(hidden)
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

    /// Memory that the matrices take, scales of quantised ones included, per weight.
    pub fn bytes_per_weight(&self) -> f64 {
        let (bytes, count) = self.weights().iter().fold((0, 0), |(bytes, count), weight| {
            (bytes + weight.num_bytes(), count + weight.size().iter().product::<usize>())
        });
        bytes as f64 / count as f64
    }

    /// The head's weight, `[vocabulary, hidden]`.
    pub fn head(&self) -> &Weight {
        match &self.lm_head {
            Some(head) => &head.weight,
            None => &self.model.embed_tokens.weight,
        }
    }

    /// `[batch, tokens, hidden]`, or `[1, slots, hidden]` with `at`, the slots that are wanted.
    /// `on_input` sees the input of each layer and of the final norm.
    fn decode(
        &self,
        ids: Tensor<2, Int>,
        contexts: &Kinds,
        mut cache: Option<&mut KvCache>,
        pass: &Pass,
        at: Option<&Tensor<1, Int>>,
        on_input: &mut dyn FnMut(&Tensor<3>),
    ) -> Tensor<3> {
        let [batch, tokens] = ids.dims();
        let hidden = self.config.hidden_size;
        let table = &self.model.embed_tokens.weight;
        // Hugging Face rounds √hidden to the embedding's dtype; f32 keeps it whole.
        let scale = (hidden as f64).sqrt();
        let x = table.select(ids.reshape([batch * tokens]));
        let x = noise::add(x, tokens, pass).mul_scalar(scale);
        let mut x = x.reshape([batch, tokens, hidden]);
        for (i, layer) in self.model.layers.iter().enumerate() {
            on_input(&x);
            let cache = cache.as_mut().map(|cache| (i, &mut **cache));
            let at = at.filter(|_| i + 1 == self.model.layers.len());
            x = match contexts.of(self, i) {
                Some(context) => layer.forward(x, context, cache, pass, at),
                None => x,
            };
        }
        on_input(&x);
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
