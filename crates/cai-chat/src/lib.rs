//! Models that continue dialogues: one in this process ([`LanguageModel`](cai_model::model::LanguageModel)),
//! or one behind an OpenAI-compatible server ([`Server`]). [`prefer`] asks either which of two answers is
//! better, in both orders.

mod compare;
mod error;
mod http;
mod local;
mod server;

use cai_data::record::Message;
use cai_data::seed::Seed;
use cai_model::generate::{Finish, SamplingConfig};
use cai_model::tokenizer::ChatTokenizer;
use serde::{Deserialize, Serialize};

pub use compare::{Judgement, Question, Reasoning, prefer};
pub use error::{Error, Result};
pub use server::{Server, ServerConfig};

/// What a model said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The text, without white space around it (chat templates trim it too).
    pub text: String,
    /// Whether it was cut off at the largest number of tokens.
    pub truncated: bool,
    /// Whether control tokens were among its tokens or are named in its text.
    pub control_tokens: bool,
}

impl Reply {
    /// What a model with this tokenizer generated.
    pub fn generated(tokenizer: &ChatTokenizer, text: &str, ids: &[u32], finish: Finish) -> Self {
        Reply {
            text: text.trim().to_owned(),
            truncated: finish == Finish::Length,
            control_tokens: ids.iter().any(|&id| tokenizer.is_control(id))
                || tokenizer.names_control(text),
        }
    }
}

/// A dialogue that ends with the user's turn, and what decides the draws of the reply.
#[derive(Clone, Debug, PartialEq)]
pub struct Ask {
    /// The turns.
    pub dialogue: Vec<Message>,
    /// The seed.
    pub seed: Seed,
}

/// What comes of a dialogue: an answer, or why there is none.
pub type Answered<T> = std::result::Result<T, Unanswered>;

/// Why there is no answer.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unanswered {
    /// The dialogue left no room for one in the model's context.
    NoRoom,
    /// The server refused the request.
    Rejected,
    /// The model named none of the options.
    NoAnswer,
}

impl Unanswered {
    /// The name in records and reports.
    pub fn name(self) -> &'static str {
        match self {
            Unanswered::NoRoom => "no_room",
            Unanswered::Rejected => "rejected",
            Unanswered::NoAnswer => "no_answer",
        }
    }
}

/// The control tokens of the known families' chats, as text: Gemma 1 to 3, Gemma 4, ChatML, Llama 3.
const CONTROL_TOKENS: [&str; 15] = [
    "<start_of_turn>",
    "<end_of_turn>",
    "<bos>",
    "<eos>",
    "<pad>",
    "<|turn>",
    "<turn|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
];

/// Whether a text, of whatever model, holds a control token of a known family.
pub fn names_control_tokens(text: &str) -> bool {
    CONTROL_TOKENS.iter().any(|token| text.contains(token))
}

/// A model that continues dialogues.
pub trait ChatModel {
    /// Names the model and everything about it that decides its replies.
    fn fingerprint(&self) -> &str;

    /// Why the model cannot answer this dialogue, if it is known before it is asked:
    /// `template_refused` (for instance roles that do not alternate), `prompt_too_long` (no room for
    /// the longest reply).
    ///
    /// # Errors
    ///
    /// When that cannot be found out.
    fn obstacle(
        &self,
        dialogue: &[Message],
        sampling: &SamplingConfig,
    ) -> Result<Option<&'static str>>;

    /// A reply to each dialogue, in order, in batches of `batch_size`. `on_done` hears how many more
    /// are done.
    ///
    /// # Errors
    ///
    /// What ends the run: a broken model, a server that cannot be reached.
    fn replies(
        &self,
        asks: &[Ask],
        sampling: &SamplingConfig,
        batch_size: usize,
        on_done: &mut dyn FnMut(usize),
    ) -> Result<Vec<Answered<Reply>>>;

    /// To each dialogue that asks to choose between (A) and (B), the probability of (A) among the
    /// two, in order. `on_done` hears how many more are done.
    ///
    /// # Errors
    ///
    /// As [`replies`](Self::replies).
    fn choices(
        &self,
        asks: &[Ask],
        batch_size: usize,
        on_done: &mut dyn FnMut(usize),
    ) -> Result<Vec<Answered<f64>>>;
}

/// The softmax of two log-probabilities, at the first.
fn first_share(first: f64, second: f64) -> f64 {
    1.0 / (1.0 + (second - first).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_the_options_sum_to_one() {
        for (a, b) in [(-1.0, -2.0), (-0.1, -30.0), (-900.0, -0.1), (-5.0, -5.0)] {
            let sum = first_share(a, b) + first_share(b, a);
            assert!((sum - 1.0).abs() < 1e-12, "{a} {b}: {sum}");
        }
        assert!((first_share(3f64.ln(), 0.0) - 0.75).abs() < 1e-12);
    }

    #[test]
    fn control_tokens_of_all_families_are_found() {
        for text in ["Hi<end_of_turn>", "<|im_end|>\n", "a <turn|>", "<|eot_id|>", "x<|endoftext|>"]
        {
            assert!(names_control_tokens(text), "{text}");
        }
        for text in ["<b>Hi</b>", "a <| b |> c", "turn | end"] {
            assert!(!names_control_tokens(text), "{text}");
        }
    }

    #[test]
    fn names_are_those_in_the_records() {
        for why in [Unanswered::NoRoom, Unanswered::Rejected, Unanswered::NoAnswer] {
            assert_eq!(serde_json::to_value(why).unwrap(), why.name());
        }
    }
}
