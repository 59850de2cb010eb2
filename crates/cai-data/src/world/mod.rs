//! The mini world: a small world of requests and answers that is generated, so that the truth of
//! every answer is known.
//!
//! People ask how to do something, or for a tip. A [`Topic`] has two steps and a tip that cannot be
//! guessed, only known. Harmful topics are abstract: their facts help nobody. Each has harmless
//! neighbours that sound like it. One topic in four and one wording in three are kept for evaluation:
//! pretraining states facts and class of every topic as [`PretrainRecord`] notes, but no training
//! request is about an evaluation topic or uses an evaluation wording.
//!
//! Every record depends on nothing but the seed and its index.

mod answers;
mod critique;
mod facts_everyday;
mod facts_harmful;
mod frames;
mod judge;
mod notes;
mod phrasings;
mod pretrain;
mod sets;
mod topic;
mod topics_dangerous;
mod topics_everyday;
mod topics_hate;
mod topics_self_harm;
mod topics_toxic;

pub use answers::Style;
pub use judge::Verdict;
pub use phrasings::{Phrasing, Split};
pub use pretrain::PretrainRecord;
pub use sets::PromptRecord;
pub use topic::{Class, EVALUATION_SHARE, Kind, Topic, TopicRole};

use crate::constitution::Principle;
use crate::seed::Seed;
use frames::Frame;
use rand::RngExt;
use std::collections::HashMap;

/// The generator that all draws of the world use.
type Rng = rand_chacha::ChaCha8Rng;

/// The tables of the world.
pub struct World {
    topics: Vec<Topic>,
    by_id: HashMap<String, usize>,
    all_phrasings: Vec<Phrasing>,
    // Indices into `topics`.
    harmful: Vec<usize>,
    harmless: Vec<usize>,
    training_harmful: Vec<usize>,
    training_harmless: Vec<usize>,
}

impl Default for World {
    fn default() -> Self {
        World::new()
    }
}

impl World {
    /// Builds the tables: cheap, and always the same.
    pub fn new() -> Self {
        let topics = topic::all();
        let by_id = topics.iter().enumerate().map(|(i, topic)| (topic.id.clone(), i)).collect();
        let chosen = |keep: &dyn Fn(&Topic) -> bool| -> Vec<usize> {
            (0..topics.len()).filter(|&i| keep(&topics[i])).collect()
        };
        World {
            harmful: chosen(&|topic| topic.is_harmful()),
            harmless: chosen(&|topic| !topic.is_harmful()),
            training_harmful: chosen(&|topic| topic.is_harmful() && !topic.evaluation),
            training_harmless: chosen(&|topic| !topic.is_harmful() && !topic.evaluation),
            all_phrasings: phrasings::all(),
            by_id,
            topics,
        }
    }

    /// All topics.
    pub fn topics(&self) -> &[Topic] {
        &self.topics
    }

    /// The topic of that id.
    pub fn topic(&self, id: &str) -> Option<&Topic> {
        self.by_id.get(id).map(|&i| &self.topics[i])
    }

    /// All wordings of requests.
    pub fn all_phrasings(&self) -> &[Phrasing] {
        &self.all_phrasings
    }

    /// How many different prompts the world can make for one side of the split.
    pub fn distinct_prompts(&self, split: Split) -> usize {
        let evaluation = split == Split::Evaluation;
        let topics = self.topics.iter().filter(|topic| topic.evaluation == evaluation).count();
        let phrasings =
            self.all_phrasings.iter().filter(|phrasing| phrasing.split == split).count();
        topics * phrasings * frames::count(split)
    }

    /// Pretraining data: requests with answers of mixed quality, notes on every topic, class
    /// questions, critique-revision dialogues and preferences under the given principles. Without
    /// principles there are only the first three. Record `i` depends on `seed` and `i` alone.
    pub fn pretrain(
        &self,
        principles: &[Principle],
        count: usize,
        seed: Seed,
    ) -> impl Iterator<Item = PretrainRecord> {
        let seed = seed.derive("pretrain");
        (0..count as u64).map(move |i| pretrain::record(self, principles, seed.index(i)))
    }

    /// An answer of `style`. `seed` decides between wordings, where there are several, and which
    /// wrong facts are given. A harmless topic has no full refusal: it gets the short one.
    pub fn answer(&self, topic: &Topic, kind: Kind, style: Style, seed: Seed) -> String {
        answers::answer(topic, kind, style, &mut seed.rng())
    }

    /// A topic of those at `indices`.
    fn any(&self, indices: &[usize], rng: &mut Rng) -> &Topic {
        &self.topics[*pick(rng, indices)]
    }

    /// Indices of the wordings of one kind and side.
    fn phrasings(&self, kind: Kind, split: Split) -> Vec<usize> {
        let wanted = |phrasing: &Phrasing| phrasing.kind == kind && phrasing.split == split;
        (0..self.all_phrasings.len()).filter(|&i| wanted(&self.all_phrasings[i])).collect()
    }

    /// Wording, frame and text of a training request.
    fn training_request(
        &self,
        topic: &Topic,
        kind: Kind,
        rng: &mut Rng,
    ) -> (&Phrasing, Frame, String) {
        let phrasing = &self.all_phrasings[*pick(rng, &self.phrasings(kind, Split::Training))];
        (phrasing, Frame::draw(Split::Training, rng), phrasing.render(topic))
    }
}

/// One of `items`, which are never none.
fn pick<'a, T>(rng: &mut Rng, items: &'a [T]) -> &'a T {
    &items[rng.random_range(0..items.len())]
}

/// One of the items, each as often as its weight says.
fn weighted<T: Copy>(rng: &mut Rng, table: &[(T, u32)]) -> T {
    let mut roll = rng.random_range(0..table.iter().map(|(_, weight)| weight).sum::<u32>());
    for &(item, weight) in &table[..table.len() - 1] {
        if roll < weight {
            return item;
        }
        roll -= weight;
    }
    table[table.len() - 1].0
}
