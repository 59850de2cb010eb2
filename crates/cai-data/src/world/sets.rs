//! The data sets of the stages: prompts to train on, labelled texts, evaluation prompts.

use super::answers::{Style, answer, full, full_refusal};
use super::frames::Frame;
use super::phrasings::Split;
use super::pretrain::draw_kind;
use super::topic::{Class, Kind, Topic, TopicRole};
use super::{Rng, World, notes, pick, weighted};
use crate::record::{
    Conversation, EvalPrompt, LabelledText, Message, PreferencePair, PromptCategory,
};
use crate::seed::Seed;
use rand::RngExt;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

/// A request of the training side.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PromptRecord {
    /// A name, unique in its set.
    pub id: String,
    /// The turns to answer.
    pub prompt: Vec<Message>,
    /// The topic's id.
    pub topic: String,
    /// What is asked for.
    pub kind: Kind,
    /// The id of the wording.
    pub phrasing: String,
    /// The topic's class.
    pub class: Class,
}

/// Per cent of the labelled texts about harmful topics, and that are requests and not answers.
const LABELLED_HARMFUL_PERCENT: u32 = 55;
const LABELLED_REQUEST_PERCENT: u32 = 50;
/// Per cent of the labelled requests about training topics that are worded as requests; the others,
/// and all about evaluation topics, are worded as notes and class questions.
const LABELLED_TRAINING_PHRASING_PERCENT: u32 = 70;
/// Styles of the rejected answers of helpfulness comparisons, in per cent.
const PAIR_STYLES: [(Style, u32); 3] =
    [(Style::ShortRefusal, 50), (Style::Vague, 25), (Style::Wrong, 25)];
/// Styles of the labelled answers, in per cent.
const LABELLED_STYLES_HARMLESS: [(Style, u32); 4] =
    [(Style::Full, 50), (Style::Vague, 20), (Style::Wrong, 15), (Style::ShortRefusal, 15)];
const LABELLED_STYLES_HARMFUL: [(Style, u32); 5] = [
    (Style::Full, 45),
    (Style::Wrong, 15),
    (Style::Vague, 12),
    (Style::ShortRefusal, 12),
    (Style::FullRefusal, 16),
];

impl World {
    /// Helpful-only data: requests about all training topics, harmful ones too (the helpful model of
    /// Constitutional AI, section 3, complies), each with a full answer. Extra fields: `topic`,
    /// `kind`, `phrasing`.
    pub fn helpful(&self, count: usize, seed: Seed) -> Vec<Conversation> {
        let seed = seed.derive("helpful");
        let topics = [&self.training_harmful[..], &self.training_harmless[..]].concat();
        (0..count)
            .map(|i| {
                let record = self.prompt_record("helpful", &topics, i, seed);
                let mut messages = record.prompt;
                let topic = &self.topics[self.by_id[&record.topic]];
                messages.push(Message::assistant(full(topic, record.kind)));
                let mut conversation = Conversation::new(messages);
                for (key, value) in [
                    ("topic", record.topic.as_str()),
                    ("kind", record.kind.label()),
                    ("phrasing", record.phrasing.as_str()),
                ] {
                    conversation.extra.insert(key.to_owned(), value.into());
                }
                conversation
            })
            .collect()
    }

    /// Red-team prompts: requests about harmful training topics.
    pub fn red_team(&self, count: usize, seed: Seed) -> Vec<PromptRecord> {
        let seed = seed.derive("red_team");
        (0..count).map(|i| self.prompt_record("red", &self.training_harmful, i, seed)).collect()
    }

    /// Requests about harmless training topics: everyday ones and neighbours of harmful ones.
    pub fn harmless(&self, count: usize, seed: Seed) -> Vec<PromptRecord> {
        let seed = seed.derive("harmless");
        (0..count)
            .map(|i| self.prompt_record("harmless", &self.training_harmless, i, seed))
            .collect()
    }

    /// Comparisons of helpfulness, as people give them: requests about harmless training topics, the
    /// full answer preferred to one that is vague, wrong or declines. The paper trains its preference
    /// model on such comparisons beside those of AI feedback (arXiv 2212.08073, section 4.1). Extra
    /// fields: `topic`, `kind`, `phrasing`, `source: "helpfulness"`.
    pub fn helpful_pairs(&self, count: usize, seed: Seed) -> Vec<PreferencePair> {
        let seed = seed.derive("helpful_pairs");
        let pair = |i: usize| {
            let record = self.prompt_record("comparison", &self.training_harmless, i, seed);
            let topic = &self.topics[self.by_id[&record.topic]];
            let rng = &mut seed.derive("rejected").index(i as u64).rng();
            let style = weighted(rng, &PAIR_STYLES);
            let rejected = answer(topic, record.kind, style, rng);
            let chosen = full(topic, record.kind);
            let mut pair = PreferencePair::new(
                record.prompt,
                vec![Message::assistant(chosen)],
                vec![Message::assistant(rejected)],
            );
            for (key, value) in [
                ("topic", record.topic.as_str()),
                ("kind", record.kind.label()),
                ("phrasing", record.phrasing.as_str()),
                ("source", "helpfulness"),
            ] {
                pair.extra.insert(key.to_owned(), value.into());
            }
            pair
        };
        (0..count).map(pair).collect()
    }

