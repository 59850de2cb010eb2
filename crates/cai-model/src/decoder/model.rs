use burn::{
    module::Module,
    tensor::{DType, Int, Tensor},
};

use super::{
    DecoderLayer, DecoderSpec, Embedding, Head, KeysValues, Linear, Pass, PerLayerEmbedding,
    Replay, RmsNorm, TensorSource, TrainedRows, Weight, attention::KeyValues, cache::KvCache,
    contexts::Contexts, layer::Beside, noise,
};
use crate::{Result, batch::TokenBatch};

/// The decoder without its head.
#[derive(Module, Debug)]
pub struct DecoderModel {
    /// Token embedding; also the head when tied.
    pub embed_tokens: Embedding,
    /// The second embedding, if there is one.
    pub per_layer: Option<PerLayerEmbedding>,
    /// Decoder layers.
    pub layers: Vec<DecoderLayer>,
    /// Final norm.
    pub norm: RmsNorm,
}

/// A causal language model. Field names are Hugging Face's, so that a tensor's path in the module is
/// its name in a checkpoint (but for `per_layer` and `mixture`, which only group what stands flat
/// there).
#[derive(Module, Debug)]
pub struct Decoder {
    /// The decoder.
    pub model: DecoderModel,
    /// The head, when it is not the embedding.
    pub lm_head: Option<Linear>,
    /// Trained rows of the head, where they are not those of the embedding.
    pub head_rows: Option<TrainedRows>,
    #[module(skip)]
    spec: DecoderSpec,
}

impl Decoder {
    /// Builds the model from `source`, asking for every tensor exactly once.
    ///
    /// # Errors
    ///
    /// Those of the source.
    pub fn load(spec: &DecoderSpec, source: &mut impl TensorSource) -> Result<Self> {
        let table = [spec.vocab_size, spec.hidden_size];
        let embed_tokens = Embedding::load(source, "model.embed_tokens", table)?;
        let per_layer = match spec.per_layer_inputs {
            Some(inputs) => {
                let size = [spec.layers.len(), spec.hidden_size];
                Some(PerLayerEmbedding::load(source, size, inputs, spec.norm)?)
            }
            None => None,
        };
        let layer =
            |(i, layer)| DecoderLayer::load(source, &format!("model.layers.{i}"), spec, layer);
        let layers = spec.layers.iter().enumerate().map(layer).collect::<Result<_>>()?;
        let norm = RmsNorm::load(source, "model.norm", spec.hidden_size, spec.norm)?;
        let lm_head = match spec.tie_word_embeddings {
            true => None,
            false => Some(Linear::load(source, "lm_head", table)?),
        };
        let model = DecoderModel { embed_tokens, per_layer, layers, norm };
        Ok(Self { model, lm_head, head_rows: None, spec: spec.clone() })
    }

    /// The spec it was built with.
    pub fn spec(&self) -> &DecoderSpec {
        &self.spec
    }

    /// Final hidden states of a batch, `[batch, tokens, hidden]`; those at pads mean nothing.
    pub fn hidden(&self, batch: &TokenBatch, pass: &Pass) -> Tensor<3> {
        let contexts = Contexts::of_batch(&self.spec, batch);
        self.decode(batch.ids.clone(), &contexts, None, pass, None, &mut Discard)
    }

    /// Those at some slots of `[batch · tokens]` only, at least one, `[slots, hidden]`, for less work.
    pub fn hidden_at(&self, batch: &TokenBatch, at: &Tensor<1, Int>, pass: &Pass) -> Tensor<2> {
        let contexts = Contexts::of_batch(&self.spec, batch);
        let ids = batch.ids.clone();
        self.decode(ids, &contexts, None, pass, Some(at), &mut Discard).squeeze_dim(0)
    }

    /// Final hidden states like [`Decoder::hidden_at`], untracked, and what is needed to run the
    /// layers again in the backward pass.
    pub fn hidden_with_replay(
        &self,
        batch: &TokenBatch,
        at: &Tensor<1, Int>,
        pass: &Pass,
    ) -> (Tensor<2>, Replay) {
        let contexts = Contexts::of_batch(&self.spec, batch);
        let mut kept = super::replay::Kept::default();
        let ids = batch.ids.clone();
        let hidden = self.valid().decode(ids.clone(), &contexts, None, pass, Some(at), &mut kept);
        (hidden.squeeze_dim(0), Replay::new(self, contexts, kept, (ids, at.clone()), pass))
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
    /// Those of [`Decoder::hidden_cached`].
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
        let contexts = Contexts::continued(&self.spec, &starts, tokens, &device);
        let pass = Pass::default();
        let hidden = self.decode(ids, &contexts, Some(cache), &pass, at, &mut Discard);
        cache.end(rows, counts);
        Ok(hidden)
    }

    /// Logits of hidden states `[rows, hidden]`: `[rows, vocabulary]`, soft-capped where the model
    /// does so.
    pub fn logits(&self, hidden: Tensor<2>) -> Tensor<2> {
        let logits = self.head().project(hidden).cast(DType::F32);
        match self.spec.final_logit_softcapping {
            Some(cap) => logits.div_scalar(cap).tanh().mul_scalar(cap),
            None => logits,
        }
    }

