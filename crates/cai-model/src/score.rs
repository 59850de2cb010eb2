//! Log-probabilities of completions.

use crate::{
    Error, Result,
    decoder::Pass,
    device::among_workers,
    loss::{packed_hidden, score_tokens},
    model::LanguageModel,
    tokenizer::Example,
};

/// How likely a completion is, given what stands before it.
#[derive(Clone, Debug, PartialEq)]
pub struct CompletionScore {
    /// Sum over the completion's tokens, natural logarithm.
    pub logprob: f64,
    /// Tokens in the sum.
    pub tokens: usize,
    /// Each token's.
    pub token_logprobs: Vec<f32>,
    /// Tokens that were the most likely one.
    pub correct: usize,
}

/// How the log-probabilities of the same tokens differ between two models.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogprobChange {
    /// Tokens compared.
    pub tokens: usize,
    /// Mean log-probability of a token before.
    pub before: f64,
    /// Mean log-probability of a token after.
    pub after: f64,
    /// Mean absolute change of a token's log-probability.
    pub mean_absolute: f64,
    /// Largest absolute change of a token's log-probability.
    pub largest: f64,
}

impl LogprobChange {
    /// Compares the scores of the same examples, of which at least one has a token.
    pub fn new(before: &[CompletionScore], after: &[CompletionScore]) -> Self {
        let tokens = |scores: &[CompletionScore]| -> Vec<f64> {
            scores.iter().flat_map(|s| s.token_logprobs.iter().map(|&x| x as f64)).collect()
        };
        let (before, after) = (tokens(before), tokens(after));
        let count = before.len();
        let changes = || before.iter().zip(&after).map(|(before, after)| (after - before).abs());
        Self {
            tokens: count,
            before: before.iter().sum::<f64>() / count as f64,
            after: after.iter().sum::<f64>() / count as f64,
            mean_absolute: changes().sum::<f64>() / count as f64,
            largest: changes().fold(0.0, f64::max),
        }
    }
}

/// Scores the trained tokens of each example, in order, in batches of consecutive examples.
/// `on_done` hears how many more examples are scored.
///
/// # Errors
///
/// [`Error::Input`] for an example longer than the model's context; [`Error::Tokenizer`] for a token
/// that the model has no row for.
pub fn score(
    model: &LanguageModel,
    examples: &[Example],
    batch_size: usize,
    on_done: &mut dyn FnMut(usize),
) -> Result<Vec<CompletionScore>> {
    let groups: Vec<&[Example]> = examples.chunks(1).collect();
    score_groups(model, &groups, batch_size, on_done)
}

/// The same for groups of examples that begin alike, such as the choices of one question: the
/// tokens that all of a group begin with are computed once. `batch_size` groups make a batch; the scores
/// are one per example, group by group.
///
/// # Errors
///
/// As [`score`].
pub fn score_groups(
    model: &LanguageModel,
    groups: &[&[Example]],
    batch_size: usize,
    on_done: &mut dyn FnMut(usize),
) -> Result<Vec<CompletionScore>> {
    let longest = model.spec.max_position_embeddings;
    let tokens = |group: &[Example]| group.iter().map(|e| e.ids.len()).max().unwrap_or(0);
    let lengths = || groups.iter().map(|group| tokens(group)).enumerate();
    if let Some((i, length)) = lengths().find(|(_, length)| *length > longest) {
        return Err(Error::Input(format!(
            "record {}: {length} tokens, but the model's context is {longest}; shorten it",
            i + 1,
        )));
    }
    for example in groups.iter().copied().flatten() {
        model.tokenizer.check_ids(&example.ids, model.spec.vocab_size)?;
    }
    let mut scores = Vec::with_capacity(groups.len());
    for batch in groups.chunks(batch_size.max(1)) {
        let groups: Vec<Vec<&Example>> = batch.iter().map(|group| group.iter().collect()).collect();
        let rows: Vec<Vec<&[&Example]>> =
            groups.iter().map(|group| vec![group.as_slice()]).collect();
        let (trained, scored) = among_workers(|| {
            let pad = model.tokenizer.pad();
            let trained = packed_hidden(&model.decoder, &rows, pad, &Pass::default());
            let scored = score_tokens(&model.decoder, &trained, false);
            (trained, scored)
        });
        for rows in &trained.rows {
            let token_logprobs = scored.logps[rows.clone()].to_vec();
            scores.push(CompletionScore {
                logprob: token_logprobs.iter().map(|&x| x as f64).sum(),
                tokens: rows.len(),
                correct: scored.correct[rows.clone()].iter().filter(|&&c| c).count(),
                token_logprobs,
            });
        }
        on_done(batch.len());
    }
    Ok(scores)
}
