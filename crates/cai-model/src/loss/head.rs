//! The vocabulary projection in chunks, and gradients of the head's trained rows V: with
//! `s_tv = ∂ log p_t / ∂ logit_v` and the loss's weight w of each token,
//!
//! ```text
//! ∂V_v = Σ_t w_t · s_tv · h_t
//! ```
//!
//! Of some rows, their columns of s are kept. Of all rows they would be `[tokens, vocabulary]`: the
//! chunks are computed again once the weights are known.

use std::ops::Range;

use burn::tensor::{DType, Device, Int, Tensor};
use cai_kernels::RowScores;

use crate::decoder::Decoder;

/// Numbers of one chunk of logits: 32 MiB in f32 on CPU. On a GPU, 256 MiB: each chunk reads the head's
/// weights again, and more rows keep more of it busy.
fn chunk_numbers(device: &Device) -> usize {
    if *device == Device::flex() { 8 << 20 } else { 64 << 20 }
}

/// The tokens whose logits are computed, a chunk at a time.
#[derive(Clone)]
pub(super) struct Chunks {
    targets: Vec<u32>,
    size: usize,
}

impl Chunks {
    pub(super) fn new(decoder: &Decoder, targets: Vec<u32>) -> Self {
        let head = decoder.head();
        let size = (chunk_numbers(&head.weight.device()) / head.vocabulary()).max(1);
        Self { targets, size }
    }

    pub(super) fn ranges(&self) -> impl Iterator<Item = Range<usize>> {
        let (tokens, size) = (self.targets.len(), self.size);
        (0..tokens).step_by(size).map(move |start| start..(start + size).min(tokens))
    }

    /// Scores of the tokens `range`, whose hidden states are rows of `hidden`; with `gradient`, the
    /// slopes s, `[range, vocabulary]`.
    pub(super) fn score(
        &self,
        decoder: &Decoder,
        hidden: &Tensor<2>,
        range: Range<usize>,
        gradient: bool,
    ) -> (RowScores, Option<Tensor<2>>) {
        let rows = hidden.clone().narrow(0, range.start, range.len());
        let raw = decoder.head().project(rows).inner().cast(DType::F32);
        let softcap = decoder.spec().final_logit_softcapping;
        cai_kernels::score_rows(raw, &self.targets[range], softcap, gradient)
    }
}

/// What the gradient of the head's trained rows is made of.
pub(super) struct HeadGradient {
    decoder: Decoder,
    chunks: Chunks,
    /// Which rows are trained; all if `None`.
    index: Option<Tensor<1, Int>>,
    /// Their columns of s, a chunk each.
    slopes: Vec<Tensor<2>>,
}

impl HeadGradient {
    /// `None` where no row of the head is trained.
    pub(super) fn new(decoder: &Decoder, chunks: &Chunks) -> Option<Self> {
        let head = decoder.head();
        let rows = head.trained.filter(|rows| rows.values.is_require_grad())?;
        let index = rows.index(&head.weight.device());
        let (decoder, chunks) = (decoder.clone(), chunks.clone());
        Some(Self { decoder, chunks, index, slopes: Vec::new() })
    }

    /// Keeps what is needed of a chunk's slopes.
    pub(super) fn keep(&mut self, slopes: &Tensor<2>) {
        if let Some(index) = &self.index {
            self.slopes.push(slopes.clone().select(1, index.clone()).cast(DType::F32));
        }
    }

    /// A scalar whose backward pass gives V its gradient, for untracked hidden states `[tokens,
    /// hidden]` and weights `[tokens, 1]`.
    pub(super) fn surrogate(&self, hidden: Tensor<2>, weights: Tensor<2>) -> Tensor<1> {
        let Some(rows) = self.decoder.head().trained else {
            return Tensor::zeros([1], &hidden.device());
        };
        let gradient = match self.index {
            Some(_) => {
                let slopes = Tensor::cat(self.slopes.clone(), 0);
                slopes.transpose().matmul(hidden * weights)
            }
            None => self.of_all(hidden, weights),
        };
        (rows.values.val() * gradient).sum()
    }

    fn of_all(&self, hidden: Tensor<2>, weights: Tensor<2>) -> Tensor<2> {
        let size = [self.decoder.head().vocabulary(), hidden.dims()[1]];
        let mut total = Tensor::zeros(size, &hidden.device());
        for range in self.chunks.ranges() {
            let of = |x: &Tensor<2>| x.clone().narrow(0, range.start, range.len());
            let weighted = of(&hidden) * of(&weights);
            let (_, slopes) = self.chunks.score(&self.decoder, &hidden, range.clone(), true);
            if let Some(slopes) = slopes {
                total = total + slopes.cast(DType::F32).transpose().matmul(weighted);
            }
        }
        total
    }
}
