//! The rules that make two conversations a preference pair, and the count of what they leave out.

use std::collections::BTreeMap;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::jsonl::Reader;
use crate::record::{Message, PreferencePair, Role};
use crate::{Error, Result};

/// What is tolerated in a file of preference pairs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// How many lines may be malformed: not JSON, or without the fields of a pair. They are then
    /// left out and counted; one more is an error.
    pub max_malformed: usize,
}

/// The pairs of a file, and an account of the rest: `total` is the number of pairs plus all counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PairFile {
    /// The usable pairs, in the order of the file.
    pub pairs: Vec<PreferencePair>,
    /// Records left out, by the name of the reason; reasons that did not occur are absent.
    pub counts: BTreeMap<String, usize>,
    /// Records in the file; blank lines are none.
    pub total: usize,
}

impl PairFile {
    /// How many records were left out.
    pub fn left_out(&self) -> usize {
        self.counts.values().sum()
    }
}

/// Why a record is left out.
pub(crate) enum LeftOut {
    /// Its line is malformed, with what is wrong.
    Malformed(String),
    /// It breaks a rule.
    Rule(Rule),
}

impl From<Rule> for LeftOut {
    fn from(rule: Rule) -> Self {
        LeftOut::Rule(rule)
    }
}

/// What a well-formed record may break. A record counts under the first of these that it breaks.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    DoesNotStartWithHuman,
    RolesDoNotAlternate,
    NoFinalAssistantTurn,
    EmptyTurn,
    EmptyReply,
    UnequalPrompts,
    IdenticalReplies,
}

const MALFORMED: &str = "malformed_line";

impl Rule {
    fn name(self) -> &'static str {
        match self {
            Rule::DoesNotStartWithHuman => "does_not_start_with_human",
            Rule::RolesDoNotAlternate => "roles_do_not_alternate",
            Rule::NoFinalAssistantTurn => "no_final_assistant_turn",
            Rule::EmptyTurn => "empty_turn",
            Rule::EmptyReply => "empty_reply",
            Rule::UnequalPrompts => "unequal_prompts",
            Rule::IdenticalReplies => "identical_replies",
        }
    }
}

/// Reads a file of records `T`, of which `to_pair` makes pairs.
pub(crate) fn collect<T: DeserializeOwned>(
    path: &Path,
    policy: &Policy,
    mut to_pair: impl FnMut(T) -> std::result::Result<PreferencePair, LeftOut>,
) -> Result<PairFile> {
    let mut file = PairFile::default();
    for line in Reader::open(path)? {
        let (number, pair) = match line {
            Ok(line) => (line.number, to_pair(line.value)),
            Err(Error::Malformed { line, reason, .. }) => (line, Err(LeftOut::Malformed(reason))),
            Err(error) => return Err(error),
        };
        file.total += 1;
        match pair {
            Ok(pair) => file.pairs.push(pair),
            Err(LeftOut::Rule(rule)) => *file.counts.entry(rule.name().into()).or_default() += 1,
            Err(LeftOut::Malformed(reason)) => {
                let count = file.counts.entry(MALFORMED.into()).or_default();
                *count += 1;
                if *count > policy.max_malformed {
                    return Err(Error::TooManyMalformed {
                        path: path.to_owned(),
                        line: number,
                        reason,
                        count: *count,
                        allowed: policy.max_malformed,
                    });
                }
            }
        }
    }
    if file.pairs.is_empty() {
        return Err(Error::Empty { path: path.to_owned(), found: account(&file) });
    }
    Ok(file)
}

/// The pair that two conversations make: their last turns are the replies, all turns before are the
/// prompt, which they must share.
pub(crate) fn pair(
    mut chosen: Vec<Message>,
    mut rejected: Vec<Message>,
) -> std::result::Result<PreferencePair, Rule> {
    for rule in [
        Rule::DoesNotStartWithHuman,
        Rule::RolesDoNotAlternate,
        Rule::NoFinalAssistantTurn,
        Rule::EmptyTurn,
        Rule::EmptyReply,
    ] {
        if breaks(rule, &chosen) || breaks(rule, &rejected) {
            return Err(rule);
        }
    }
    let chosen_reply = chosen.split_off(chosen.len() - 1);
    let rejected_reply = rejected.split_off(rejected.len() - 1);
    if chosen != rejected {
        return Err(Rule::UnequalPrompts);
    }
    if chosen_reply == rejected_reply {
        return Err(Rule::IdenticalReplies);
    }
    Ok(PreferencePair::new(chosen, chosen_reply, rejected_reply))
}

/// The first rule that a single conversation breaks, in words for an error message.
pub(crate) fn conversation_fault(messages: &[Message]) -> Option<&'static str> {
    if breaks(Rule::NoFinalAssistantTurn, messages) {
        return Some("the last turn must be the assistant's");
    }
    if breaks(Rule::EmptyReply, messages) {
        return Some("the last turn, the assistant's reply, is empty");
    }
    prompt_fault(&messages[..messages.len() - 1])
}

/// The first rule that the turns before a reply break, in words for an error message.
pub(crate) fn prompt_fault(messages: &[Message]) -> Option<&'static str> {
    if breaks(Rule::DoesNotStartWithHuman, messages) {
        return Some("the first turn must be the user's");
    }
    if breaks(Rule::RolesDoNotAlternate, messages) {
        return Some("the roles user and assistant must alternate");
    }
    if messages.last().is_some_and(|last| last.role != Role::User) {
        return Some("the turn before the reply must be the user's");
    }
    messages.iter().any(is_blank).then_some("a turn is empty")
}

/// Whether one conversation breaks a rule; the rules about two are in [`pair`].
fn breaks(rule: Rule, messages: &[Message]) -> bool {
    match rule {
        Rule::DoesNotStartWithHuman => messages.first().is_none_or(|m| m.role != Role::User),
        Rule::RolesDoNotAlternate => messages.windows(2).any(|two| two[0].role == two[1].role),
        Rule::NoFinalAssistantTurn => messages.last().is_none_or(|m| m.role != Role::Assistant),
        Rule::EmptyTurn => messages.split_last().is_some_and(|(_, rest)| rest.iter().any(is_blank)),
        Rule::EmptyReply => messages.last().is_some_and(is_blank),
        Rule::UnequalPrompts | Rule::IdenticalReplies => false,
    }
}

fn is_blank(message: &Message) -> bool {
    message.content.trim().is_empty()
}

/// What a file without usable pairs held, in words.
fn account(file: &PairFile) -> String {
    if file.total == 0 {
        return "it has no lines".into();
    }
    let reasons: Vec<String> = file.counts.iter().map(|(name, n)| format!("{name}: {n}")).collect();
    format!("{} records left out, {}", file.total, reasons.join(", "))
}
