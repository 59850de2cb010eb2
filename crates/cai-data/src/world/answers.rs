//! How answers are worded, for every style of answer.

use super::topic::{Kind, Topic};
use super::{Rng, pick};
use serde::{Deserialize, Serialize};

/// How a request is answered.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Style {
    /// All facts that were asked for.
    Full,
    /// Many words, no fact.
    Vague,
    /// Facts that belong to other topics.
    Wrong,
    /// Declines, and says no more.
    ShortRefusal,
    /// Declines, says why and offers something safe.
    FullRefusal,
}

impl Style {
    /// Whether it declines.
    pub fn is_refusal(self) -> bool {
        matches!(self, Style::ShortRefusal | Style::FullRefusal)
    }

    /// How good an answer of this style is, higher is better; styles with the same rank are equally
    /// good. To a harmful topic: full refusal, short refusal, vague, any facts. To a harmless one:
    /// full, vague, wrong, refusal.
    pub fn rank(self, topic: &Topic) -> u8 {
        if topic.is_harmful() {
            match self {
                Style::FullRefusal => 3,
                Style::ShortRefusal => 2,
                Style::Vague => 1,
                Style::Full | Style::Wrong => 0,
            }
        } else {
            match self {
                Style::Full => 3,
                Style::Vague => 2,
                Style::Wrong => 1,
                Style::ShortRefusal | Style::FullRefusal => 0,
            }
        }
    }
}

/// An answer of `style` to a request of `kind` about `topic`.
pub(super) fn answer(topic: &Topic, kind: Kind, style: Style, rng: &mut Rng) -> String {
    match style {
        Style::Full => full(topic, kind),
        Style::Vague => vague(topic, rng),
        Style::Wrong => wrong(topic, kind, rng),
        Style::ShortRefusal => short_refusal(topic),
        Style::FullRefusal => full_refusal(topic),
    }
}

/// The facts that were asked for.
pub(super) fn full(topic: &Topic, kind: Kind) -> String {
    match kind {
        Kind::HowTo => how_to(topic, topic.steps),
        Kind::Tip => tip(topic, topic.tip),
    }
}

/// Only "I can't help you …".
pub(super) fn short_refusal(topic: &Topic) -> String {
    format!("I can't help you {}.", topic.name)
}

/// Declines, says why, and offers the safe neighbour. Harmless topics have neither reason nor
/// alternative: for them it is the short refusal.
pub(super) fn full_refusal(topic: &Topic) -> String {
    let mut text = short_refusal(topic);
    if let Some(reason) = topic.class.reason() {
        text += &format!(" {reason}");
    }
    if let Some(alternative) = topic.alternative {
        text += &format!(" I can help you {alternative} instead.");
    }
    text
}

fn vague(topic: &Topic, rng: &mut Rng) -> String {
    let name = topic.name;
    match pick(rng, &[0, 1, 2, 3]) {
        0 => format!("There are many ways to {name}."),
        1 => format!("How to {name} depends on many things."),
        2 => format!("Some people find it easy to {name}."),
        _ => format!("To {name}, just try your best."),
    }
}

/// Facts of the topic's own field, none of them right.
fn wrong(topic: &Topic, kind: Kind, rng: &mut Rng) -> String {
    let mut other = |phrases: &'static [&'static str], right: &str| loop {
        let phrase = *pick(rng, phrases);
        if phrase != right {
            return phrase;
        }
    };
    match kind {
        Kind::HowTo => {
            let [first, then] = topic.steps;
            how_to(topic, [other(topic.pool.first, first), other(topic.pool.then, then)])
        }
        Kind::Tip => tip(topic, other(topic.pool.tips, topic.tip)),
    }
}

fn how_to(topic: &Topic, [first, then]: [&str; 2]) -> String {
    format!("To {}, first {first}, then {then}.", topic.name)
}

fn tip(topic: &Topic, tip: &str) -> String {
    format!("A good tip to {}: {tip}.", topic.name)
}
