//! The mixture on which the mini model is pretrained.

use super::answers::{Style, answer};
use super::critique::Finding;
use super::topic::{Kind, Topic};
use super::{Rng, World, critique, notes, pick, weighted};
use crate::constitution::Principle;
use crate::dialogue::{OPTION_A, OPTION_B, preference_prompt, revision_prompt};
use crate::record::Message;
use crate::seed::Seed;
use rand::RngExt;
use serde::{Deserialize, Serialize};

/// One conversation of the pretraining data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PretrainRecord {
    /// The turns; the last is the assistant's.
    pub messages: Vec<Message>,
    /// What it teaches: `request`, `note`, `class_question`, `critique` or `preference`.
    pub kind: String,
}

#[derive(Copy, Clone)]
enum Part {
    Request,
    Note,
    ClassQuestion,
    Critique,
    Preference,
}

/// Per cent of the records. Critiques and preferences need principles: without any, the others
/// share what is left in the same proportions.
const MIXTURE: [(Part, u32); 5] = [
    (Part::Request, 25),
    (Part::Note, 40),
    (Part::ClassQuestion, 7),
    (Part::Critique, 18),
    (Part::Preference, 10),
];
const MIXTURE_WITHOUT_PRINCIPLES: usize = 3;

/// Per cent of the requests, and of critiques and preferences, that are about harmful topics.
const HARMFUL_REQUEST_PERCENT: u32 = 30;
const HARMFUL_DIALOGUE_PERCENT: u32 = 55;
/// Per cent of the requests that ask for steps; the others ask for the tip.
const HOW_TO_PERCENT: u32 = 67;
/// Per cent of the critiques for which a finding is sought, and how many draws that may take: a
/// constitution may have no principle that minds the topic.
const FINDING_PERCENT: u32 = 45;
const FINDING_DRAWS: usize = 40;
/// Per cent of the preferences that compare two answers of one quality.
const EQUAL_PERCENT: u32 = 8;

/// Styles of the answers to requests, in per cent. The model that comes out is deliberately not yet
/// helpful: that is what helpful fine-tuning shall change.
const REQUEST_STYLES_HARMLESS: [(Style, u32); 4] =
    [(Style::Vague, 40), (Style::Full, 32), (Style::Wrong, 13), (Style::ShortRefusal, 15)];
const REQUEST_STYLES_HARMFUL: [(Style, u32); 3] =
    [(Style::Vague, 40), (Style::Full, 40), (Style::ShortRefusal, 20)];

/// Styles of the answers that are criticised and compared, in per cent.
const DIALOGUE_STYLES_HARMLESS: [(Style, u32); 4] =
    [(Style::Full, 30), (Style::Vague, 25), (Style::Wrong, 25), (Style::ShortRefusal, 20)];
const DIALOGUE_STYLES_HARMFUL: [(Style, u32); 5] = [
    (Style::Full, 35),
    (Style::Vague, 20),
    (Style::Wrong, 10),
    (Style::ShortRefusal, 15),
    (Style::FullRefusal, 20),
];

/// The record that `seed` decides.
pub(super) fn record(world: &World, principles: &[Principle], seed: Seed) -> PretrainRecord {
    let rng = &mut seed.rng();
    let parts =
        if principles.is_empty() { &MIXTURE[..MIXTURE_WITHOUT_PRINCIPLES] } else { &MIXTURE[..] };
    let (kind, messages) = match weighted(rng, parts) {
        Part::Request => ("request", request(world, rng)),
        Part::Note => ("note", exchange(notes::note(pick(rng, world.topics()), rng))),
        Part::ClassQuestion => {
            ("class_question", exchange(notes::class_question(pick(rng, world.topics()), rng)))
        }
        Part::Critique => ("critique", critique_dialogue(world, principles, rng)),
        Part::Preference => ("preference", preference(world, principles, rng)),
    };
    PretrainRecord { messages, kind: kind.to_owned() }
}

fn exchange((user, assistant): (String, String)) -> Vec<Message> {
    vec![Message::user(user), Message::assistant(assistant)]
}

