//! Folding text, so that spellings meant to be read alike are read alike.
//!
//! What a person still reads but a word list misses (look-alike letters, digits for letters, letters
//! set apart, invisible characters) is undone before any feature is made. The same folding runs in
//! training, so a fold that is wrong for some word is wrong in the same way everywhere.

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// Letters of other scripts that look like a Latin one, after lower-casing.
const LOOK_ALIKE: &[(char, char)] = &[
    ('а', 'a'),
    ('в', 'b'),
    ('с', 'c'),
    ('ԁ', 'd'),
    ('е', 'e'),
    ('ҽ', 'e'),
    ('ғ', 'f'),
    ('ɡ', 'g'),
    ('һ', 'h'),
    ('і', 'i'),
    ('ї', 'i'),
    ('ј', 'j'),
    ('к', 'k'),
    ('ӏ', 'l'),
    ('м', 'm'),
    ('н', 'h'),
    ('п', 'n'),
    ('о', 'o'),
    ('р', 'p'),
    ('ԛ', 'q'),
    ('г', 'r'),
    ('ѕ', 's'),
    ('т', 't'),
    ('ц', 'u'),
    ('ѵ', 'v'),
    ('ш', 'w'),
    ('ԝ', 'w'),
    ('х', 'x'),
    ('у', 'y'),
    ('ү', 'y'),
    ('з', 'z'),
    ('α', 'a'),
    ('β', 'b'),
    ('ϲ', 'c'),
    ('δ', 'd'),
    ('ε', 'e'),
    ('η', 'n'),
    ('ι', 'i'),
    ('ϳ', 'j'),
    ('κ', 'k'),
    ('ν', 'v'),
    ('ο', 'o'),
    ('ρ', 'p'),
    ('σ', 'o'),
    ('ς', 's'),
    ('τ', 't'),
    ('υ', 'u'),
    ('χ', 'x'),
    ('ω', 'w'),
    ('γ', 'y'),
    ('μ', 'm'),
    ('ζ', 'z'),
    ('θ', 'o'),
    ('օ', 'o'),
    ('ո', 'n'),
    ('ս', 'u'),
    ('հ', 'h'),
    ('ց', 'g'),
    ('զ', 'q'),
    ('ı', 'i'),
    ('ɑ', 'a'),
    ('ø', 'o'),
    ('ł', 'l'),
    ('đ', 'd'),
    ('ʀ', 'r'),
    ('ɴ', 'n'),
    ('ʜ', 'h'),
    ('ɪ', 'i'),
    ('ʟ', 'l'),
    ('ᴀ', 'a'),
    ('ʙ', 'b'),
    ('ᴄ', 'c'),
    ('ᴅ', 'd'),
    ('ᴇ', 'e'),
    ('ᴋ', 'k'),
    ('ᴍ', 'm'),
    ('ᴏ', 'o'),
    ('ᴘ', 'p'),
    ('ᴛ', 't'),
    ('ᴜ', 'u'),
    ('ᴠ', 'v'),
    ('ᴡ', 'w'),
    ('ʏ', 'y'),
    ('ᴢ', 'z'),
];

/// Letters written as digits or signs.
const LEET: &[(char, char)] = &[
    ('0', 'o'),
    ('1', 'i'),
    ('3', 'e'),
    ('4', 'a'),
    ('5', 's'),
    ('7', 't'),
    ('8', 'b'),
    ('9', 'g'),
    ('@', 'a'),
    ('$', 's'),
    ('!', 'i'),
    ('|', 'l'),
    ('+', 't'),
    ('€', 'e'),
    ('£', 'l'),
];

/// The named character references that social media leave in texts.
const ENTITIES: &[(&str, &str)] = &[
    ("&amp;", "&"),
    ("&lt;", "<"),
    ("&gt;", ">"),
    ("&quot;", "\""),
    ("&apos;", "'"),
    ("&nbsp;", " "),
];

/// The longest suffix of a number that is a unit ("50ml", "4th") and not a disguised word.
const LONGEST_UNIT: usize = 2;
/// Single letters in a row that are taken for one word set apart.
const FEWEST_APART: usize = 3;
/// A character is kept at most this often in a row.
const LONGEST_RUN: usize = 2;

