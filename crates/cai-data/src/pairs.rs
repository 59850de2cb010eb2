//! The rules that make two conversations a preference pair, and the count of what they leave out.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::jsonl::Line;
use crate::record::{Message, PreferencePair, Role};
use crate::{Error, Result};

/// What is tolerated in a file of records.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// How many lines may be malformed: not JSON, or without the fields of a record. They are then
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

/// The records of a file that can be used, and an account of the rest: `total` is the number of records
/// plus all counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Usable<T> {
    /// The records, in the order of the file.
    pub records: Vec<T>,
    /// Records left out, by the name of the reason; reasons that did not occur are absent.
    pub counts: BTreeMap<String, usize>,
    /// Records in the file; blank lines are none.
    pub total: usize,
}

impl<T> Usable<T> {
    /// Leaves out the records that `which` says, one by one in their order, and counts them.
    pub fn leave_out(&mut self, reason: &str, mut which: impl FnMut(&T) -> bool) {
        let before = self.records.len();
        self.records.retain(|record| !which(record));
        let left_out = before - self.records.len();
        if left_out > 0 {
            *self.counts.entry(reason.to_owned()).or_default() += left_out;
        }
    }
}

impl From<Usable<PreferencePair>> for PairFile {
    fn from(Usable { records: pairs, counts, total }: Usable<PreferencePair>) -> Self {
        PairFile { pairs, counts, total }
    }
}

/// Why a record is left out.
pub(crate) enum LeftOut {
    /// Its line is malformed, with what is wrong.
    Malformed(String),
    /// It breaks a rule.
    Rule(Rule),
}

impl LeftOut {
    /// What is wrong with the record, in words.
    pub(crate) fn reason(self) -> String {
        match self {
            LeftOut::Malformed(reason) => reason,
            LeftOut::Rule(rule) => rule.words().into(),
        }
    }
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
    NoFinalUserTurn,
    EmptyTurn,
    EmptyReply,
    EmptyReference,
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
            Rule::NoFinalUserTurn => "no_final_user_turn",
            Rule::EmptyTurn => "empty_turn",
            Rule::EmptyReply => "empty_reply",
            Rule::EmptyReference => "empty_reference",
            Rule::UnequalPrompts => "unequal_prompts",
            Rule::IdenticalReplies => "identical_replies",
        }
    }

    /// For an error message.
    fn words(self) -> &'static str {
        match self {
            Rule::DoesNotStartWithHuman => "the first turn must be the user's",
            Rule::RolesDoNotAlternate => "the roles user and assistant must alternate",
            Rule::NoFinalAssistantTurn => "the last turn must be the assistant's",
            Rule::NoFinalUserTurn => "the turn before the reply must be the user's",
            Rule::EmptyTurn => "a turn is empty",
            Rule::EmptyReply => "the last turn, the assistant's reply, is empty",
            Rule::EmptyReference => "the reference is empty; give a good answer or none",
            Rule::UnequalPrompts => "the turns before both replies must be the same",
            Rule::IdenticalReplies => "both replies are the same",
        }
    }
}

/// The records that `parse` makes of the `lines` of a file.
pub(crate) fn collect<T, R>(
    path: &Path,
    lines: impl Iterator<Item = Result<Line<T>>>,
    policy: &Policy,
    mut parse: impl FnMut(Line<T>) -> std::result::Result<R, LeftOut>,
) -> Result<Usable<R>> {
    let mut file = Usable { records: Vec::new(), counts: BTreeMap::new(), total: 0 };
    for line in lines {
        let (number, parsed) = match line {
            Ok(line) => (line.number, parse(line)),
            Err(Error::Malformed { line, reason, .. }) => (line, Err(LeftOut::Malformed(reason))),
            Err(error) => return Err(error),
        };
        file.total += 1;
        match parsed {
            Ok(record) => file.records.push(record),
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
    if file.records.is_empty() {
        let found = account(file.total, &file.counts);
        return Err(Error::Empty { path: path.to_owned(), found });
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

/// The first rule that a single conversation breaks.
pub(crate) fn conversation_fault(messages: &[Message]) -> Option<Rule> {
    let of_reply = [Rule::NoFinalAssistantTurn, Rule::EmptyReply];
    let broken = of_reply.into_iter().find(|rule| breaks(*rule, messages));
    broken.or_else(|| prompt_fault(&messages[..messages.len() - 1]))
}

/// The first rule that the turns before a reply break.
pub(crate) fn prompt_fault(messages: &[Message]) -> Option<Rule> {
    let of_prompt = [Rule::DoesNotStartWithHuman, Rule::RolesDoNotAlternate, Rule::NoFinalUserTurn];
    let broken = of_prompt.into_iter().find(|rule| breaks(*rule, messages));
    broken.or_else(|| messages.iter().any(is_blank).then_some(Rule::EmptyTurn))
}

/// Whether one conversation breaks a rule; the rules about two are in [`pair`].
fn breaks(rule: Rule, messages: &[Message]) -> bool {
    match rule {
        Rule::DoesNotStartWithHuman => messages.first().is_none_or(|m| m.role != Role::User),
        Rule::RolesDoNotAlternate => messages.windows(2).any(|two| two[0].role == two[1].role),
        Rule::NoFinalAssistantTurn => messages.last().is_none_or(|m| m.role != Role::Assistant),
        Rule::NoFinalUserTurn => messages.last().is_none_or(|m| m.role != Role::User),
        Rule::EmptyTurn => messages.split_last().is_some_and(|(_, rest)| rest.iter().any(is_blank)),
        Rule::EmptyReply => messages.last().is_some_and(is_blank),
        Rule::EmptyReference | Rule::UnequalPrompts | Rule::IdenticalReplies => false,
    }
}

fn is_blank(message: &Message) -> bool {
    message.content.trim().is_empty()
}

/// What a file without usable records held, in words.
fn account(total: usize, counts: &BTreeMap<String, usize>) -> String {
    if total == 0 {
        return "it has no lines".into();
    }
    let reasons: Vec<String> = counts.iter().map(|(name, n)| format!("{name}: {n}")).collect();
    format!("{total} records left out, {}", reasons.join(", "))
}
