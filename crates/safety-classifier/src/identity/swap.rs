//! The same text about other people (counterfactual data augmentation: Zmigrod et al., arXiv
//! 1906.04571; here a swap of terms, which keeps grammar only roughly).

use cai_data::seed::Seed;
use rand::seq::IndexedRandom;

use super::{TERMS, all_terms, capitalised};

/// The commonest words among the terms are seldom about identity.
const SELDOM_MEANT: [&str; 3] = ["old", "young", "straight"];

/// `text` with every term of identity that it names replaced by the next one of its kind. `None` if it
/// names none.
pub fn with_next_terms(text: &str) -> Option<String> {
    let next = |term: &str| {
        let of = |terms: &[&'static str]| {
            let at = terms.iter().position(|other| *other == term)?;
            Some(terms[(at + 1) % terms.len()])
        };
        TERMS.iter().find_map(|(_, terms)| of(terms))
    };
    replaced(text, next)
}

/// `text` with every term of identity that it names replaced by one drawn from all of them, the same
/// for the same term. `None` if it names none.
pub fn with_drawn_terms(text: &str, seed: Seed) -> Option<String> {
    let all = all_terms();
    replaced(text, |term| all.choose(&mut seed.derive(term).rng()).map(|(_, other)| *other))
}

fn replaced(text: &str, other: impl Fn(&str) -> Option<&'static str>) -> Option<String> {
    let mut found = false;
    let words = text.split_inclusive(|c: char| !c.is_alphanumeric() && c != '-').map(|piece| {
        let word = piece.trim_end_matches(|c: char| !c.is_alphanumeric() && c != '-');
        let Some((other, many)) = named(word).and_then(|(term, many)| Some((other(term)?, many)))
        else {
            return piece.to_string();
        };
        found = true;
        let capital = word.starts_with(char::is_uppercase);
        let other = if capital { capitalised(other) } else { other.to_lowercase() };
        other + if many { " people" } else { "" } + &piece[word.len()..]
    });
    let replaced: String = words.collect();
    found.then_some(replaced)
}

/// The term that a word names, and whether it names many such people ("Muslims").
fn named(word: &str) -> Option<(&'static str, bool)> {
    let word = word.to_lowercase();
    if SELDOM_MEANT.contains(&word.as_str()) {
        return None;
    }
    if word == "jews" {
        return Some(("Jewish", true));
    }
    all_terms().into_iter().find_map(|(_, term)| {
        let rest = word.strip_prefix(&term.to_lowercase())?;
        ["", "s"].contains(&rest).then_some((term, rest == "s"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_else_is_kept() {
        let next = |text| with_next_terms(text);
        assert_eq!(next("A muslim, and GAY men.").unwrap(), "A jewish, and Lesbian men.");
        assert_eq!(next("Muslims and jews!").unwrap(), "Jewish people and hindu people!");
        assert_eq!(next("an old car"), None);
        assert_eq!(next("Maleficent"), None);
    }

    #[test]
    fn one_term_becomes_one_other() {
        let drawn: Vec<String> = (0..50)
            .map(|i| with_drawn_terms("Sikh men, sikh women", Seed(i)).unwrap().to_lowercase())
            .collect();
        for text in &drawn {
            let (men, women) = text.split_once(", ").unwrap();
            assert_eq!(men.strip_suffix(" men"), women.strip_suffix(" women"), "{text}");
        }
        assert!(drawn.iter().any(|text| text != &drawn[0]));
    }
}