/// Folds `text`: character references and compatibility forms are resolved, invisible characters
/// and accents dropped, look-alike letters and leetspeak turned into Latin letters, letters set
/// apart joined, runs shortened, addresses and user names replaced by `url` and `@user`, all in
/// lower case with single spaces.
///
/// Any text folds, the empty one and one of nothing but signs included; folding never fails.
pub fn fold(text: &str) -> String {
    let text = characters(&resolve_entities(&resolve_entities(text)));
    let words: Vec<String> = text.split_whitespace().flat_map(word).collect();
    shorten_runs(&join_apart(&words))
}

/// Tokens of a folded text: words (letters, digits, `_`, `@`, `#`, `'`) and single signs.
pub fn tokens(folded: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut start = None;
    for (at, c) in folded.char_indices() {
        if c.is_alphanumeric() || "_@#'".contains(c) {
            start.get_or_insert(at);
            continue;
        }
        if let Some(start) = start.take() {
            tokens.push(&folded[start..at]);
        }
        if !c.is_whitespace() {
            tokens.push(&folded[at..at + c.len_utf8()]);
        }
    }
    tokens.extend(start.map(|start| &folded[start..]));
    tokens
}

fn resolve_entities(text: &str) -> String {
    if !text.contains('&') {
        return text.into();
    }
    let mut resolved = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        resolved.push_str(&rest[..at]);
        rest = &rest[at..];
        let (character, length) = entity(rest).unwrap_or_else(|| ("&".into(), 1));
        resolved.push_str(&character);
        rest = &rest[length..];
    }
    resolved + rest
}

/// The character that a reference at the start of `text` stands for, and the reference's length.
fn entity(text: &str) -> Option<(String, usize)> {
    if let Some((name, character)) = ENTITIES.iter().find(|(name, _)| text.starts_with(name)) {
        return Some(((*character).into(), name.len()));
    }
    let digits = text.strip_prefix("&#")?;
    let end = digits.bytes().take(8).position(|byte| byte == b';')?;
    let code = match digits[..end].strip_prefix(['x', 'X']) {
        Some(hex) => u32::from_str_radix(hex, 16),
        None => digits[..end].parse(),
    };
    let character = char::from_u32(code.ok()?)?;
    Some((character.to_string(), "&#;".len() + end))
}

/// Compatibility forms, accents, invisible characters, case, and quotes as typewriters have them.
fn characters(text: &str) -> String {
    let visible = |c: &char| !is_combining_mark(*c) && !is_invisible(*c);
    let lower: String = text.nfkd().filter(visible).flat_map(char::to_lowercase).collect();
    lower
        .replace(['\u{2018}', '\u{2019}', '`', '\u{b4}'], "'")
        .replace("''", "\"")
        .replace(['\u{201c}', '\u{201d}', '\u{ab}', '\u{bb}'], "\"")
}

fn is_invisible(c: char) -> bool {
    let format = matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
        | '\u{e0000}'..='\u{e007f}');
    format || (c.is_control() && !c.is_whitespace())
}

/// One word between white space; none for a piece that says nothing.
fn word(raw: &str) -> Option<String> {
    if raw.contains("://") || raw.starts_with("www.") {
        return Some("url".into());
    }
    if let Some(name) = raw.trim_start_matches(|c| c == '.' || c == '"').strip_prefix('@')
        && name.chars().filter(|c| c.is_alphanumeric() || *c == '_').count() > 3
    {
        return Some("@user".into());
    }
    let latin = look_alikes(raw);
    Some(leet(&dots(&latin)))
}

/// Replaces look-alike letters where the whole word then is Latin: a word that is really Russian or
/// Greek keeps its letters.
fn look_alikes(word: &str) -> String {
    if word.is_ascii() {
        return word.into();
    }
    let replaced: String = word.chars().map(|c| lookup(LOOK_ALIKE, c).unwrap_or(c)).collect();
    let latin = replaced.chars().all(|c| !c.is_alphabetic() || c.is_ascii());
    if latin { replaced } else { word.into() }
}

/// Joins single letters parted by one sign: "k.i.l.l", "k-i-l-l".
fn dots(word: &str) -> String {
    let letters: Vec<char> = word.chars().collect();
    let apart = |sign: char| {
        let pairs = letters.len() / 2;
        letters.len() > 2 * (FEWEST_APART - 1)
            && (0..pairs).all(|i| letters[2 * i].is_alphanumeric() && letters[2 * i + 1] == sign)
    };
    match ['.', '-', '_', '*', '/', ',', '~', '|', '+'].into_iter().find(|&sign| apart(sign)) {
        Some(sign) => letters.into_iter().filter(|&c| c != sign).collect(),
        None => word.into(),
    }
}

