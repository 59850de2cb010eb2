//! What layers of one kind share in a forward pass: rotations and visible keys.

use burn::tensor::Device;
use cai_kernels::Visibility;

use super::{AttentionSpec, DecoderSpec, attention::Context, rope::RopeTable};
use crate::batch::TokenBatch;

/// A context for each kind of layer that the model has, and which kind each layer is.
#[derive(Clone)]
pub(super) struct Contexts {
    contexts: Vec<Context>,
    /// Of each layer.
    kinds: Vec<usize>,
}

impl Contexts {
    /// For a batch of whole sequences.
    pub(super) fn of_batch(spec: &DecoderSpec, batch: &TokenBatch) -> Self {
        let visible = |window| Visibility::segments(&batch.segments, batch.width(), window);
        Self::new(spec, batch.positions(), visible, &batch.ids.device())
    }

    /// For `tokens` next tokens of rows that hold `starts` tokens.
    pub(super) fn continued(
        spec: &DecoderSpec,
        starts: &[usize],
        tokens: usize,
        device: &Device,
    ) -> Self {
        let positions = starts.iter().map(|&start| (start..start + tokens).collect()).collect();
        let visible = |window| Visibility::continued(starts, tokens, window);
        Self::new(spec, positions, visible, device)
    }

    /// `positions` are those of each row's tokens, `visible` makes the visibility for a window.
    fn new(
        spec: &DecoderSpec,
        mut positions: Vec<Vec<usize>>,
        visible: impl Fn(Option<usize>) -> Visibility,
        device: &Device,
    ) -> Self {
        if positions.iter().all(|row| *row == positions[0]) {
            positions.truncate(1);
        }
        let key = |a: &AttentionSpec| (a.rope, a.head_dim, a.window);
        let mut keys = Vec::new();
        let mut kinds = Vec::with_capacity(spec.layers.len());
        let mut contexts = Vec::new();
        for attention in spec.attentions() {
            let kind = keys.iter().position(|k| *k == key(attention)).unwrap_or_else(|| {
                keys.push(key(attention));
                let rope = RopeTable::new(attention.rope, attention.head_dim, &positions, device);
                contexts.push(Context { rope, visibility: visible(attention.window) });
                contexts.len() - 1
            });
            kinds.push(kind);
        }
        Self { contexts, kinds }
    }

    /// That of layer `i`.
    pub(super) fn of(&self, i: usize) -> &Context {
        &self.contexts[self.kinds[i]]
    }
}
