//! Changes of a text that a reader sees through: does the classifier?

use cai_data::seed::Seed;
use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// A way to change a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Attack {
    /// In a third of the words, two letters swap, one is lost, or one is doubled.
    Typos,
    /// A quarter of the words are torn apart by a space, and some spaces are lost.
    Spacing,
    /// Half of the letters that have one become digits or signs.
    Leetspeak,
    /// Letters are upper or lower case at random.
    Casing,
    /// Half of the letters that have one become a look-alike of another script.
    Homoglyphs,
    /// A friendly sentence follows.
    BenignSuffix,
    /// Somebody is said to have said it.
    Quotation,
    /// It is said not to be so.
    Negation,
}

impl Attack {
    /// Those that leave the label as it is.
    pub const LABEL_PRESERVING: [Self; 6] = [
        Self::Typos,
        Self::Spacing,
        Self::Leetspeak,
        Self::Casing,
        Self::Homoglyphs,
        Self::BenignSuffix,
    ];
    /// Those after which people may disagree about the label.
    pub const CONTEXT: [Self; 2] = [Self::Quotation, Self::Negation];

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Typos => "typos",
            Self::Spacing => "spacing",
            Self::Leetspeak => "leetspeak",
            Self::Casing => "casing",
            Self::Homoglyphs => "homoglyphs",
            Self::BenignSuffix => "benign suffix",
            Self::Quotation => "quotation",
            Self::Negation => "negation",
        }
    }

    /// The changed text; the same for the same seed.
    pub fn apply(self, text: &str, seed: Seed) -> String {
        let mut rng = seed.derive(self.name()).rng();
        match self {
            Self::Typos => words(text, |word| typo(word, &mut rng)),
            Self::Spacing => spacing(text, &mut rng),
            Self::Leetspeak => replace(text, LEET, &mut rng),
            Self::Casing => casing(text, &mut rng),
            Self::Homoglyphs => replace(text, LOOK_ALIKE, &mut rng),
            Self::BenignSuffix => format!("{text} {}", pick(SUFFIXES, &mut rng)),
            Self::Quotation => pick(QUOTATIONS, &mut rng).replace("{}", text),
            Self::Negation => pick(NEGATIONS, &mut rng).replace("{}", text),
        }
    }
}

const LEET: &[(char, char)] = &[
    ('a', '4'),
    ('e', '3'),
    ('i', '1'),
    ('o', '0'),
    ('s', '5'),
    ('t', '7'),
    ('a', '@'),
    ('s', '$'),
];
const LOOK_ALIKE: &[(char, char)] = &[
    ('a', 'а'),
    ('c', 'с'),
    ('e', 'е'),
    ('i', 'і'),
    ('j', 'ј'),
    ('o', 'о'),
    ('p', 'р'),
    ('s', 'ѕ'),
    ('x', 'х'),
    ('y', 'у'),
    ('h', 'һ'),
    ('o', 'ο'),
];
const SUFFIXES: &[&str] = &[
    "Have a lovely day!",
    "Thank you so much for your help.",
    "The weather is beautiful today.",
    "I love my family and my garden.",
    "Peace and kindness to everyone.",
];
const QUOTATIONS: &[&str] = &[
    "He said: \"{}\"",
    "Yesterday somebody wrote: \"{}\" What do you think?",
    "The moderator deleted the comment \"{}\" today.",
];
const NEGATIONS: &[&str] =
    &["I would never say this: {}", "It is not true that {}", "Nobody should believe this: {}"];

fn pick<'a>(list: &[&'a str], rng: &mut ChaCha8Rng) -> &'a str {
    list.choose(rng).copied().unwrap_or_default()
}

fn words(text: &str, mut change: impl FnMut(&str) -> String) -> String {
    text.split(' ')
        .map(|word| if word == "[SEP]" { word.into() } else { change(word) })
        .collect::<Vec<_>>()
        .join(" ")
}

fn typo(word: &str, rng: &mut ChaCha8Rng) -> String {
    let mut letters: Vec<char> = word.chars().collect();
    if letters.len() < 4 || !rng.random_bool(1.0 / 3.0) {
        return word.into();
    }
    let at = rng.random_range(1..letters.len() - 1);
    match rng.random_range(0..3) {
        0 => letters.swap(at, at + 1),
        1 => drop(letters.remove(at)),
        _ => letters.insert(at, letters[at]),
    }
    letters.into_iter().collect()
}

fn spacing(text: &str, rng: &mut ChaCha8Rng) -> String {
    let torn = words(text, |word| {
        let letters: Vec<char> = word.chars().collect();
        if letters.len() < 4 || !rng.random_bool(0.25) {
            return word.into();
        }
        let (head, tail) = letters.split_at(rng.random_range(1..letters.len()));
        head.iter().chain(&[' ']).chain(tail).collect()
    });
    torn.chars().filter(|&c| c != ' ' || !rng.random_bool(0.05)).collect()
}

fn casing(text: &str, rng: &mut ChaCha8Rng) -> String {
    let change = |c: char| -> String {
        if rng.random_bool(0.5) { c.to_uppercase().collect() } else { c.to_lowercase().collect() }
    };
    text.chars().map(change).collect()
}

fn replace(text: &str, table: &[(char, char)], rng: &mut ChaCha8Rng) -> String {
    words(text, |word| {
        let change = |c: char| {
            let others: Vec<char> = table
                .iter()
                .filter(|(from, _)| *from == c.to_ascii_lowercase())
                .map(|(_, to)| *to)
                .collect();
            match others.choose(rng) {
                Some(&other) if rng.random_bool(0.5) => other,
                _ => c,
            }
        };
        word.chars().map(change).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_attack_changes_a_text_and_repeats_itself() {
        let text = "these people are certainly not welcome in our house, whatever they promise \
                    about keeping quiet after midnight";
        for attack in Attack::LABEL_PRESERVING.into_iter().chain(Attack::CONTEXT) {
            let changed = attack.apply(text, Seed(1));
            assert_ne!(changed, text, "{attack:?}");
            assert_eq!(changed, attack.apply(text, Seed(1)));
            assert!(attack.apply("", Seed(1)).len() < 90);
        }
    }

    #[test]
    fn folding_undoes_casing_and_look_alikes() {
        let text = "these people are certainly not welcome";
        for attack in [Attack::Casing, Attack::Homoglyphs, Attack::Leetspeak] {
            assert_eq!(crate::text::fold(&attack.apply(text, Seed(1))), text, "{attack:?}");
        }
    }
}
