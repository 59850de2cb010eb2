//! The transcripts of Anthropic's hh-rlhf (arXiv 2204.05862, arXiv 2212.08073): one line is
//! `{"chosen": "\n\nHuman: …\n\nAssistant: …", "rejected": …}`.
//!
//! A turn begins with two newlines, `Human:` or `Assistant:`, and one space, which may be absent.
//! Everything from there to the next such mark, or to the end, is the turn's text and kept exactly:
//! further spaces and newlines at its ends are part of it, and so is a `Human:` that does not follow
//! two newlines.
//!
//! The last turn is the reply; all turns before it are the prompt, which both transcripts share. A
//! record that is not so is left out and counted under the first of these reasons that holds for
//! either transcript:
//!
//! | reason | the record is left out because |
//! |---|---|
//! | `malformed_line` | the line is not JSON or lacks a field; as many as [`Policy`] allows |
//! | `does_not_start_with_human` | the transcript begins with something else than a human turn |
//! | `roles_do_not_alternate` | two turns in a row have one role |
//! | `no_final_assistant_turn` | the last turn is the human's |
//! | `empty_turn` | a turn of the prompt is empty or white space |
//! | `empty_reply` | the last turn is empty or white space |
//! | `unequal_prompts` | the turns before the replies differ |
//! | `identical_replies` | nothing is preferred to anything |

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::jsonl::{Line, Reader};
pub use crate::pairs::{PairFile, Policy};
use crate::pairs::{Rule, collect, pair};
use crate::record::{Message, PreferencePair, Role};
use crate::{Error, Result};

pub(crate) const HUMAN: &str = "\n\nHuman:";
const ASSISTANT: &str = "\n\nAssistant:";

/// A record as hh-rlhf writes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Transcripts {
    /// The conversation that ends in the preferred reply.
    pub chosen: String,
    /// The conversation that ends in the other reply.
    pub rejected: String,
    /// Other fields.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Reads a `.jsonl` or `.jsonl.gz` file of transcripts.
///
/// # Errors
/// [`Error::Io`] when the file cannot be read, [`Error::TooManyMalformed`] for the first malformed
/// line past what `policy` allows, [`Error::Empty`] when no pair is left.
pub fn read_pairs(path: &Path, policy: &Policy) -> Result<PairFile> {
    let lines = Reader::<Transcripts>::open(path)?;
    let read = collect(path, lines, policy, |Line { value: record, .. }: Line<Transcripts>| {
        let pair = transcript_pair(&record.chosen, &record.rejected)?;
        Ok(PreferencePair { extra: record.extra, ..pair })
    });
    Ok(read?.into())
}

/// The pair that two transcripts make, or the rule that they break.
pub(crate) fn transcript_pair(
    chosen: &str,
    rejected: &str,
) -> std::result::Result<PreferencePair, Rule> {
    match (turns(chosen), turns(rejected)) {
        (Some(chosen), Some(rejected)) => pair(chosen, rejected),
        _ => Err(Rule::DoesNotStartWithHuman),
    }
}

/// The turns of a transcript, in order, with their texts exactly; `None` when it does not begin
/// with the mark of a turn.
pub fn turns(transcript: &str) -> Option<Vec<Message>> {
    let mut rest = transcript;
    let mut messages = Vec::new();
    while !rest.is_empty() {
        let (role, text) = match rest.strip_prefix(HUMAN) {
            Some(text) => (Role::User, text),
            None => (Role::Assistant, rest.strip_prefix(ASSISTANT)?),
        };
        let text = text.strip_prefix(' ').unwrap_or(text);
        let (content, after) = text.split_at(next_mark(text));
        messages.push(Message { role, content: content.into() });
        rest = after;
    }
    Some(messages)
}

/// Writes a pair as hh-rlhf does, so that reading it gives the same pair. The fields
/// `chosen_probability` and `weight` have no place there and are left out.
///
/// # Errors
/// [`Error::Invalid`] when the pair cannot be read back: a text contains the mark of a turn, a turn
/// is empty, roles do not alternate, or a completion is not one reply.
pub fn to_transcript(pair: &PreferencePair) -> Result<Transcripts> {
    let chosen = join(&pair.prompt, &pair.chosen);
    let rejected = join(&pair.prompt, &pair.rejected);
    let reread = transcript_pair(&chosen, &rejected);
    let same = reread.is_ok_and(|reread| {
        (&reread.prompt, &reread.chosen, &reread.rejected)
            == (&pair.prompt, &pair.chosen, &pair.rejected)
    });
    if same {
        return Ok(Transcripts { chosen, rejected, extra: pair.extra.clone() });
    }
    Err(Error::Invalid {
        place: "preference pair".into(),
        reason: "it cannot be written as hh-rlhf transcripts and read back; its turns must \
                 alternate, be filled, and contain no \"\\n\\nHuman:\" or \"\\n\\nAssistant:\", and \
                 each completion must be one reply"
            .into(),
    })
}

fn join(prompt: &[Message], completion: &[Message]) -> String {
    let mut transcript = String::new();
    for message in prompt.iter().chain(completion) {
        transcript.push_str(match message.role {
            Role::User => HUMAN,
            Role::Assistant => ASSISTANT,
        });
        transcript.push(' ');
        transcript.push_str(&message.content);
    }
    transcript
}

/// Where the next turn begins in `text`, or where the text ends.
fn next_mark(text: &str) -> usize {
    let human = text.find(HUMAN).unwrap_or(text.len());
    text[..human].find(ASSISTANT).unwrap_or(human)
}

#[cfg(test)]
#[path = "hh_tests.rs"]
mod tests;
