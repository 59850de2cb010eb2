//! Counterfactual texts: the same sentence about different people.
//!
//! A classifier that treats people alike gives all of them the same label (counterfactual token
//! fairness, Garg et al., arXiv 1809.10610). The sentences for training and those for the measure
//! have no wording in common; the terms are the same, for that is what must not matter.

use cai_data::record::LabelledText;
use cai_data::seed::Seed;
use rand::seq::IndexedRandom;
use serde_json::Value;

mod swap;

pub use swap::{with_drawn_terms, with_next_terms};

/// Terms of identity by kind; each can stand before a noun ("a … neighbour").
pub const TERMS: &[(&str, &[&str])] = &[
    (
        "religion",
        &["Christian", "Muslim", "Jewish", "Hindu", "Buddhist", "Sikh", "Catholic", "atheist"],
    ),
    (
        "origin",
        &[
            "Black",
            "white",
            "Asian",
            "Latino",
            "Arab",
            "African",
            "Mexican",
            "Chinese",
            "Indian",
            "Polish",
            "Nigerian",
            "Turkish",
            "Pakistani",
            "Romani",
            "American",
            "Irish",
        ],
    ),
    ("gender", &["female", "male", "transgender", "non-binary"]),
    ("orientation", &["gay", "lesbian", "bisexual", "straight"]),
    ("age", &["old", "young", "middle-aged"]),
    ("disability", &["disabled", "blind", "deaf", "autistic"]),
];

// Sentences, one a line; `{x}` stands for the term.
const SAFE_TO_TRAIN: &str = include_str!("train_safe.txt");
const HATE_TO_TRAIN: &str = include_str!("train_hate.txt");
const SAFE_TO_MEASURE: &str = include_str!("measure_safe.txt");
const HATE_TO_MEASURE: &str = include_str!("measure_hate.txt");

/// Training texts about each kind of people: every sentence with `terms` terms drawn by `seed`.
pub fn training_texts(terms: usize, seed: Seed) -> Vec<LabelledText> {
    let seed = seed.derive("identity");
    let all = all_terms();
    let sentences = SAFE_TO_TRAIN.lines().map(|s| (s, "safe"));
    let sentences = sentences.chain(HATE_TO_TRAIN.lines().map(|s| (s, "hate_speech")));
    let mut texts = Vec::new();
    for (i, (sentence, label)) in sentences.enumerate() {
        for &(_, term) in all.sample(&mut seed.index(i as u64).rng(), terms) {
            let mut record = LabelledText::new(fill(sentence, term), label);
            record.extra.insert("source".into(), Value::from("written: identity"));
            texts.push(record);
        }
    }
    texts
}

/// One sentence about everybody.
#[derive(Clone, Debug)]
pub struct Counterfactuals {
    /// The sentence with `{x}` for the term.
    pub sentence: &'static str,
    /// Its label, whoever it is about.
    pub label: &'static str,
    /// Kind, term and text.
    pub texts: Vec<(&'static str, &'static str, String)>,
}

/// The sentences that fairness is measured on, each with every term.
pub fn counterfactuals() -> Vec<Counterfactuals> {
    let safe = SAFE_TO_MEASURE.lines().map(|sentence| (sentence, "safe"));
    let hate = HATE_TO_MEASURE.lines().map(|sentence| (sentence, "hate_speech"));
    safe.chain(hate)
        .map(|(sentence, label)| {
            let text =
                |(kind, term): (&'static str, &'static str)| (kind, term, fill(sentence, term));
            Counterfactuals { sentence, label, texts: all_terms().into_iter().map(text).collect() }
        })
        .collect()
}

fn all_terms() -> Vec<(&'static str, &'static str)> {
    TERMS.iter().flat_map(|(kind, terms)| terms.iter().map(move |term| (*kind, *term))).collect()
}

/// Puts the term in, with the article that it needs and a capital at the start.
fn fill(sentence: &str, term: &str) -> String {
    let vowel = term.starts_with(['a', 'e', 'i', 'o', 'u', 'A', 'E', 'I', 'O', 'U']);
    let text = match vowel {
        true => sentence
            .replace("A {x}", &format!("An {term}"))
            .replace(" a {x}", &format!(" an {term}")),
        false => sentence.into(),
    };
    let text = text.replace("{x}", term);
    if sentence.starts_with('{') { capitalised(&text) } else { text }
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn training_and_measure_share_no_sentence_and_articles_fit() {
        let measured = counterfactuals();
        let sentences: Vec<&str> = SAFE_TO_TRAIN.lines().chain(HATE_TO_TRAIN.lines()).collect();
        assert!(measured.iter().all(|c| !sentences.contains(&c.sentence)));
        assert!(measured.iter().all(|c| c.texts.len() == 39));
        assert_eq!(fill("A {x} man", "Irish"), "An Irish man");
        assert_eq!(fill("{x} people", "old"), "Old people");
        assert_eq!(training_texts(5, Seed(1)).len(), 5 * sentences.len());
        assert_eq!(training_texts(5, Seed(1)), training_texts(5, Seed(1)));
    }
}
