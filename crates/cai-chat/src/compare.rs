//! Which of two answers a feedback model prefers (section 4.1 of the paper).

use cai_data::dialogue::{preference_prompt, reasoned_preference_prompt, reasoning_prompt};
use cai_data::record::Message;
use cai_data::seed::Seed;
use cai_model::generate::SamplingConfig;
use serde::{Deserialize, Serialize};

use crate::{Answered, Ask, ChatModel, Reply, Result, Unanswered};

/// What the feedback model says of two answers under one principle, asked in both orders.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// The principle's id.
    pub principle: String,
    /// The probability that the first is better when it is shown as (A).
    pub p_ab: f64,
    /// The probability that the first is better when it is shown as (B).
    pub p_ba: f64,
    /// What the feedback model thought before it chose, in both orders, if it was asked to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<[String; 2]>,
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

/// Two answers to one conversation, to be compared.
#[derive(Copy, Clone, Debug)]
pub struct Question<'a> {
    /// The turns that were answered.
    pub prompt: &'a [Message],
    /// Names the question: a principle's id.
    pub principle: &'a str,
    /// What is asked about the two.
    pub question: &'a str,
    /// One answer.
    pub first: &'a str,
    /// The other.
    pub second: &'a str,
}

/// How the feedback model reasons before it chooses (chain of thought, section 4.1).
#[derive(Copy, Clone, Debug)]
pub struct Reasoning<'a> {
    /// How the reasoning is sampled.
    pub sampling: &'a SamplingConfig,
    /// Decides the draws, together with the question.
    pub seed: Seed,
}

/// The judgement of each question, in order, or why there is none. Runs in batches of
/// `batch_size`; `on_done` hears how many more steps are done, of which a question takes two, one for
/// each order, and as many again for `reasoning`.
///
/// # Errors
///
/// When the chat template refuses a question, the tokenizer has one and the same token for both
/// options, or a server fails.
pub fn prefer(
    judge: &dyn ChatModel,
    questions: &[Question],
    reasoning: Option<Reasoning>,
    batch_size: usize,
    on_done: &mut dyn FnMut(usize),
) -> Result<Vec<Answered<Judgement>>> {
    let mut asked = Vec::with_capacity(2 * questions.len());
    for Question { prompt, question, first, second, .. } in questions {
        for (a, b) in [(first, second), (second, first)] {
            asked.push(preference_prompt(prompt, question, a, b));
        }
    }
    let thoughts = match reasoning {
        Some(reasoning) => Some(think(judge, &asked, reasoning, batch_size, on_done)?),
        None => None,
    };
    // A question without a thought, where one was asked for, is not asked.
    let thought = |i: usize| thoughts.as_ref().map(|thoughts| thoughts[i].as_ref());
    let mut open = Vec::with_capacity(asked.len());
    let mut asks = Vec::with_capacity(asked.len());
    for (i, question) in asked.into_iter().enumerate() {
        let dialogue = match thought(i) {
            None => question,
            Some(Ok(thought)) => reasoned_preference_prompt(question, thought),
            Some(Err(_)) => continue,
        };
        open.push(i);
        asks.push(Ask { dialogue, seed: Seed(0) });
    }
    on_done(2 * questions.len() - open.len());
    let mut chances: Vec<Answered<f64>> = (0..2 * questions.len())
        .map(|i| thought(i).map_or(Ok(0.5), |thought| thought.map(|_| 0.5).map_err(|why| *why)))
        .collect();
    for (i, chance) in open.into_iter().zip(judge.choices(&asks, batch_size, on_done)?) {
        chances[i] = chance;
    }
    let judgement = |(i, question): (usize, &Question)| -> Answered<Judgement> {
        let text = |i: usize| thought(i).and_then(|thought| thought.ok().cloned());
        Ok(Judgement {
            principle: question.principle.to_owned(),
            p_ab: chances[2 * i]?,
            p_ba: 1.0 - chances[2 * i + 1]?,
            reasoning: text(2 * i).zip(text(2 * i + 1)).map(|(ab, ba)| [ab, ba]),
        })
    };
    Ok(questions.iter().enumerate().map(judgement).collect())
}

/// What the judge thinks of each question, drawn from the question's own words.
fn think(
    judge: &dyn ChatModel,
    questions: &[Vec<Message>],
    reasoning: Reasoning,
    batch_size: usize,
    on_done: &mut dyn FnMut(usize),
) -> Result<Vec<Answered<String>>> {
    let asks: Vec<Ask> = questions
        .iter()
        .map(|question| {
            let words: String = question.iter().map(|turn| turn.content.as_str()).collect();
            let seed = reasoning.seed.derive("reasoning").derive(&words);
            Ask { dialogue: reasoning_prompt(question.clone()), seed }
        })
        .collect();
    let replies = judge.replies(&asks, reasoning.sampling, batch_size, on_done)?;
    let thought = |reply: Reply| match reply.text.is_empty() {
        true => Err(Unanswered::NoAnswer),
        false => Ok(reply.text),
    };
    Ok(replies.into_iter().map(|reply| reply.and_then(thought)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averaging_over_orders_takes_a_preference_for_a_position_out() {
        // 0.7 for the first by content, 0.2 more for whatever is shown as (A).
        let judgement = Judgement { principle: "p".into(), p_ab: 0.9, p_ba: 0.5, reasoning: None };
        assert!((judgement.first_probability() - 0.7).abs() < 1e-12);
        assert!((judgement.position_bias() - 0.2).abs() < 1e-12);
        assert!(!judgement.orders_agree());
    }
}
