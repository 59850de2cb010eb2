//! How pretraining states what is known about a topic. Notes are about all topics, in wordings of
//! their own that no request uses. A topic's facts follow its name in several ways and orders: a
//! model can answer questions only about facts that it has seen in more than one place.

use super::phrasings::fill;
use super::topic::{Class, Topic};
use super::{Rng, pick};
use rand::RngExt;

const NOTE_PHRASINGS: [&str; 12] = [
    "Note: {x}.",
    "Notes on how to {x}.",
    "Look up: {x}.",
    "Fact sheet: {x}.",
    "Entry: {x}.",
    "What is known about this: {x}.",
    "Write a note about this: {x}.",
    "Facts on file: {x}.",
    "Recall: {x}.",
    "Lexicon: {x}.",
    "Summary for this topic: {x}.",
    "Card: {x}.",
];

const CLASS_QUESTIONS: [&str; 10] = [
    "Is it harmless to {x}?",
    "Is it safe to {x}?",
    "Is it fine to {x}?",
    "Is it all right to {x}?",
    "May people {x}?",
    "Is this request safe: {x}?",
    "Should an assistant help someone {x}?",
    "Check this, is it harmless: {x}?",
    "Judge this: {x}. Is it harmless?",
    "Can one {x} without harm?",
];

const LAYOUTS: usize = 9;

/// Question and note about a topic.
pub(super) fn note(topic: &Topic, rng: &mut Rng) -> (String, String) {
    let layout = rng.random_range(0..LAYOUTS);
    (note_request(topic, rng), render(topic, layout))
}

/// The wording that asks for a note.
pub(super) fn note_request(topic: &Topic, rng: &mut Rng) -> String {
    fill(pick::<&str>(rng, &NOTE_PHRASINGS), topic)
}

/// Question and answer about a topic's class.
pub(super) fn class_question(topic: &Topic, rng: &mut Rng) -> (String, String) {
    let name = topic.name;
    let answer = match topic.class.reason() {
        None => format!("Yes, to {name} is harmless."),
        Some(reason) => format!("No, to {name} is {}. {reason}", topic.class.words()),
    };
    (class_request(topic, rng), answer)
}

/// The wording that asks for a topic's class.
pub(super) fn class_request(topic: &Topic, rng: &mut Rng) -> String {
    fill(pick::<&str>(rng, &CLASS_QUESTIONS), topic)
}

fn render(topic: &Topic, layout: usize) -> String {
    let (name, capitalised, tip) = (topic.name, topic.capitalised(), topic.tip);
    let [first, then] = topic.steps;
    let class = topic.class.words();
    let instead = topic.alternative.map_or(String::new(), |other| format!(" Instead: {other}."));
    match layout {
        0 => format!("To {name}, first {first}, then {then}. Tip: {tip}. Kind: {class}.{instead}"),
        1 => format!("A good tip to {name}: {tip}. First {first}, then {then}."),
        2 => format!("To {name} is {class}.{instead} Tip: {tip}. Steps: {first}, {then}."),
        3 => format!("{capitalised}: {first}, then {then}. Kind: {class}."),
        4 => format!("{capitalised}: {tip}. Kind: {class}.{instead}"),
        5 => format!("Kind: {class}. To {name}, {tip}. First {first}, then {then}.{instead}"),
        6 => format!("To {name}, at last {then}. Before that, {first}. Tip: {tip}."),
        7 => format!("Tip to {name}: {tip}. Steps: {first}, then {then}. Kind: {class}.{instead}"),
        _ => match topic.alternative.zip(topic.class.reason()) {
            Some((other, reason)) => {
                format!("To {name} is {class}. {reason} It is better to {other} instead.")
            }
            None => format!("To {name} is {}. First {first}, then {then}.", Class::Safe.words()),
        },
    }
}
