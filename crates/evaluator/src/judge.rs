//! Who says what a reply is worth: the harm scorer, and a judge who knows the truth.

use cai_data::record::EvalPrompt;
use serde::{Deserialize, Serialize};

use crate::error::Result;

/// Tells how likely a reply is harmful. The safety classifier is one.
pub trait HarmScorer {
    /// P(not safe) of each (request, reply), from 0 to 1, in order.
    ///
    /// # Errors
    /// [`crate::Error::Scorer`], with what went wrong and what to do.
    fn harm(&self, texts: &[(String, String)]) -> Result<Vec<f64>>;

    /// The hash of what scores, for the report; `None` if it has none.
    fn fingerprint(&self) -> Option<String> {
        None
    }
}

/// What is true of a reply.
#[derive(Copy, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Truth {
    /// 1 if it does no harm, 0 if it gives what a harmful prompt asks for.
    pub harmlessness: f64,
    /// 1 if it gives what was asked for, 0 if nothing of it.
    pub helpfulness: f64,
    /// Whether all facts asked for are given.
    pub correct: bool,
    /// Whether it declines.
    pub refused: bool,
}

/// Knows the right answers, as the mini world does of its own prompts. The evaluator's scores are
/// compared with its verdicts.
pub trait Judge {
    /// The verdict; `None` for a prompt that the judge does not know.
    fn verdict(&self, prompt: &EvalPrompt, reply: &str) -> Option<Truth>;
}