fn request(world: &World, rng: &mut Rng) -> Vec<Message> {
    let (topic, kind, mut messages) = training_prompt(world, HARMFUL_REQUEST_PERCENT, rng);
    let style = if topic.is_harmful() {
        weighted(rng, &REQUEST_STYLES_HARMFUL)
    } else {
        weighted(rng, &REQUEST_STYLES_HARMLESS)
    };
    messages.push(Message::assistant(answer(topic, kind, style, rng)));
    messages
}

fn critique_dialogue(world: &World, principles: &[Principle], rng: &mut Rng) -> Vec<Message> {
    let (topic, kind, prompt) = training_prompt(world, HARMFUL_DIALOGUE_PERCENT, rng);
    let (style, principle, finding) = subject(topic, principles, rng);
    let first = answer(topic, kind, style, rng);
    let critique = critique::critique(topic, kind, finding);
    let revision = critique::revision(topic, kind, &first, finding, rng);
    let mut messages = revision_prompt(
        &prompt,
        &first,
        &principle.critique_request,
        &critique,
        &principle.revision_request,
    );
    messages.push(Message::assistant(revision));
    messages
}

/// A style of answer and a principle, and what the principle finds in it. Most principles find
/// nothing in most answers, so in part of the cases others are drawn until something is found.
fn subject<'a>(
    topic: &Topic,
    principles: &'a [Principle],
    rng: &mut Rng,
) -> (Style, &'a Principle, Finding) {
    let draws = if rng.random_range(0..100) < FINDING_PERCENT { FINDING_DRAWS } else { 1 };
    let mut draw = || {
        let (style, principle) = (dialogue_style(topic, rng), pick(rng, principles));
        (style, principle, critique::find(topic, style, principle.category))
    };
    let mut drawn = draw();
    for _ in 1..draws {
        if drawn.2 != Finding::Fine {
            break;
        }
        drawn = draw();
    }
    drawn
}

fn preference(world: &World, principles: &[Principle], rng: &mut Rng) -> Vec<Message> {
    let (topic, kind, prompt) = training_prompt(world, HARMFUL_DIALOGUE_PERCENT, rng);
    let equal = rng.random_range(0..100) < EQUAL_PERCENT;
    let first = dialogue_style(topic, rng);
    let mut second = if equal { first } else { dialogue_style(topic, rng) };
    while !equal && second.rank(topic) == first.rank(topic) {
        second = dialogue_style(topic, rng);
    }
    let a = answer(topic, kind, first, rng);
    let b = answer(topic, kind, second, rng);
    let choice = match first.rank(topic).cmp(&second.rank(topic)) {
        std::cmp::Ordering::Greater => OPTION_A,
        std::cmp::Ordering::Less => OPTION_B,
        std::cmp::Ordering::Equal => pick(rng, &[OPTION_A, OPTION_B]),
    };
    let question = &pick(rng, principles).preference_question;
    let mut messages = preference_prompt(&prompt, question, &a, &b);
    messages.push(Message::assistant(choice));
    messages
}

fn dialogue_style(topic: &Topic, rng: &mut Rng) -> Style {
    if topic.is_harmful() {
        weighted(rng, &DIALOGUE_STYLES_HARMFUL)
    } else {
        weighted(rng, &DIALOGUE_STYLES_HARMLESS)
    }
}

/// A request about a training topic, harmful in `harmful_percent` of the cases.
fn training_prompt<'a>(
    world: &'a World,
    harmful_percent: u32,
    rng: &mut Rng,
) -> (&'a Topic, Kind, Vec<Message>) {
    let topic = if rng.random_range(0..100) < harmful_percent {
        world.any(&world.training_harmful, rng)
    } else {
        world.any(&world.training_harmless, rng)
    };
    let kind = draw_kind(rng);
    let (_, frame, request) = world.training_request(topic, kind, rng);
    (topic, kind, frame.prompt(&request))
}

/// Asks for the steps twice as often as for the tip.
pub(super) fn draw_kind(rng: &mut Rng) -> Kind {
    if rng.random_range(0..100) < HOW_TO_PERCENT { Kind::HowTo } else { Kind::Tip }
}
