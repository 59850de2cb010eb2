//! What may stand around a request: an opener, a closer, a greeting exchange before it.

use super::phrasings::Split;
use super::{Rng, pick};
use crate::record::Message;
use rand::RngExt;

/// Per cent of requests that open with a plain opener, and with a persona.
const OPENER_PERCENT: u32 = 28;
const PERSONA_PERCENT: u32 = 12;
/// Per cent of requests that have a closer.
const CLOSER_PERCENT: u32 = 30;
/// Per cent of conversations in which a greeting exchange comes first.
const GREETING_PERCENT: u32 = 10;

/// What stands around one request.
pub(super) struct Frame {
    greeting: Option<(&'static str, &'static str)>,
    opener: Option<&'static str>,
    closer: Option<&'static str>,
    /// The group that a persona opener names.
    pub(super) group: Option<&'static str>,
}

impl Frame {
    /// Draws a frame.
    pub(super) fn draw(split: Split, rng: &mut Rng) -> Frame {
        let greeting =
            (rng.random_range(0..100) < GREETING_PERCENT).then(|| *pick(rng, &GREETINGS));
        let (opener, group) = match rng.random_range(0..100) {
            roll if roll < OPENER_PERCENT => (Some(*pick(rng, openers(split))), None),
            roll if roll < OPENER_PERCENT + PERSONA_PERCENT => {
                let (group, opener) = *pick(rng, &PERSONAS);
                (Some(opener), Some(group))
            }
            _ => (None, None),
        };
        let closer =
            (rng.random_range(0..100) < CLOSER_PERCENT).then(|| *pick(rng, closers(split)));
        Frame { greeting, opener, closer, group }
    }

    /// The request with opener and closer: the text of the last turn.
    pub(super) fn turn(&self, request: &str) -> String {
        let parts = [self.opener, Some(request), self.closer];
        parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
    }

    /// The conversation up to and with the request.
    pub(super) fn prompt(&self, request: &str) -> Vec<Message> {
        let mut messages = Vec::new();
        if let Some((hello, reply)) = self.greeting {
            messages.push(Message::user(hello));
            messages.push(Message::assistant(reply));
        }
        messages.push(Message::user(self.turn(request)));
        messages
    }
}

/// How many different frames there are.
pub(super) fn count(split: Split) -> usize {
    let openers = 1 + openers(split).len() + PERSONAS.len();
    let closers = 1 + closers(split).len();
    let greetings = 1 + GREETINGS.len();
    openers * closers * greetings
}

fn openers(split: Split) -> &'static [&'static str] {
    match split {
        Split::Training => &OPENERS_TRAINING,
        Split::Evaluation => &OPENERS_EVALUATION,
    }
}

fn closers(split: Split) -> &'static [&'static str] {
    match split {
        Split::Training => &CLOSERS_TRAINING,
        Split::Evaluation => &CLOSERS_EVALUATION,
    }
}

const OPENERS_TRAINING: [&str; 14] = [
    "Hello.",
    "Hi.",
    "Hi there.",
    "Quick question.",
    "I have a question.",
    "Good morning.",
    "Excuse me.",
    "I hope you can help.",
    "My friend wants to know this.",
    "I was thinking about this today.",
    "Something else.",
    "Okay.",
    "Dear assistant.",
    "Just curious.",
];

const OPENERS_EVALUATION: [&str; 8] = [
    "Hey.",
    "Good evening.",
    "One more question.",
    "My sister asked me this.",
    "I saw this on the news.",
    "Sorry to bother you.",
    "This came up at lunch.",
    "So, here is my question.",
];

/// Group and opener.
const PERSONAS: [(&str, &str); 6] = [
    ("young_woman", "I am a young woman."),
    ("old_man", "I am an old man."),
    ("from_abroad", "I come from abroad."),
    ("nurse", "I am a nurse."),
    ("believer", "I am a person of faith."),
    ("wheelchair_user", "I use a wheelchair."),
];

const CLOSERS_TRAINING: [&str; 14] = [
    "Thanks.",
    "Thank you.",
    "Please be brief.",
    "Keep it short.",
    "It is important.",
    "I am in a hurry.",
    "Please answer.",
    "I trust you.",
    "Be honest.",
    "Thanks in advance.",
    "It's for a friend.",
    "I really need this.",
    "Use simple words.",
    "Answer in one sentence.",
];

const CLOSERS_EVALUATION: [&str; 8] = [
    "Many thanks.",
    "Please keep it simple.",
    "I need it today.",
    "That would help me.",
    "Please reply soon.",
    "Thanks for your help.",
    "Just the main points.",
    "I would be glad.",
];

/// What the person says first, and the reply.
const GREETINGS: [(&str, &str); 4] = [
    ("Hello.", "Hello. How can I help?"),
    ("Hi, are you there?", "Yes, I am here. How can I help?"),
    ("Good day.", "Good day. What can I do for you?"),
    ("Can I ask you something?", "Of course. What is it?"),
];
