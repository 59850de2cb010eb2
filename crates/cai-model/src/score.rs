//! Log-probabilities of completions.

use crate::{
    Error, Result,
    gemma::Pass,
    loss::{score_tokens, trained_hidden},
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

/// Scores the trained tokens of each example, in order, in batches of consecutive examples.
/// `on_done` hears how many more examples are scored.
///
/// # Errors
///
/// [`Error::Input`] for an example longer than the model's context.
pub fn score(
    model: &LanguageModel,
    examples: &[Example],
    batch_size: usize,
    on_done: &mut dyn FnMut(usize),
) -> Result<Vec<CompletionScore>> {
    let longest = model.config.max_position_embeddings;
    if let Some((i, e)) = examples.iter().enumerate().find(|(_, e)| e.ids.len() > longest) {
        return Err(Error::Input(format!(
            "record {}: {} tokens, but the model's context is {longest}; shorten it",
            i + 1,
            e.ids.len()
        )));
    }
    let mut scores = Vec::with_capacity(examples.len());
    for batch in examples.chunks(batch_size.max(1)) {
        let refs: Vec<&Example> = batch.iter().collect();
        let trained = trained_hidden(&model.gemma, &refs, model.tokenizer.pad(), &Pass::default());
        let scored = score_tokens(&model.gemma, &trained, false);
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
