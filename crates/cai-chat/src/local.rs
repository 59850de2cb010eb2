//! A model in this process.

use cai_data::dialogue::{OPTION_A, OPTION_B};
use cai_data::record::Message;
use cai_data::seed::Seed;
use cai_model::decoder::Pass;
use cai_model::generate::{Generation, SamplingConfig, generate};
use cai_model::loss::{Trained, score_tokens, trained_hidden};
use cai_model::model::LanguageModel;
use cai_model::tokenizer::Example;

use crate::{Answered, Ask, ChatModel, Reply, Result, Unanswered};

impl ChatModel for LanguageModel {
    fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    fn obstacle(
        &self,
        dialogue: &[Message],
        sampling: &SamplingConfig,
    ) -> Result<Option<&'static str>> {
        match self.tokenizer.prompt(dialogue) {
            Err(cai_model::Error::Template { .. }) => Ok(Some("template_refused")),
            Err(error) => Err(error.into()),
            Ok(ids) if !fits(self, ids.len(), sampling) => Ok(Some("prompt_too_long")),
            Ok(_) => Ok(None),
        }
    }

    /// `None` of the dialogues is cut: one that leaves no room for the longest reply has none.
    fn replies(
        &self,
        asks: &[Ask],
        sampling: &SamplingConfig,
        batch_size: usize,
        on_done: &mut dyn FnMut(usize),
    ) -> Result<Vec<Answered<Reply>>> {
        let (mut rows, mut prompts, mut seeds): (Vec<usize>, Vec<Vec<u32>>, Vec<Seed>) =
            Default::default();
        for (i, Ask { dialogue, seed }) in asks.iter().enumerate() {
            let ids = self.tokenizer.prompt(dialogue)?;
            if fits(self, ids.len(), sampling) {
                rows.push(i);
                prompts.push(ids);
                seeds.push(*seed);
            }
        }
        on_done(asks.len() - rows.len());
        let generations = generate(self, &prompts, sampling, &seeds, batch_size, on_done)?;
        let mut replies = vec![Err(Unanswered::NoRoom); asks.len()];
        for (row, generation) in rows.into_iter().zip(&generations) {
            let Generation { text, ids, finish, .. } = generation;
            replies[row] = Ok(Reply::generated(&self.tokenizer, text, ids, *finish));
        }
        Ok(replies)
    }

    /// The probability is the softmax of the log-probabilities of the options at the first token in
    /// which the replies `(A)` and `(B)` differ: the tokens before it are the same, and those after
    /// it only end the turn. So one pass over a question serves both options.
    fn choices(
        &self,
        asks: &[Ask],
        batch_size: usize,
        on_done: &mut dyn FnMut(usize),
    ) -> Result<Vec<Answered<f64>>> {
        let choices: Vec<Option<Choice>> =
            asks.iter().map(|ask| Choice::new(self, &ask.dialogue)).collect::<Result<_>>()?;
        Ok(chances(self, &choices, batch_size, on_done))
    }
}

/// Whether a prompt of `tokens` leaves room for the longest reply.
fn fits(model: &LanguageModel, tokens: usize, sampling: &SamplingConfig) -> bool {
    tokens + sampling.max_new_tokens <= model.spec.max_position_embeddings
}

/// A question as tokens, up to where (A) and (B) part.
struct Choice {
    /// Ends with the token of (A), the only trained one.
    with_a: Example,
    /// The token of (B) in its place.
    b: u32,
}

impl Choice {
    /// `None` if it is longer than the judge's context.
    fn new(judge: &LanguageModel, dialogue: &[Message]) -> Result<Option<Self>> {
        let reply = |option| judge.tokenizer.completion(dialogue, &[Message::assistant(option)]);
        let (mut with_a, with_b) = (reply(OPTION_A)?, reply(OPTION_B)?);
        let parts = with_a.ids.iter().zip(&with_b.ids).position(|(a, b)| a != b);
        let Some(at) = parts.filter(|&at| at > 0) else {
            let reason = "the judge's tokenizer does not tell (A) from (B); use another judge";
            return Err(cai_model::Error::Input(reason.into()).into());
        };
        if at >= judge.spec.max_position_embeddings {
            return Ok(None);
        }
        with_a.ids.truncate(at + 1);
        with_a.trained = vec![false; at + 1];
        with_a.trained[at] = true;
        Ok(Some(Self { with_a, b: with_b.ids[at] }))
    }
}

/// p(A) of each choice that there is. Choices of similar length share a batch.
fn chances(
    judge: &LanguageModel,
    choices: &[Option<Choice>],
    batch_size: usize,
    on_done: &mut dyn FnMut(usize),
) -> Vec<Answered<f64>> {
    let mut order: Vec<(usize, &Choice)> =
        choices.iter().enumerate().filter_map(|(i, choice)| Some((i, choice.as_ref()?))).collect();
    order.sort_by_key(|(_, choice)| choice.with_a.ids.len());
    on_done(choices.len() - order.len());
    let mut chances = vec![Err(Unanswered::NoRoom); choices.len()];
    for batch in order.chunks(batch_size) {
        let examples: Vec<&Example> = batch.iter().map(|(_, choice)| &choice.with_a).collect();
        let a = trained_hidden(&judge.decoder, &examples, judge.tokenizer.pad(), &Pass::default());
        let log_a = score_tokens(&judge.decoder, &a, false).logps;
        let b = Trained { targets: batch.iter().map(|(_, choice)| choice.b).collect(), ..a };
        let log_b = score_tokens(&judge.decoder, &b, false).logps;
        for ((&(i, _), log_a), log_b) in batch.iter().zip(log_a).zip(log_b) {
            chances[i] = Ok(crate::first_share(log_a as f64, log_b as f64));
        }
        on_done(batch.len());
    }
    chances
}
