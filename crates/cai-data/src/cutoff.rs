//! Texts that were cut off at the largest number of tokens: what of them can be used, and whether they
//! would have ended at all.

use serde::{Deserialize, Serialize};

use crate::text::normalise;

/// What becomes of an answer that was cut off.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnTruncation {
    /// It is not used.
    #[default]
    Drop,
    /// It is used up to the end of its last whole sentence; not at all where there is none, or where it
    /// ends in a loop.
    TrimToSentence,
}

impl OnTruncation {
    /// The part of a text, cut off, that is used; `None` if it is not used.
    pub fn usable(self, text: &str) -> Option<&str> {
        match self {
            OnTruncation::Drop => None,
            OnTruncation::TrimToSentence if ends_in_loop(text) => None,
            OnTruncation::TrimToSentence => to_last_sentence(text),
        }
    }
}

/// Fewer words are no answer.
const FEWEST_WORDS: usize = 3;

/// The text up to the end of its last whole sentence, if that leaves a few words.
///
/// A sentence ends with a mark (`.`, `!`, `?`, `…` or one of 。！？), closing quotes and brackets
/// after it, and then white space, the end of the text, or, after the last three marks, anything. The
/// point of a list's number or of a common abbreviation ends none.
pub fn to_last_sentence(text: &str) -> Option<&str> {
    let mut ends = text.char_indices().filter_map(|(at, mark)| sentence_end(text, at, mark));
    let kept = text[..ends.next_back()?].trim();
    (kept.split_whitespace().count() >= FEWEST_WORDS).then_some(kept)
}

/// Where the sentence ends whose mark is at `at`, if one does.
fn sentence_end(text: &str, at: usize, mark: char) -> Option<usize> {
    let wide = matches!(mark, '。' | '！' | '？');
    if !wide && !matches!(mark, '.' | '!' | '?' | '…') {
        return None;
    }
    let closes = |c: char| "\"'”’»)]*_`".contains(c);
    let rest = text[at + mark.len_utf8()..].trim_start_matches(closes);
    let ends = wide || rest.is_empty() || rest.starts_with(char::is_whitespace);
    (ends && !(mark == '.' && names_no_end(&text[..at]))).then_some(text.len() - rest.len())
}

const ABBREVIATIONS: [&str; 10] = ["e.g", "i.e", "cf", "dr", "mr", "mrs", "ms", "prof", "st", "vs"];

/// Whether the point after this text belongs to a number at the beginning of a line, or to an
/// abbreviation.
fn names_no_end(before: &str) -> bool {
    let line = before.rsplit('\n').next().unwrap_or_default().trim_start();
    let numbers = !line.is_empty() && line.chars().all(char::is_numeric);
    let word = before.rsplit(char::is_whitespace).next().unwrap_or_default();
    let word = word.trim_start_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
    numbers || ABBREVIATIONS.contains(&word.as_str())
}

/// Longest phrase that a loop repeats, in words.
const LONGEST_PHRASE: usize = 40;
/// Longest run of characters that one repeats, for loops that are no words, and how many characters
/// they must fill.
const LONGEST_RUN: usize = 16;
const FEWEST_CHARACTERS: usize = 40;

/// Whether a text ends in a phrase over and over: one or two words four times, more words three times,
/// numbers aside (they count up in lists); or in a short run of characters over and over.
pub fn ends_in_loop(text: &str) -> bool {
    let folded = normalise(text);
    let is_word = |word: &&str| !word.is_empty() && !word.chars().all(char::is_numeric);
    let words: Vec<&str> = folded.split(' ').filter(is_word).collect();
    // The last word may be cut in its middle.
    let whole = &words[..words.len().saturating_sub(1)];
    let times = |length: usize| if length < 3 { 4 } else { 3 };
    let repeats = |words: &[&str]| {
        (1..=LONGEST_PHRASE)
            .any(|length| same_at_end(words, length) >= (times(length) - 1) * length)
    };
    let characters: Vec<char> = text.trim_end().chars().collect();
    let fills = |length: usize| same_at_end(&characters, length) + length >= FEWEST_CHARACTERS;
    repeats(&words) || repeats(whole) || (1..=LONGEST_RUN).any(fills)
}

/// How many items at the end are the same as those `length` places before.
fn same_at_end<T: PartialEq>(items: &[T], length: usize) -> usize {
    (length..items.len()).rev().take_while(|&i| items[i] == items[i - length]).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_text_is_used_up_to_its_last_whole_sentence() {
        for (text, kept) in [
            ("First boil water. Then warm the", Some("First boil water.")),
            ("Is it safe? \"It is safe!\" he said and", Some("Is it safe? \"It is safe!\"")),
            ("Do this:\n1. Boil it well.\n2. Stir", Some("Do this:\n1. Boil it well.")),
            ("Ask a nurse, e.g. Dr. Meier, who", None),
            ("It costs 3.50 a", None),
            ("No. I", None),
            ("水を沸かします。次に 火を 止め", None),
            ("まず 水を 沸かします。次に", Some("まず 水を 沸かします。")),
            ("It is well known.", Some("It is well known.")),
            ("Never **mix these two.** Then", Some("Never **mix these two.**")),
            ("", None),
        ] {
            assert_eq!(to_last_sentence(text), kept, "{text}");
        }
    }

    #[test]
    fn a_loop_is_told_from_an_answer_that_is_long() {
        for text in [
            "I am sorry, I am sorry, I am sorry, I am so",
            "Help help help help help",
            "1. Be kind to all. 2. Be kind to all. 3. Be kind to all. 4. Be ki",
            "It is a good day. It is a good day. It is a good day. It is",
            &"!".repeat(60),
            &"ha".repeat(40),
        ] {
            assert!(ends_in_loop(text), "{text}");
            assert_eq!(OnTruncation::TrimToSentence.usable(text), None);
        }
        for text in [
            "Step 1: warm the oven. Step 2: mix it. Step 3: bake it.",
            "No, no, no: that is unsafe. Ask someone who knows what",
            "help help help help was all that he said before the ship left",
            "-----------------------------------",
            "",
        ] {
            assert!(!ends_in_loop(text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_kept_is_the_beginning_and_is_kept_again(text in "[a-c.!? \n\"1]{0,40}") {
            if let Some(kept) = to_last_sentence(&text) {
                prop_assert!(text.trim_start().starts_with(kept));
                prop_assert_eq!(to_last_sentence(kept), Some(kept));
            }
        }
    }
}
