//! Completion log-probabilities for training, in chunks of the vocabulary projection.
//!
//! The head is frozen, so the gradient of a token's log-probability with respect to its hidden
//! state, `(e_target − Σ_v p_v e_v)`, is known as soon as the probabilities are. It is kept as one
//! `[tokens, hidden]` tensor, and a loss is expressed as a weight per token: no `[tokens,
//! vocabulary]` tensor outlives its chunk, and autodiff never sees one.

mod head;

use std::ops::Range;

use burn::tensor::{DType, Int, Tensor, TensorData, activation::log_softmax};

use cai_kernels::RowScores;

use head::{Chunks, HeadGradient};

use crate::{
    Result,
    batch::{Segment, TokenBatch},
    decoder::{Decoder, Pass, Replay},
    tokenizer::Example,
};

/// The trained tokens of a batch: their hidden states and targets.
pub struct Trained {
    /// Hidden state that predicts each trained token, `[tokens, hidden]`.
    pub hidden: Tensor<2>,
    /// The tokens themselves.
    pub targets: Vec<u32>,
    /// Which of them belong to each example.
    pub rows: Vec<Range<usize>>,
    /// How to get gradients if the layers are run again for them.
    pub replay: Option<Replay>,
}

/// Runs the decoder over right-padded `examples` and picks the hidden states before trained tokens.
///
/// Tracked if the model has parameters on an autodiff device; with `pass.recompute` untracked, and
/// gradients come from running the layers again.
pub fn trained_hidden(decoder: &Decoder, examples: &[&Example], pad: u32, pass: &Pass) -> Trained {
    let rows: Vec<PackedRow> =
        examples.iter().map(|example| PackedRow::new(&[&[example]])).collect();
    run(decoder, &rows, pad, pass)
}

/// The same for rows of several groups of examples each; the result's `rows` are one per example,
/// row by row, group by group.
///
/// Examples of one group that begin with the same tokens, as the two sides of a preference pair
/// do, share them: these are computed once. Other than that no example sees another. A group of one
/// example is that example alone; several groups in a row are packing.
pub fn packed_hidden(
    decoder: &Decoder,
    rows: &[Vec<&[&Example]>],
    pad: u32,
    pass: &Pass,
) -> Trained {
    let rows: Vec<PackedRow> = rows.iter().map(|groups| PackedRow::new(groups)).collect();
    run(decoder, &rows, pad, pass)
}

/// One row under construction: its tokens, and where those of each example stand.
struct PackedRow<'a> {
    ids: Vec<u32>,
    segments: Vec<Segment>,
    examples: Vec<Placed<'a>>,
}

/// An example of which the first `shared` tokens stand from slot `start`, the others from `own`.
struct Placed<'a> {
    example: &'a Example,
    start: usize,
    shared: usize,
    own: usize,
}

impl Placed<'_> {
    fn slot(&self, token: usize) -> usize {
        match token < self.shared {
            true => self.start + token,
            false => self.own + token - self.shared,
        }
    }
}

