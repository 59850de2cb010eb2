//! Text folding for overlap tests.

/// Folds what makes no difference between two prompts: letters become lower case, and every run of
/// anything but letters and digits becomes one space, none at the ends. Two texts count as the same
/// if their folded forms are equal; a text without letters and digits folds to nothing.
///
/// Accents written as separate characters are dropped with the punctuation, but do not split words.
pub fn normalise(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    if text.is_ascii() {
        for word in text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty()) {
            if !folded.is_empty() {
                folded.push(' ');
            }
            folded.push_str(word);
        }
        folded.make_ascii_lowercase();
        return folded;
    }
    let mut space = false;
    for c in text.chars().filter(|c| !is_combining_accent(*c)) {
        if !c.is_alphanumeric() {
            space = true;
            continue;
        }
        if space && !folded.is_empty() {
            folded.push(' ');
        }
        space = false;
        // Lower-casing İ gives an i and a separate dot, which is dropped as above.
        folded.extend(c.to_lowercase().filter(|c| !is_combining_accent(*c)));
    }
    folded
}

/// Whether a word, folded, carries no content of its own ("don't" is "don t").
pub fn is_function_word(word: &str) -> bool {
    word.len() <= LONGEST && KEYS.binary_search(&key(word.as_bytes())).is_ok()
}

/// Letters of the longest function word at most: as many as a number has bytes.
const LONGEST: usize = 8;

/// A word of at most [`LONGEST`] bytes as a number, in the order of the words.
const fn key(word: &[u8]) -> u64 {
    let mut bytes = [0; LONGEST];
    let mut i = 0;
    while i < word.len() {
        bytes[i] = word[i];
        i += 1;
    }
    u64::from_be_bytes(bytes)
}

/// The function words as numbers, which compare faster than texts.
const KEYS: [u64; FUNCTION_WORDS.len()] = {
    let mut keys = [0; FUNCTION_WORDS.len()];
    let mut i = 0;
    while i < keys.len() {
        keys[i] = key(FUNCTION_WORDS[i].as_bytes());
        i += 1;
    }
    keys
};

/// In order.
const FUNCTION_WORDS: [&str; 124] = [
    "a", "about", "after", "again", "all", "also", "am", "an", "and", "any", "are", "as", "at",
    "be", "because", "been", "before", "being", "both", "but", "by", "can", "could", "d", "did",
    "do", "does", "doing", "don", "each", "few", "first", "for", "from", "had", "has", "have",
    "having", "he", "her", "here", "him", "his", "how", "i", "if", "in", "into", "is", "it", "its",
    "just", "ll", "m", "may", "me", "might", "more", "most", "must", "my", "next", "no", "nor",
    "not", "now", "of", "on", "once", "only", "or", "other", "our", "out", "over", "own", "re",
    "s", "same", "second", "shall", "she", "should", "so", "some", "such", "t", "than", "that",
    "the", "their", "them", "then", "there", "these", "they", "this", "those", "through", "to",
    "too", "under", "up", "us", "ve", "very", "was", "we", "were", "what", "when", "where",
    "which", "while", "who", "whom", "why", "will", "with", "would", "yes", "you", "your", "yours",
];

fn is_combining_accent(c: char) -> bool {
    ('\u{300}'..='\u{36f}').contains(&c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn case_punctuation_and_white_space_do_not_count() {
        assert_eq!(normalise("  How do I\n\nbrew TEA?! "), "how do i brew tea");
        assert_eq!(normalise("don’t – stop"), normalise("Don't stop…"));
        assert_eq!(normalise("...\t"), "");
        assert_eq!(normalise("cafe\u{301}s"), "cafes");
    }

    #[test]
    fn letters_and_digits_count() {
        assert_ne!(normalise("step 1"), normalise("step 2"));
        assert_ne!(normalise("a b"), normalise("ab"));
        assert_eq!(normalise("ÄÖ 東京"), "äö 東京");
    }

    #[test]
    fn the_function_words_are_in_order_and_folded() {
        assert!(FUNCTION_WORDS.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(FUNCTION_WORDS.iter().all(|word| normalise(word) == *word));
        assert!(FUNCTION_WORDS.iter().all(|word| is_function_word(word)));
        for word in ["", "tea", "abouts", "abou", "information", "überall"] {
            assert!(!is_function_word(word), "{word}");
        }
    }

    proptest! {
        #[test]
        fn folding_twice_changes_nothing(text in any::<String>()) {
            let once = normalise(&text);
            prop_assert_eq!(normalise(&once), once);
        }
    }
}
