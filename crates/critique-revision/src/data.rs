//! Training data out.

use cai_data::record::{Conversation, Message, PreferencePair};
use cai_data::seed::Seed;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::shortfall::of_critiques;
use crate::{CritiqueRecord, Error, Outcome, Result};

/// What SL-CAI is trained on.
#[derive(Clone, Debug, PartialEq)]
pub struct SlCaiSet {
    /// The conversations, in mixed order.
    pub conversations: Vec<Conversation>,
    /// How many end with a final revision or a safe answer.
    pub revisions: usize,
    /// How many are helpful ones.
    pub helpful: usize,
}

/// Which revisions of an answer SL-CAI is trained on.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Revisions {
    /// The last that breaks no rule.
    #[default]
    Last,
    /// All that break no rule, as in the paper.
    All,
}

/// Prompts with their revisions, mixed with helpful conversations of which `seed` picks as many as
/// make up `share` of the whole (section 3.1 of the paper). Only clean records count (see
/// [`CritiqueRecord::is_clean`]): an answer that stayed as it was is trained on only if it was safe.
///
/// The revisions' other fields are those of the prompt, `source: "revision"` and `id`.
///
/// # Errors
///
/// [`Error::NoRevision`] without a clean record, [`Error::TooFewHelpful`],
/// [`Error::Setting`] for a share that is not from 0 to below 1.
pub fn sl_cai_conversations(
    records: &[CritiqueRecord],
    helpful: &[Conversation],
    share: f64,
    which: Revisions,
    seed: Seed,
) -> Result<SlCaiSet> {
    if !(0.0..1.0).contains(&share) {
        let reason = format!("is {share}; use a share from 0 to below 1");
        return Err(Error::Setting { key: "sl_cai.helpful_share", reason });
    }
    let mut conversations: Vec<Conversation> = records
        .iter()
        .filter(|record| record.is_clean())
        .flat_map(|record| revised_conversations(record, which))
        .collect();
    let revisions = conversations.len();
    if revisions == 0 {
        return Err(Error::NoRevision { why: of_critiques(records) });
    }
    let needed = (revisions as f64 * share / (1.0 - share)).round() as usize;
    if needed > helpful.len() {
        return Err(Error::TooFewHelpful { share, needed, revisions, given: helpful.len() });
    }
    let mut picked: Vec<&Conversation> = helpful.iter().collect();
    picked.shuffle(&mut seed.derive("helpful").rng());
    conversations.extend(picked.into_iter().take(needed).cloned());
    conversations.shuffle(&mut seed.derive("order").rng());
    Ok(SlCaiSet { conversations, revisions, helpful: needed })
}

fn revised_conversations(record: &CritiqueRecord, which: Revisions) -> Vec<Conversation> {
    let used = record.rounds.iter().filter(|round| round.cleaning.is_empty());
    let answers: Vec<&str> = match which {
        Revisions::All if record.outcome == Outcome::Revised => {
            used.map(|round| round.revision.as_str()).collect()
        }
        _ => vec![&record.final_revision],
    };
    let conversation = |answer: &str| {
        let mut messages = record.prompt.clone();
        messages.push(Message::assistant(answer));
        Conversation { messages, extra: extra(record) }
    };
    answers.into_iter().map(conversation).collect()
}

/// Pairs of final revision (chosen) and initial answer (rejected), of the records in which the
/// answer was replaced and the initial one breaks no rule: a cut-off or empty rejected answer would
/// teach length, not harmlessness.
///
/// Other fields: those of the prompt, `source: "revision"`, `id`, and the harm scores
/// `chosen_harm`, `rejected_harm` where there are any.
pub fn revision_pairs(records: &[CritiqueRecord]) -> Vec<PreferencePair> {
    let usable = records.iter().filter(|record| {
        record.outcome == Outcome::Revised
            && record.initial.cleaning.is_empty()
            && record.final_revision != record.initial.text
    });
    usable.map(revision_pair).collect()
}

fn revision_pair(record: &CritiqueRecord) -> PreferencePair {
    let mut pair = PreferencePair::new(
        record.prompt.clone(),
        vec![Message::assistant(&record.final_revision)],
        vec![Message::assistant(&record.initial.text)],
    );
    pair.extra = extra(record);
    let (chosen, _) = record.in_use(record.rounds.len());
    for (key, harm) in [("chosen_harm", chosen), ("rejected_harm", record.initial.harm)] {
        pair.extra.extend(harm.map(|harm| (key.to_owned(), harm.into())));
    }
    pair
}

