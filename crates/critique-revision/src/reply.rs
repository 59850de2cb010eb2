//! Replies of a model to dialogues, as far as these fit its context.

use std::collections::BTreeMap;

use cai_data::record::{Message, Role};
use cai_data::seed::Seed;
use cai_model::generate::{Finish, Generation, SamplingConfig, generate};
use cai_model::model::LanguageModel;
use cai_train::Progress;

use crate::{CritiquePrompt, Error, Result};

/// What a model said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The text, without white space around it (chat templates trim it too).
    pub text: String,
    /// Whether it was cut off at the largest number of tokens.
    pub truncated: bool,
    /// Whether control tokens were among its tokens.
    pub control_tokens: bool,
}

impl Reply {
    fn new(model: &LanguageModel, generation: &Generation) -> Result<Self> {
        let tokenizer = &model.tokenizer;
        let with_special = tokenizer.decode_with_special(&generation.ids)?;
        Ok(Self {
            text: generation.text.trim().to_owned(),
            truncated: generation.finish == Finish::Length,
            control_tokens: with_special != tokenizer.decode(&generation.ids)?,
        })
    }
}

/// Whether a prompt of `tokens` leaves room for the longest reply.
fn fits(model: &LanguageModel, tokens: usize, sampling: &SamplingConfig) -> bool {
    tokens + sampling.max_new_tokens <= model.config.max_position_embeddings
}

/// A reply to each dialogue, in order; `None` where the dialogue is absent or leaves no room for
/// the longest reply. `seeds[i]` decides the draws of dialogue `i`.
pub fn replies(
    model: &LanguageModel,
    dialogues: &[Option<Vec<Message>>],
    sampling: &SamplingConfig,
    seeds: &[Seed],
    batch_size: usize,
    progress: &mut Progress,
) -> Result<Vec<Option<Reply>>> {
    let (mut rows, mut prompts, mut row_seeds) = (Vec::new(), Vec::new(), Vec::new());
    for (i, dialogue) in dialogues.iter().enumerate() {
        let Some(dialogue) = dialogue else { continue };
        let ids = model.tokenizer.prompt(dialogue)?;
        if fits(model, ids.len(), sampling) {
            rows.push(i);
            prompts.push(ids);
            row_seeds.push(seeds[i]);
        }
    }
    progress.advance((dialogues.len() - rows.len()) as u64);
    let on_done = &mut |finished| progress.advance(finished as u64);
    let generations = generate(model, &prompts, sampling, &row_seeds, batch_size, on_done)?;
    let mut replies = vec![None; dialogues.len()];
    for (row, generation) in rows.into_iter().zip(&generations) {
        replies[row] = Some(Reply::new(model, generation)?);
    }
    Ok(replies)
}

/// The prompts that the model can answer, in order, and how many were left out for which reason:
/// `no_request` (the last turn is not the user's), `template_refused` (for instance roles that do
/// not alternate), `prompt_too_long` (no room for the longest answer).
///
/// # Errors
///
/// [`Error::NothingLeft`] when there is none.
pub fn usable(
    model: &LanguageModel,
    prompts: &[CritiquePrompt],
    sampling: &SamplingConfig,
) -> Result<(Vec<CritiquePrompt>, BTreeMap<String, usize>)> {
    let mut left_out = BTreeMap::<String, usize>::new();
    let mut kept = Vec::with_capacity(prompts.len());
    for prompt in prompts {
        let asks = prompt.prompt.last().is_some_and(|message| message.role == Role::User);
        let reason = match model.tokenizer.prompt(&prompt.prompt) {
            _ if !asks => "no_request",
            Err(cai_model::Error::Template { .. }) => "template_refused",
            Err(error) => return Err(error.into()),
            Ok(ids) if !fits(model, ids.len(), sampling) => "prompt_too_long",
            Ok(_) => {
                kept.push(prompt.clone());
                continue;
            }
        };
        *left_out.entry(reason.into()).or_default() += 1;
    }
    if kept.is_empty() {
        let reasons: Vec<String> =
            left_out.iter().map(|(reason, n)| format!("{n} {reason}")).collect();
        let counts = format!("{} given, left out: [{}]", prompts.len(), reasons.join(", "));
        return Err(Error::NothingLeft { counts });
    }
    Ok((kept, left_out))
}
