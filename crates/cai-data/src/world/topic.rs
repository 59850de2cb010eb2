//! Topics: what requests are about, their class, and the facts that a good answer gives.

use super::Rng;
use super::{facts_everyday, facts_harmful, topics_everyday};
use super::{topics_dangerous, topics_hate, topics_self_harm, topics_toxic};
use crate::seed::Seed;
use rand::RngExt;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

/// One topic in this many, of each class, is kept for evaluation, with its neighbours.
pub const EVALUATION_SHARE: usize = 4;

/// The risk class of a topic, request or answer.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Nothing to object to.
    Safe,
    /// Hatred against a group of people.
    HateSpeech,
    /// Harm to oneself.
    SelfHarm,
    /// Crime and danger.
    DangerousAdvice,
    /// Insults, harassment and obscenity.
    ToxicContent,
}

impl Class {
    /// All classes, `Safe` first.
    pub const ALL: [Class; 5] = [
        Class::Safe,
        Class::HateSpeech,
        Class::SelfHarm,
        Class::DangerousAdvice,
        Class::ToxicContent,
    ];

    /// The label in data files: `safe`, `hate_speech`, ….
    pub fn label(self) -> &'static str {
        match self {
            Class::Safe => "safe",
            Class::HateSpeech => "hate_speech",
            Class::SelfHarm => "self_harm",
            Class::DangerousAdvice => "dangerous_advice",
            Class::ToxicContent => "toxic_content",
        }
    }

    /// How texts of the world name the class.
    pub fn words(self) -> &'static str {
        match self {
            Class::Safe => "harmless",
            Class::HateSpeech => "hate speech",
            Class::SelfHarm => "self-harm",
            Class::DangerousAdvice => "dangerous advice",
            Class::ToxicContent => "toxic content",
        }
    }

    /// The sentence with which a refusal explains itself; none for `Safe`.
    pub fn reason(self) -> Option<&'static str> {
        match self {
            Class::Safe => None,
            Class::HateSpeech => Some("It treats people as less than others."),
            Class::SelfHarm => Some("You matter, please talk to someone you trust."),
            Class::DangerousAdvice => Some("It could put people in danger."),
            Class::ToxicContent => Some("It would hurt someone."),
        }
    }
}

/// What a request asks for.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The two steps.
    HowTo,
    /// The tip.
    Tip,
}

impl Kind {
    /// The label in data files: `how_to` or `tip`.
    pub fn label(self) -> &'static str {
        match self {
            Kind::HowTo => "how_to",
            Kind::Tip => "tip",
        }
    }
}

/// What a topic is in the design of the world.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum TopicRole {
    /// Asking for it is asking for harm.
    Harmful,
    /// Harmless, but sounds like a harmful topic.
    Neighbour,
    /// Harmless, and sounds so.
    Everyday,
}

/// The fields of life from which harmless topics and their facts come.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Domain {
    Cooking,
    Garden,
    Home,
    Study,
    Sport,
    Travel,
    Arts,
    Money,
    Care,
    Tech,
}

/// A harmful topic with its neighbours; the first neighbour is what a refusal offers instead.
pub(super) type HarmfulRow = (&'static str, (&'static str, Domain), (&'static str, Domain));

/// The phrases from which the facts of one field's topics are taken.
pub(super) struct Pool {
    pub(super) first: &'static [&'static str],
    pub(super) then: &'static [&'static str],
    pub(super) tips: &'static [&'static str],
}

impl Domain {
    fn pool(self) -> &'static Pool {
        match self {
            Domain::Cooking => &facts_everyday::COOKING,
            Domain::Garden => &facts_everyday::GARDEN,
            Domain::Home => &facts_everyday::HOME,
            Domain::Study => &facts_everyday::STUDY,
            Domain::Sport => &facts_everyday::SPORT,
            Domain::Travel => &facts_everyday::TRAVEL,
            Domain::Arts => &facts_everyday::ARTS,
            Domain::Money => &facts_everyday::MONEY,
            Domain::Care => &facts_everyday::CARE,
            Domain::Tech => &facts_everyday::TECH,
        }
    }
}

/// The harmful classes with their topics and the phrases of their facts.
const HARMFUL: [(Class, &[HarmfulRow], &Pool); 4] = [
    (Class::HateSpeech, &topics_hate::TOPICS, &facts_harmful::HATE_SPEECH),
    (Class::SelfHarm, &topics_self_harm::TOPICS, &facts_harmful::SELF_HARM),
    (Class::DangerousAdvice, &topics_dangerous::TOPICS, &facts_harmful::DANGEROUS_ADVICE),
    (Class::ToxicContent, &topics_toxic::TOPICS, &facts_harmful::TOXIC_CONTENT),
];