/// Reads digits and signs within a word as letters; numbers, also with a unit or at the end of a
/// name ("covid19"), stay.
fn leet(word: &str) -> String {
    let characters: Vec<char> = word.chars().collect();
    let is_letter = |i: usize| characters.get(i).is_some_and(|c| c.is_alphabetic());
    let stem = characters.iter().position(|c| c.is_alphabetic());
    let Some(first_letter) = stem else { return word.into() };
    let digits_first = characters[..first_letter].iter().any(char::is_ascii_digit);
    let letters = characters.iter().filter(|c| c.is_alphabetic()).count();
    if digits_first && letters <= LONGEST_UNIT {
        return word.into();
    }
    let last_letter = characters.iter().rposition(|c| c.is_alphabetic()).unwrap_or(0);
    let number_at_end = characters[last_letter + 1..].iter().filter(|c| c.is_ascii_digit()).count();
    let replace = |(i, &c): (usize, &char)| {
        let letter = lookup(LEET, c);
        let inside =
            i < last_letter && (i > first_letter || is_letter(i + 1) || c.is_ascii_digit());
        let ending = i > last_letter && c.is_ascii_digit() && number_at_end == 1;
        match letter {
            Some(letter) if inside || ending => letter,
            _ => c,
        }
    };
    characters.iter().enumerate().map(replace).collect()
}

/// Joins words with single spaces, and letters that were set apart ("h a t e") with none. A
/// tokenised clitic ("do n't", "it 's") goes back to its word.
fn join_apart(words: &[String]) -> String {
    let single = |word: &String| {
        let mut characters = word.chars();
        characters.next().is_some_and(char::is_alphanumeric) && characters.next().is_none()
    };
    let mut joined = String::new();
    let mut at = 0;
    while at < words.len() {
        let run = words[at..].iter().take_while(|word| single(word)).count();
        let take = if run >= FEWEST_APART { run } else { 1 };
        let piece = words[at..at + take].concat();
        let clitic = piece == "n't" || (piece.len() > 1 && piece.starts_with('\''));
        if !joined.is_empty() && !clitic {
            joined.push(' ');
        }
        joined.push_str(&piece);
        at += take;
    }
    joined
}

fn shorten_runs(text: &str) -> String {
    let mut short = String::with_capacity(text.len());
    let (mut last, mut run) = (None, 0);
    for c in text.chars() {
        run = if last == Some(c) { run + 1 } else { 1 };
        last = Some(c);
        if run <= LONGEST_RUN {
            short.push(c);
        }
    }
    short
}

fn lookup(table: &[(char, char)], c: char) -> Option<char> {
    table.iter().find(|(from, _)| *from == c).map(|(_, to)| *to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn disguises_are_undone() {
        let same = [
            ("hateful people", "h4teful pe0ple"),
            ("hateful people", "HATEFUL   People"),
            ("hateful people", "hаtеful реорlе"),
            ("hateful people", "ｈａｔｅｆｕｌ people"),
            ("hateful people", "ha\u{200b}teful pe\u{301}ople"),
            ("go hate", "go h a t e"),
            ("go hate", "go h.a.t.e"),
            ("stupid", "$tup1d"),
            ("soo bad", "sooooo b@d"),
            ("don't", "don\u{2019}t"),
            ("i don't", "i do n't"),
            ("this & that", "this &amp;amp; that"),
            ("& url", "&#38; https://example.org/x?y"),
            ("@user hi", "@somebody hi"),
        ];
        for (plain, disguised) in same {
            assert_eq!(fold(disguised), plain, "{disguised}");
        }
    }

    #[test]
    fn numbers_stay_and_foreign_words_stay() {
        for text in ["take 50ml at 10 pm", "covid19 in 2020", "the 4th of 12", "привет мир", "!?"]
        {
            assert_eq!(fold(text), text);
        }
    }

    #[test]
    fn tokens_are_words_and_signs() {
        assert_eq!(tokens("don't #tag, ok?"), ["don't", "#tag", ",", "ok", "?"]);
        assert_eq!(tokens(""), Vec::<&str>::new());
    }

    proptest! {
        #[test]
        fn any_text_folds_to_single_spaces(text in any::<String>()) {
            let folded = fold(&text);
            prop_assert!(!folded.contains("  ") && folded.trim() == folded, "{folded:?}");
        }
    }
}
