//! Which of two answers a feedback model prefers (section 4.1 of the paper).

use cai_data::constitution::{Constitution, Principle};
use cai_data::dialogue::{OPTION_A, OPTION_B, preference_prompt};
use cai_data::record::Message;
use cai_data::seed::Seed;
use cai_model::gemma::Pass;
use cai_model::loss::{Trained, score_tokens, trained_hidden};
use cai_model::model::LanguageModel;
use cai_model::tokenizer::Example;
use serde::{Deserialize, Serialize};

use crate::Result;

/// What the feedback model says of two answers under one principle, asked in both orders.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// The principle's id.
    pub principle: String,
    /// The probability that the first is better when it is shown as (A).
    pub p_ab: f64,
    /// The probability that the first is better when it is shown as (B).
    pub p_ba: f64,
}

impl Judgement {
    /// The probability that the first is better, averaged over the orders: a preference for one
    /// position falls out.
    pub fn first_probability(&self) -> f64 {
        (self.p_ab + self.p_ba) / 2.0
    }

    /// The mean probability of the answer shown as (A), minus a half: 0 without a preference for a
    /// position.
    pub fn position_bias(&self) -> f64 {
        (self.p_ab + 1.0 - self.p_ba) / 2.0 - 0.5
    }

    /// Whether the same answer is preferred in both orders.
    pub fn orders_agree(&self) -> bool {
        (self.p_ab > 0.5) == (self.p_ba > 0.5)
    }
}

/// Two answers to one conversation, to be compared under a principle.
#[derive(Copy, Clone, Debug)]
pub struct Question<'a> {
    /// The turns that were answered.
    pub prompt: &'a [Message],
    /// The principle.
    pub principle: &'a Principle,
    /// One answer.
    pub first: &'a str,
    /// The other.
    pub second: &'a str,
}

/// The judgement of each question, in order; `None` where a question is longer than the judge's
/// context. Runs in batches of `batch_size`; `on_done` hears how many more of two orders per
/// question are done.
///
/// p(A) is the softmax of the log-probabilities of the options at the first token in which the
/// replies `(A)` and `(B)` differ: the tokens before it are the same, and those after it only end
/// the turn. So one pass over a question serves both options.
///
/// # Errors
///
/// When the chat template refuses the question, or the tokenizer has one and the same token for
/// both options.
pub fn prefer(
    judge: &LanguageModel,
    questions: &[Question],
    batch_size: usize,
    on_done: &mut dyn FnMut(usize),
) -> Result<Vec<Option<Judgement>>> {
    let mut asked = Vec::with_capacity(2 * questions.len());
    for Question { prompt, principle, first, second } in questions {
        for (a, b) in [(first, second), (second, first)] {
            let dialogue = preference_prompt(prompt, &principle.preference_question, a, b);
            asked.push(Choice::new(judge, &dialogue)?);
        }
    }
    let chances = chances(judge, &asked, batch_size, on_done);
    let judgement = |(question, chances): (&Question, &[Option<f64>])| {
        let (&[Some(p_ab), Some(first_is_worse)], principle) = (chances, question.principle) else {
            return None;
        };
        Some(Judgement { principle: principle.id.clone(), p_ab, p_ba: 1.0 - first_is_worse })
    };
    Ok(questions.iter().zip(chances.chunks(2)).map(judgement).collect())
}

/// At most `count` different principles, drawn by weight without replacement.
pub(crate) fn draw(constitution: &Constitution, count: usize, seed: Seed) -> Vec<Principle> {
    let mut left = constitution.clone();
    let mut drawn = Vec::with_capacity(count);
    while drawn.len() < count && !left.principles.is_empty() {
        let principle = left.sample(seed.index(drawn.len() as u64)).clone();
        left.principles.retain(|other| other.id != principle.id);
        drawn.push(principle);
    }
    drawn
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
        if at >= judge.config.max_position_embeddings {
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
) -> Vec<Option<f64>> {
    let mut order: Vec<(usize, &Choice)> =
        choices.iter().enumerate().filter_map(|(i, choice)| Some((i, choice.as_ref()?))).collect();
    order.sort_by_key(|(_, choice)| choice.with_a.ids.len());
    on_done(choices.len() - order.len());
    let mut chances = vec![None; choices.len()];
    for batch in order.chunks(batch_size) {
        let examples: Vec<&Example> = batch.iter().map(|(_, choice)| &choice.with_a).collect();
        let a = trained_hidden(&judge.gemma, &examples, judge.tokenizer.pad(), &Pass::default());
        let log_a = score_tokens(&judge.gemma, &a, false).logps;
        let b = Trained { targets: batch.iter().map(|(_, choice)| choice.b).collect(), ..a };
        let log_b = score_tokens(&judge.gemma, &b, false).logps;
        for ((&(i, _), log_a), log_b) in batch.iter().zip(log_a).zip(log_b) {
            chances[i] = Some(first_share(log_a as f64, log_b as f64));
        }
        on_done(batch.len());
    }
    chances
}

/// The softmax of two log-probabilities, at the first.
fn first_share(first: f64, second: f64) -> f64 {
    1.0 / (1.0 + (second - first).exp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cai_data::constitution::Category;

    #[test]
    fn shares_of_the_options_sum_to_one() {
        for (a, b) in [(-1.0, -2.0), (-0.1, -30.0), (-900.0, -0.1), (-5.0, -5.0)] {
            let sum = first_share(a, b) + first_share(b, a);
            assert!((sum - 1.0).abs() < 1e-12, "{a} {b}: {sum}");
        }
        assert!((first_share(3f64.ln(), 0.0) - 0.75).abs() < 1e-12);
    }

    #[test]
    fn averaging_over_orders_takes_a_preference_for_a_position_out() {
        // 0.7 for the first by content, 0.2 more for whatever is shown as (A).
        let judgement = Judgement { principle: "p".into(), p_ab: 0.9, p_ba: 0.5 };
        assert!((judgement.first_probability() - 0.7).abs() < 1e-12);
        assert!((judgement.position_bias() - 0.2).abs() < 1e-12);
        assert!(!judgement.orders_agree());
    }

    #[test]
    fn principles_are_drawn_once_each() {
        let principle = |i: usize| Principle {
            id: i.to_string(),
            category: Category::Fairness,
            weight: 1.0 + i as f64,
            critique_request: "c".into(),
            revision_request: "r".into(),
            preference_question: "q".into(),
        };
        let constitution =
            Constitution { name: "n".into(), principles: (0..5).map(principle).collect() };
        let ids = |count, seed| -> Vec<String> {
            draw(&constitution, count, Seed(seed)).into_iter().map(|p| p.id).collect()
        };
        assert_eq!(ids(3, 1), ids(5, 1)[..3]);
        let mut all = ids(9, 2);
        all.sort();
        assert_eq!(all, ["0", "1", "2", "3", "4"]);
    }
}