/// One thing that requests are about.
#[derive(Clone)]
pub struct Topic {
    /// `h017` (harmful), `n017a`, `n017b` (its neighbours), `e042` (everyday).
    pub id: String,
    /// A verb phrase in lower case that fits "how do I …?" and "to …".
    pub name: &'static str,
    /// Its risk class.
    pub class: Class,
    /// Harmful, neighbour or everyday.
    pub role: TopicRole,
    /// The two steps, in order.
    pub steps: [&'static str; 2],
    /// The tip.
    pub tip: &'static str,
    /// What a refusal offers instead: the name of the first neighbour. Harmful topics only.
    pub alternative: Option<&'static str>,
    /// Kept for evaluation: no training request is about it.
    pub evaluation: bool,
    pub(super) pool: &'static Pool,
}

impl Topic {
    /// Whether asking for it is asking for harm.
    pub fn is_harmful(&self) -> bool {
        self.role == TopicRole::Harmful
    }

    /// What a request of this kind asks for: both steps, or the tip.
    pub fn facts(&self, kind: Kind) -> &[&'static str] {
        match kind {
            Kind::HowTo => &self.steps,
            Kind::Tip => std::slice::from_ref(&self.tip),
        }
    }

    /// The name with a capital first letter.
    pub(super) fn capitalised(&self) -> String {
        capitalise(self.name)
    }
}

/// `text` with a capital first letter.
pub(super) fn capitalise(text: &str) -> String {
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_uppercase().chain(letters).collect(),
        None => String::new(),
    }
}

/// All topics, in a fixed order: harmful ones each followed by its neighbours, then everyday ones.
pub(super) fn all() -> Vec<Topic> {
    let mut facts = Facts { given: HashSet::new() };
    let mut topics = Vec::new();
    let harmful = HARMFUL
        .iter()
        .flat_map(|(class, rows, pool)| rows.iter().map(move |row| (*class, row, *pool)));
    for (i, (class, &(name, a, b), pool)) in harmful.enumerate() {
        let number = i + 1;
        let evaluation = number.is_multiple_of(EVALUATION_SHARE);
        let mut topic = facts.topic(format!("h{number:03}"), name, pool, evaluation);
        topic.class = class;
        topic.role = TopicRole::Harmful;
        topic.alternative = Some(a.0);
        topics.push(topic);
        for (letter, (name, domain)) in [("a", a), ("b", b)] {
            let id = format!("n{number:03}{letter}");
            let mut topic = facts.topic(id, name, domain.pool(), evaluation);
            topic.role = TopicRole::Neighbour;
            topics.push(topic);
        }
    }
    let everyday = topics_everyday::TOPICS
        .iter()
        .flat_map(|(domain, names)| names.iter().map(move |name| (*domain, *name)));
    for (i, (domain, name)) in everyday.enumerate() {
        let number = i + 1;
        let evaluation = number.is_multiple_of(EVALUATION_SHARE);
        topics.push(facts.topic(format!("e{number:03}"), name, domain.pool(), evaluation));
    }
    topics
}

/// Gives each topic its facts: drawn by the topic's name, no two topics with the same steps. So
/// facts cannot be guessed from the topic, only known.
struct Facts {
    given: HashSet<[&'static str; 2]>,
}

impl Facts {
    fn topic(
        &mut self,
        id: String,
        name: &'static str,
        pool: &'static Pool,
        evaluation: bool,
    ) -> Topic {
        let mut rng = Seed(0).derive("facts").derive(name).rng();
        let mut draw = |phrases: &'static [&'static str]| draw(phrases, &mut rng);
        let mut steps = [draw(pool.first), draw(pool.then)];
        while !self.given.insert(steps) {
            steps = [draw(pool.first), draw(pool.then)];
        }
        Topic {
            id,
            name,
            class: Class::Safe,
            role: TopicRole::Everyday,
            steps,
            tip: draw(pool.tips),
            alternative: None,
            evaluation,
            pool,
        }
    }
}

fn draw(phrases: &'static [&'static str], rng: &mut Rng) -> &'static str {
    phrases[rng.random_range(0..phrases.len())]
}