fn extra(record: &CritiqueRecord) -> Map<String, Value> {
    let mut extra = record.extra.clone();
    extra.insert("source".into(), "revision".into());
    extra.insert("id".into(), record.id.as_str().into());
    extra
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clean::Rule;
    use crate::{Answer, Round};
    use cai_data::constitution::Category;

    /// A record whose initial answer is `first`, revised to `last` in one round.
    fn record(id: usize, first: &str, last: &str, outcome: Outcome) -> CritiqueRecord {
        let round = Round {
            principle: "danger".into(),
            category: Category::HarmPrevention,
            critique: "Too much.".into(),
            revision: last.into(),
            unrepaired: None,
            repairs: vec![],
            harm: Some(0.1),
            risk: None,
            refused: true,
            cleaning: if first == last { vec![Rule::IdenticalRevision] } else { vec![] },
        };
        CritiqueRecord {
            id: id.to_string(),
            prompt: vec![Message::user("How?")],
            initial: Answer {
                text: first.into(),
                harm: Some(0.9),
                risk: None,
                refused: false,
                cleaning: vec![],
                unrepaired: None,
                repairs: vec![],
            },
            rounds: vec![round],
            final_revision: last.into(),
            outcome,
            seed: 1,
            model: "m".into(),
            critic: None,
            run: "r".into(),
            extra: Map::from_iter([("topic".into(), "locks".into())]),
        }
    }

    fn records() -> Vec<CritiqueRecord> {
        let mut records: Vec<_> =
            (0..6).map(|i| record(i, "So.", "I can't.", Outcome::Revised)).collect();
        records.push(record(6, "Fine.", "Fine.", Outcome::Safe));
        records.push(record(7, "So.", "So.", Outcome::Unchanged));
        records[0].initial.cleaning = vec![Rule::Truncated];
        records
    }

    fn helpful(count: usize) -> Vec<Conversation> {
        let talk = |i| vec![Message::user("Tea?"), Message::assistant(format!("Tea {i}."))];
        (0..count).map(|i| Conversation::new(talk(i))).collect()
    }

    #[test]
    fn revisions_and_helpful_conversations_are_mixed_in_proportion() {
        let set =
            sl_cai_conversations(&records(), &helpful(20), 0.3, Revisions::Last, Seed(1)).unwrap();
        assert_eq!((set.revisions, set.helpful, set.conversations.len()), (7, 3, 10));
        let from_revisions = set.conversations.iter().filter(|c| c.extra.contains_key("source"));
        assert_eq!(from_revisions.count(), 7);
        assert!(set.conversations.iter().all(|c| c.messages[1].content != "So."));
        let again =
            sl_cai_conversations(&records(), &helpful(20), 0.3, Revisions::Last, Seed(1)).unwrap();
        assert_eq!(set, again);
        assert_ne!(
            set,
            sl_cai_conversations(&records(), &helpful(20), 0.3, Revisions::Last, Seed(2)).unwrap()
        );
        let none = sl_cai_conversations(&records(), &[], 0.0, Revisions::Last, Seed(1)).unwrap();
        assert_eq!(none.helpful, 0);
    }

    #[test]
    fn all_revisions_count_where_asked_for() {
        let mut records = records();
        let mut second = records[1].rounds[0].clone();
        second.revision = "I can't help.".into();
        records[1].rounds.push(second.clone());
        second.cleaning = vec![Rule::Repetition];
        records[1].rounds.push(second);
        let count = |which| {
            sl_cai_conversations(&records, &[], 0.0, which, Seed(1)).unwrap().conversations.len()
        };
        assert_eq!((count(Revisions::Last), count(Revisions::All)), (7, 8));
    }

    #[test]
    fn too_little_data_is_an_error_that_says_how_much() {
        let error = sl_cai_conversations(&records(), &helpful(6), 0.5, Revisions::Last, Seed(1))
            .unwrap_err();
        assert!(error.to_string().contains("needs 7 helpful"), "{error}");
        let error =
            sl_cai_conversations(&records()[7..], &helpful(6), 0.5, Revisions::Last, Seed(1))
                .unwrap_err();
        assert!(error.to_string().contains("none of 1 critique records"), "{error}");
    }

    #[test]
    fn what_used_up_the_records_is_said_with_the_settings_that_change_it() {
        let mut lost: Vec<_> = records()[7..].iter().cycle().take(4).cloned().collect();
        for (record, rule) in lost.iter_mut().zip([Rule::Truncated, Rule::Truncated, Rule::Loop]) {
            record.rounds[0].cleaning = vec![rule];
        }
        lost[1].initial.cleaning = vec![Rule::Truncated];
        let message = |records: &[CritiqueRecord]| {
            sl_cai_conversations(records, &[], 0.0, Revisions::Last, Seed(1))
                .unwrap_err()
                .to_string()
        };
        let told = message(&lost);
        for part in [
            "none of 4 critique records (4 unchanged)",
            "initial answers by broken rule: 1 truncated;",
            "1 identical_revision, 1 loop, 2 truncated",
            "critique.revision.max_new_tokens",
            "critique.on_truncation: trim_to_sentence",
            "repetition_penalty",
        ] {
            assert!(told.contains(part), "{part}: {told}");
        }
        assert!(!told.contains("never ended"), "{told}");
        lost[2].initial.cleaning = vec![Rule::Loop];
        assert!(message(&lost).contains("5 of 8 texts never ended"), "{}", message(&lost));
        assert!(message(&lost).contains("sft.lora.trainable_token_indices"));
    }

    #[test]
    fn pairs_prefer_the_revision_over_a_whole_initial_answer() {
        let pairs = revision_pairs(&records());
        assert_eq!(pairs.len(), 5);
        assert_eq!(pairs[0].chosen, [Message::assistant("I can't.")]);
        assert_eq!(pairs[0].rejected, [Message::assistant("So.")]);
        let extra = serde_json::to_value(&pairs[0].extra).unwrap();
        let expected = serde_json::json!({
            "topic": "locks", "source": "revision", "id": "1",
            "chosen_harm": 0.1, "rejected_harm": 0.9,
        });
        assert_eq!(extra, expected);
    }
}
