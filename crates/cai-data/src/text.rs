//! Text folding for overlap tests.

/// Folds what makes no difference between two prompts: letters become lower case, and every run of
/// anything but letters and digits becomes one space, none at the ends. Two texts count as the same
/// if their folded forms are equal; a text without letters and digits folds to nothing.
///
/// Accents written as separate characters are dropped with the punctuation, but do not split words.
pub fn normalise(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
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

    proptest! {
        #[test]
        fn folding_twice_changes_nothing(text in any::<String>()) {
            let once = normalise(&text);
            prop_assert_eq!(normalise(&once), once);
        }
    }
}