impl<'a> PackedRow<'a> {
    fn new(groups: &[&[&'a Example]]) -> Self {
        let mut row = Self { ids: Vec::new(), segments: Vec::new(), examples: Vec::new() };
        for group in groups {
            row.add(group);
        }
        row
    }

    fn add(&mut self, group: &[&'a Example]) {
        let shared = match group {
            [first, others @ ..] if !others.is_empty() => {
                let common = |other: &&Example| {
                    first.ids.iter().zip(&other.ids).take_while(|(a, b)| a == b).count()
                };
                others.iter().map(common).min().unwrap_or(0)
            }
            _ => 0,
        };
        let start = self.ids.len();
        let parent = (shared > 0).then(|| self.segment(&group[0].ids[..shared], None));
        for example in group {
            let own = self.ids.len();
            self.segment(&example.ids[shared..], parent);
            self.examples.push(Placed { example, start, shared, own });
        }
    }

    /// Adds a segment and returns its number.
    fn segment(&mut self, ids: &[u32], parent: Option<usize>) -> usize {
        self.segments.push(Segment { start: self.ids.len(), len: ids.len(), parent });
        self.ids.extend(ids);
        self.segments.len() - 1
    }
}

fn run(decoder: &Decoder, rows: &[PackedRow], pad: u32, pass: &Pass) -> Trained {
    let device = decoder.head().weight.device();
    let ids: Vec<&[u32]> = rows.iter().map(|row| row.ids.as_slice()).collect();
    let segments = rows.iter().map(|row| row.segments.clone()).collect();
    let batch = TokenBatch { segments, ..TokenBatch::right(&ids, pad, &device) };
    let width = batch.width();
    let mut index = Vec::new();
    let mut targets = Vec::new();
    let mut ranges = Vec::new();
    for (r, row) in rows.iter().enumerate() {
        for placed in &row.examples {
            let begin = targets.len();
            let Example { ids, trained } = placed.example;
            // The first token has no token before it that could predict it.
            for t in (1..ids.len()).filter(|&t| trained[t]) {
                index.push((r * width + placed.slot(t - 1)) as i64);
                targets.push(ids[t]);
            }
            ranges.push(begin..targets.len());
        }
    }
    let at = Tensor::<1, Int>::from_data(index.as_slice(), &device);
    let (hidden, replay) = match pass.recompute {
        // Nothing is trained: nothing to run, and Burn reads a size of 0 as "the same as before".
        _ if targets.is_empty() => (Tensor::zeros([0, decoder.spec().hidden_size], &device), None),
        true => {
            let (hidden, replay) = decoder.hidden_with_replay(&batch, &at, pass);
            (hidden, Some(replay))
        }
        false => (decoder.hidden_at(&batch, &at, pass), None),
    };
    Trained { hidden, targets, rows: ranges, replay }
}

/// Log-probabilities of trained tokens and what is known from the same pass.
pub struct ScoredTokens {
    /// `log p(token | before)`, natural logarithm.
    pub logps: Vec<f32>,
    /// Entropy of the distribution the token was drawn from, in nats.
    pub entropy: Vec<f32>,
    /// Whether the token was the most likely one.
    pub correct: Vec<bool>,
    /// Mean of the logits over the vocabulary.
    pub mean_logits: Vec<f32>,
    /// `log Σ_v p(v)²`: the expected log-probability bound that WPO compares with.
    pub log_sum_squares: Vec<f32>,
    hidden: Tensor<2>,
    replay: Option<Replay>,
    unit_grad: Option<Tensor<2>>,
    /// How the head's trained rows get theirs.
    head: Option<HeadGradient>,
}

impl ScoredTokens {
    /// A scalar whose backward pass gives `Σ_t weights[t] · ∇ log p_t`. Its value means nothing.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Input`] when the tokens were scored without gradient.
    pub fn surrogate(&self, weights: &[f32]) -> Result<Tensor<1>> {
        let Some(unit_grad) = &self.unit_grad else {
            return Err(crate::Error::Input("scored without gradient".into()));
        };
        let device = unit_grad.device();
        let column = TensorData::new(weights.to_vec(), [weights.len(), 1]);
        let column = Tensor::<2>::from_data(column, &device);
        let grad = unit_grad.clone() * column.clone();
        let below = match &self.replay {
            Some(replay) => replay.surrogate(grad.cast(self.hidden.dtype())),
            None => (self.hidden.clone().cast(DType::F32) * grad).sum(),
        };
        let hidden = self.hidden.clone().inner().cast(DType::F32);
        Ok(match &self.head {
            Some(head) => below + head.surrogate(hidden, column),
            None => below,
        })
    }
}

/// Scores each trained token; with `gradient`, keeps what [`ScoredTokens::surrogate`] needs.
pub fn score_tokens(decoder: &Decoder, trained: &Trained, gradient: bool) -> ScoredTokens {
    let head = decoder.head();
    let tokens = trained.targets.len();
    let hidden = trained.hidden.clone().inner();
    let chunks = Chunks::new(decoder, trained.targets.clone());
    let mut head_gradient = HeadGradient::new(decoder, &chunks).filter(|_| gradient && tokens > 0);
    let (mut scores, mut grads) = (Vec::new(), Vec::new());
    for range in chunks.ranges() {
        let (rows, slopes) = chunks.score(decoder, &hidden, range, gradient);
        scores.push(rows);
        if let Some(slopes) = slopes {
            if let Some(gradient) = &mut head_gradient {
                gradient.keep(&slopes);
            }
            // ∂ log p / ∂h = ∂ log p / ∂raw · E
            grads.push(head.project_back(slopes.cast(hidden.dtype())).cast(DType::F32));
        }
    }
    let mut scored = ScoredTokens {
        logps: Vec::with_capacity(tokens),
        entropy: Vec::with_capacity(tokens),
        correct: Vec::with_capacity(tokens),
        mean_logits: Vec::with_capacity(tokens),
        log_sum_squares: Vec::with_capacity(tokens),
        hidden: trained.hidden.clone(),
        replay: trained.replay.clone(),
        unit_grad: (gradient && tokens > 0).then(|| Tensor::cat(grads, 0)),
        head: head_gradient,
    };
    // Read when all are on their way: a GPU is waited for once.
    for row in scores.into_iter().flat_map(RowScores::read) {
        scored.logps.push(row.logp);
        scored.entropy.push(row.entropy);
        scored.correct.push(row.correct);
        scored.mean_logits.push(row.mean_logit);
        scored.log_sum_squares.push(row.log_sum_squares);
    }
    scored
}

/// Mean-able cross-entropy when the head itself is trained (pretraining): the summed negative
/// log-probability as a tracked scalar, through full logits of the trained tokens.
pub fn full_cross_entropy(decoder: &Decoder, trained: Trained) -> Tensor<1> {
    let device = decoder.head().weight.device();
    let ids: Vec<i64> = trained.targets.iter().map(|&t| t as i64).collect();
    let target = Tensor::<1, Int>::from_data(ids.as_slice(), &device);
    let logps = log_softmax(decoder.logits(trained.hidden), 1);
    logps.gather(1, target.unsqueeze_dim(1)).sum().neg()
}