    /// The head: the embedding where it is tied, with rows of it that are trained; rows of the
    /// head's own come before those.
    pub fn head(&self) -> Head<'_> {
        let embedding = &self.model.embed_tokens;
        let weight = self.lm_head.as_ref().map_or(&embedding.weight, |head| &head.weight);
        let tied = embedding.trained.as_ref().filter(|rows| self.lm_head.is_none() && rows.head);
        Head { weight, trained: self.head_rows.as_ref().or(tied) }
    }

    /// Gives the decoder a head of its own, in place of a tied one or another.
    pub(crate) fn set_head(&mut self, weight: Weight) {
        self.lm_head = Some(Linear { weight, bias: None, lora: None });
        self.spec.tie_word_embeddings = false;
        self.spec.raw["tie_word_embeddings"] = false.into();
    }

    /// Memory that the matrices take, scales of quantised ones included, per weight.
    pub fn bytes_per_weight(&self) -> f64 {
        let (bytes, count) = self.weights().iter().fold((0, 0), |(bytes, count), weight| {
            (bytes + weight.num_bytes(), count + weight.size().iter().product::<usize>())
        });
        bytes as f64 / count as f64
    }

    /// Every matrix that a source may quantise: embedding, projections layer by layer, and the head
    /// if it is one of its own.
    pub fn weights(&self) -> Vec<&Weight> {
        let per_layer = self.model.per_layer.iter().flat_map(|inputs| {
            [&inputs.embed_tokens_per_layer.weight, &inputs.per_layer_model_projection.weight]
        });
        let layers = self.model.layers.iter().flat_map(DecoderLayer::weights);
        let head = self.lm_head.iter().map(|head| &head.weight);
        let table = std::iter::once(&self.model.embed_tokens.weight);
        table.chain(per_layer).chain(layers).chain(head).collect()
    }

    /// Scaled embeddings of `ids` `[batch, tokens]`, `[batch · tokens, hidden]`.
    pub(super) fn embed(&self, ids: Tensor<2, Int>, pass: &Pass) -> Tensor<2> {
        let [batch, tokens] = ids.dims();
        let x = self.model.embed_tokens.forward(ids.reshape([batch * tokens]));
        // Hugging Face rounds √hidden to the embedding's dtype; f32 keeps it whole.
        let x = noise::add(x, tokens, pass);
        if self.spec.embedding_scale == 1.0 { x } else { x.mul_scalar(self.spec.embedding_scale) }
    }

    /// Every layer's own input, `[batch · tokens, layers, width]`, for scaled embeddings.
    pub(super) fn per_layer_inputs(
        &self,
        ids: Tensor<2, Int>,
        embeddings: Tensor<2>,
        pass: &Pass,
    ) -> Option<Tensor<3>> {
        let [batch, tokens] = ids.dims();
        let inputs = self.model.per_layer.as_ref()?;
        Some(inputs.forward(ids.reshape([batch * tokens]), embeddings, pass))
    }

    /// The layer whose keys and values layer `i` takes.
    pub(super) fn shares(&self, i: usize) -> Option<usize> {
        match self.spec.layers[i].attention.keys_values {
            KeysValues::OfLayer(layer) => Some(layer),
            _ => None,
        }
    }

    /// `[batch, tokens, hidden]`, or `[1, slots, hidden]` with `at`, the slots that are wanted.
    fn decode(
        &self,
        ids: Tensor<2, Int>,
        contexts: &Contexts,
        mut cache: Option<&mut KvCache>,
        pass: &Pass,
        at: Option<&Tensor<1, Int>>,
        watch: &mut dyn Watch,
    ) -> Tensor<3> {
        let [batch, tokens] = ids.dims();
        let embeddings = self.embed(ids.clone(), pass);
        let inputs = self.per_layer_inputs(ids, embeddings.clone(), pass);
        if let Some(inputs) = &inputs {
            watch.layers_inputs(inputs);
        }
        let mut x = embeddings.reshape([batch, tokens, self.spec.hidden_size]);
        let mut keys_values: Vec<Option<KeyValues>> = vec![None; self.model.layers.len()];
        for (i, layer) in self.model.layers.iter().enumerate() {
            watch.input(&x);
            let beside = Beside {
                cache: cache.as_mut().map(|cache| (i, &mut **cache)),
                shared: self.shares(i).and_then(|layer| keys_values[layer].clone()),
                input: inputs.as_ref().map(|inputs| of_layer(inputs, i)),
                at: at.filter(|_| i + 1 == self.model.layers.len()),
            };
            let (out, seen) = layer.forward(x, contexts.of(i), beside, pass);
            x = out;
            if (i + 1..self.model.layers.len()).any(|later| self.shares(later) == Some(i)) {
                watch.keys_values(i, &seen);
                keys_values[i] = Some(seen);
            }
        }
        watch.input(&x);
        self.model.norm.forward(x)
    }
}

/// Layer `i`'s part of all layers' inputs, `[batch · tokens, width]`.
pub(super) fn of_layer(inputs: &Tensor<3>, i: usize) -> Tensor<2> {
    inputs.clone().narrow(1, i, 1).squeeze_dim(1)
}

/// Sees what goes into the layers.
pub(super) trait Watch {
    /// The input of each layer and, last, of the final norm.
    fn input(&mut self, x: &Tensor<3>);
    /// Every layer's own input, before the first layer.
    fn layers_inputs(&mut self, inputs: &Tensor<3>);
    /// Keys and values that later layers take.
    fn keys_values(&mut self, layer: usize, seen: &KeyValues);
}

struct Discard;

impl Watch for Discard {
    fn input(&mut self, _: &Tensor<3>) {}
    fn layers_inputs(&mut self, _: &Tensor<3>) {}
    fn keys_values(&mut self, _: usize, _: &KeyValues) {}
}