    fn prompt_record(&self, set: &str, topics: &[usize], i: usize, seed: Seed) -> PromptRecord {
        let rng = &mut seed.index(i as u64).rng();
        let topic = self.any(topics, rng);
        let kind = draw_kind(rng);
        let (phrasing, frame, request) = self.training_request(topic, kind, rng);
        PromptRecord {
            id: format!("{set}-{i:06}"),
            prompt: frame.prompt(&request),
            topic: topic.id.clone(),
            kind,
            phrasing: phrasing.id.clone(),
            class: topic.class,
        }
    }

    /// Texts for the classifier: requests (training wordings about training topics; notes and class
    /// questions about all) and answers of all styles about all topics. A request has its topic's
    /// class, and so has an answer that gives facts; a refusal or a vague answer is safe. `group` is
    /// set where a person says who they are. Extra fields: `topic`, `source` (`request`, `answer`).
    pub fn labelled(&self, count: usize, seed: Seed) -> Vec<LabelledText> {
        let seed = seed.derive("labelled");
        (0..count).map(|i| self.labelled_text(&mut seed.index(i as u64).rng())).collect()
    }

    fn labelled_text(&self, rng: &mut Rng) -> LabelledText {
        let harmful = rng.random_range(0..100) < LABELLED_HARMFUL_PERCENT;
        let topic = self.any(if harmful { &self.harmful } else { &self.harmless }, rng);
        let mut group = None;
        let (source, text, class) = if rng.random_range(0..100) < LABELLED_REQUEST_PERCENT {
            let text = self.labelled_request(topic, &mut group, rng);
            ("request", text, topic.class)
        } else {
            let kind = draw_kind(rng);
            let style = if harmful {
                weighted(rng, &LABELLED_STYLES_HARMFUL)
            } else {
                weighted(rng, &LABELLED_STYLES_HARMLESS)
            };
            let complies = matches!(style, Style::Full | Style::Wrong);
            let class = if complies { topic.class } else { Class::Safe };
            ("answer", answer(topic, kind, style, rng), class)
        };
        let mut labelled = LabelledText::new(text, class.label());
        labelled.group = group.map(str::to_owned);
        labelled.extra.insert("topic".to_owned(), topic.id.as_str().into());
        labelled.extra.insert("source".to_owned(), source.into());
        labelled
    }

    fn labelled_request(
        &self,
        topic: &Topic,
        group: &mut Option<&'static str>,
        rng: &mut Rng,
    ) -> String {
        let as_request =
            !topic.evaluation && rng.random_range(0..100) < LABELLED_TRAINING_PHRASING_PERCENT;
        let (frame, request) = if as_request {
            let kind = draw_kind(rng);
            let (_, frame, request) = self.training_request(topic, kind, rng);
            (frame, request)
        } else {
            let request = if *pick(rng, &[true, false]) {
                notes::note_request(topic, rng)
            } else {
                notes::class_request(topic, rng)
            };
            (Frame::draw(Split::Training, rng), request)
        };
        *group = frame.group;
        frame.turn(&request)
    }

    /// Evaluation prompts: `per_topic` for each evaluation topic, in evaluation wordings. Harmful
    /// topics are `Harmful`, their neighbours `Borderline`, everyday ones `Harmless`. The reference
    /// is the full answer, or the full refusal if the topic is harmful. Extra fields: `kind`,
    /// `class`. Two requests for steps come on one for a tip; wordings repeat within a topic only
    /// when `per_topic` exceeds their number.
    pub fn evaluation(&self, per_topic: usize, seed: Seed) -> Vec<EvalPrompt> {
        let seed = seed.derive("evaluation");
        let topics = self.topics.iter().filter(|topic| topic.evaluation);
        topics
            .enumerate()
            .flat_map(|(i, topic)| {
                let rng = &mut seed.derive(&topic.id).rng();
                self.evaluation_of(topic, i, per_topic, rng)
            })
            .collect()
    }

    fn evaluation_of(
        &self,
        topic: &Topic,
        number: usize,
        per_topic: usize,
        rng: &mut Rng,
    ) -> Vec<EvalPrompt> {
        let mut orders = [Kind::HowTo, Kind::Tip].map(|kind| {
            let mut wordings = self.phrasings(kind, Split::Evaluation).to_vec();
            wordings.shuffle(rng);
            wordings.into_iter().cycle()
        });
        let mut prompts = Vec::with_capacity(per_topic);
        for j in 0..per_topic {
            // Starting elsewhere in each topic gives both kinds even with one prompt per topic.
            let kind = if (number + j) % 3 == 2 { Kind::Tip } else { Kind::HowTo };
            let Some(wording) = orders[(kind == Kind::Tip) as usize].next() else {
                break;
            };
            let phrasing = &self.all_phrasings[wording];
            let frame = Frame::draw(Split::Evaluation, rng);
            let (category, reference) = match topic.role {
                TopicRole::Harmful => (PromptCategory::Harmful, full_refusal(topic)),
                TopicRole::Neighbour => (PromptCategory::Borderline, full(topic, kind)),
                TopicRole::Everyday => (PromptCategory::Harmless, full(topic, kind)),
            };
            let mut prompt = EvalPrompt::new(
                format!("{}-{}", topic.id, j + 1),
                frame.prompt(&phrasing.render(topic)),
                category,
            );
            prompt.reference = Some(reference);
            prompt.topic = Some(topic.id.clone());
            prompt.phrasing = Some(phrasing.id.clone());
            prompt.group = frame.group.map(str::to_owned);
            prompt.extra.insert("kind".to_owned(), kind.label().into());
            prompt.extra.insert("class".to_owned(), topic.class.label().into());
            prompts.push(prompt);
        }
        prompts
    }
}
