use burn::{
    module::{Module, Param},
    tensor::{Bool, DType, Device, Int, Tensor, TensorData},
};

use super::{
    DecoderLayer, GemmaConfig, LayerKind, Linear, RmsNorm, TensorSource, attention::Context,
    cache::KvCache, param, rope::RopeTable,
};
use crate::{Result, batch::TokenBatch};

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

    /// Final hidden states of a right-padded batch, `[batch, tokens, hidden]`; those at pads mean
    /// nothing.
    ///
    /// Pads stand behind the text, where the causal mask already hides them.
    pub fn hidden(&self, batch: &TokenBatch) -> Tensor<3> {
        let width = batch.width();
        let contexts = self.contexts(&[0], width, width, &batch.ids.device());
        self.decode(batch.ids.clone(), &contexts, None)
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
        let ([_, tokens], device) = (ids.dims(), ids.device());
        let mut starts = cache.begin(rows, counts, tokens, &device)?;
        let keys = starts.iter().max().map_or(0, |start| start + tokens);
        if starts.iter().all(|&start| start == starts[0]) {
            starts.truncate(1);
        }
        let contexts = self.contexts(&starts, tokens, keys, &device);
        let hidden = self.decode(ids, &contexts, Some(cache));
        cache.end(rows, counts);
        Ok(hidden)
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
                Some(context) => layer.forward(x, context, cache),
                None => x,
            };
        }
        self.model.norm.forward(x)
    }

    /// RoPE table and mask of each kind of layer that the model has, for `tokens` queries in each
    /// row, which begin at position `starts[row]` (one for all rows if they are the same), and keys
    /// at positions `0..keys`.
    fn contexts(&self, starts: &[usize], tokens: usize, keys: usize, device: &Device) -> Kinds {
        let positions: Vec<Vec<usize>> =
            starts.iter().map(|&start| (start..start + tokens).collect()).collect();
        let context = |kind: LayerKind| {
            let (rope, window) = match kind {
                LayerKind::Full => (self.config.rope, usize::MAX),
                LayerKind::Sliding => (self.config.local_rope, self.config.sliding_window),
            };
            self.config.layer_kinds.contains(&kind).then(|| Context {
                rope: RopeTable::new(rope, self.config.head_dim, &positions, device),
                mask: causal_mask(&positions, keys, window, device),
            })
        };
        Kinds { full: context(LayerKind::Full), sliding: context(LayerKind::Sliding) }
    }
}

/// True where a query may not look, `[rows, 1, queries, keys]`: it sees the key at its own position
/// and those before it, `window` in all.
fn causal_mask(
    positions: &[Vec<usize>],
    keys: usize,
    window: usize,
    device: &Device,
) -> Tensor<4, Bool> {
    let (rows, queries) = (positions.len(), positions.first().map_or(0, Vec::len));
    let mut hidden = vec![true; rows * queries * keys];
    for (hidden, &position) in hidden.chunks_mut(keys.max(1)).zip(positions.iter().flatten()) {
        hidden[(position + 1).saturating_sub(window)..=position].fill(false);
    }
    Tensor::from_bool(TensorData::new(hidden, [rows, 1, queries, keys]), device)
}

/// What the layers of each kind share in one forward pass.
struct Kinds {
    full: Option<Context>,
    sliding: Option<Context>,
}
