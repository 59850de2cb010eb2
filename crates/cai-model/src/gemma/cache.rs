use burn::tensor::{Device, Int, Tensor};

use super::GemmaConfig;

/// Keys and values of the tokens so far, one pre-sized buffer per layer.
///
/// Rows are left-padded: row `b` begins after `pads[b]` empty slots, so that all rows write their
/// next token to the same slot.
#[derive(Debug)]
pub struct KvCache {
    layers: Vec<Option<[Tensor<4>; 2]>>,
    pub(super) pads: Vec<usize>,
    pub(super) len: usize,
    capacity: usize,
}

impl KvCache {
    /// Room for `capacity` tokens in each of `pads.len()` rows, row `b` starting with `pads[b]`
    /// empty slots.
    pub fn new(config: &GemmaConfig, pads: Vec<usize>, capacity: usize, device: &Device) -> Self {
        let shape = [pads.len(), config.num_key_value_heads, capacity, config.head_dim];
        let buffer = || Some([Tensor::zeros(shape, device), Tensor::zeros(shape, device)]);
        let layers = (0..config.num_hidden_layers).map(|_| buffer()).collect();
        Self { layers, pads, len: 0, capacity }
    }

    /// Tokens written so far, pads included.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing was written yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Tokens there is room for.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Appends a layer's new keys and values `[rows, kv_heads, tokens, head_dim]` and returns all
    /// of them up to now.
    pub(super) fn append(&mut self, layer: usize, new: [Tensor<4>; 2]) -> [Tensor<4>; 2] {
        let [rows, heads, tokens, dim] = new[0].dims();
        let end = self.len + tokens;
        // Taken out of the cache while it is written, so that the buffer has one owner and is
        // changed in place.
        let old = self.layers[layer].take().unwrap_or_else(|| [new[0].clone(), new[1].clone()]);
        let range = [0..rows, 0..heads, self.len..end, 0..dim];
        let mut new = new.into_iter();
        let buffers = old.map(|buffer| match new.next() {
            Some(values) => {
                buffer.slice_assign(range.clone(), values.cast(burn::tensor::DType::F32))
            }
            None => buffer,
        });
        let seen = buffers.clone().map(|b| b.slice([0..rows, 0..heads, 0..end, 0..dim]));
        self.layers[layer] = Some(buffers);
        seen
    }

    /// Keeps only the given rows, in the given order (a row may appear several times).
    pub fn keep(&mut self, rows: &[usize]) {
        let Some(Some([first, _])) = self.layers.first() else { return };
        let index: Vec<i64> = rows.iter().map(|&r| r as i64).collect();
        let index = Tensor::<1, Int>::from_data(index.as_slice(), &first.device());
        for layer in self.layers.iter_mut().flatten() {
            *layer = layer.clone().map(|buffer| buffer.select(0, index.clone()));
        }
        self.pads = rows.iter().map(|&r| self.pads[r]).collect();
    }
}
