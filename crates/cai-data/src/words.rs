//! Texts as sentences of plain words, in which cues are looked for.

/// One sentence, or one item of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sentence {
    /// Its words in lower case, contractions written out ("can't" is "cannot"), single spaces between
    /// them and one at each end. What is quoted (four words or more) is left out.
    pub words: String,
    /// Number of words.
    pub length: usize,
    /// Whether it is an item of a list.
    pub item: bool,
    /// Whether it asks.
    pub question: bool,
}

/// Quotations shorter than this are terms that are talked about, not somebody's sentence.
const QUOTATION_WORDS: usize = 4;

/// Splits a text into sentences: at `.`, `!` and `?` before white space, and at line ends. Code
/// between lines of three backticks counts as items of a list.
pub(crate) fn sentences(text: &str) -> Vec<Sentence> {
    let mut found = Vec::new();
    let mut code = false;
    for line in unquoted(text).lines() {
        if line.trim_start().starts_with("```") {
            code = !code;
            continue;
        }
        let (item, line) = match list_item(line) {
            Some(rest) => (true, rest),
            None => (code, line),
        };
        let mut start = 0;
        for (at, c) in line.char_indices() {
            let end = at + c.len_utf8();
            let next = line[end..].chars().next();
            if matches!(c, '.' | '!' | '?') && next.is_none_or(char::is_whitespace) {
                found.extend(sentence(&line[start..end], item));
                start = end;
            }
        }
        found.extend(sentence(&line[start..], item));
    }
    found
}

fn sentence(text: &str, item: bool) -> Option<Sentence> {
    let (words, length) = fold(text);
    let question = text.trim_end().ends_with('?');
    (length > 0).then_some(Sentence { words, length, item, question })
}

/// What follows the mark of a list item: a number, a letter, a dash or a bullet.
fn list_item(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let rest = line.strip_prefix(['-', '*', '•', '+', '–']).filter(|rest| rest.starts_with(' '));
    let numbered = || {
        let digits = line.bytes().take_while(u8::is_ascii_digit).count();
        let rest = line[digits..].strip_prefix(['.', ')', ':'])?;
        (1..=2).contains(&digits).then_some(rest).filter(|rest| rest.starts_with([' ', '*']))
    };
    rest.or_else(numbered)
}

/// A text without its quotations. Quotation marks around all of it are dropped instead.
fn unquoted(text: &str) -> String {
    let text = text.trim();
    let inner = text.strip_prefix(['"', '“']).and_then(|text| text.strip_suffix(['"', '”']));
    let text = inner.filter(|inner| !inner.contains(['"', '“', '”'])).unwrap_or(text);
    let mut rest = text;
    let mut kept = String::with_capacity(text.len());
    while let Some(open) = rest.find(['"', '“']) {
        let mark = if rest[open..].starts_with('"') { '"' } else { '“' };
        let closing = if mark == '"' { '"' } else { '”' };
        let inside = open + mark.len_utf8();
        let line_end = rest[inside..].find('\n').unwrap_or(rest.len() - inside);
        let Some(length) = rest[inside..inside + line_end].find(closing) else {
            kept.push_str(&rest[..inside]);
            rest = &rest[inside..];
            continue;
        };
        let quoted = &rest[inside..inside + length];
        let sentence = quoted.split_whitespace().count() >= QUOTATION_WORDS;
        kept.push_str(if sentence { &rest[..open] } else { &rest[..inside + length] });
        rest = &rest[inside + length + closing.len_utf8()..];
    }
    kept.push_str(rest);
    kept
}

/// The words of a text as in [`Sentence::words`], and their number.
pub(crate) fn fold(text: &str) -> (String, usize) {
    let mut words = String::with_capacity(text.len() + 16);
    words.push(' ');
    let mut length = 0;
    let is_inner = |c: char| c.is_alphanumeric() || matches!(c, '\'' | '’' | 'ʼ' | '‘');
    for raw in text.split(|c| !is_inner(c)) {
        let raw = raw.trim_matches(|c: char| !c.is_alphanumeric());
        if raw.is_empty() {
            continue;
        }
        let start = words.len();
        if raw.is_ascii() {
            words.push_str(raw);
            words[start..].make_ascii_lowercase();
        } else {
            for c in raw.chars() {
                match c {
                    '’' | 'ʼ' | '‘' => words.push('\''),
                    c => words.extend(c.to_lowercase()),
                }
            }
        }
        length += 1;
        write_out(&mut words, start);
        words.push(' ');
    }
    (words, length)
}

/// Writes out the contraction that starts at `start` and ends the text.
fn write_out(words: &mut String, start: usize) {
    let whole = match &words[start..] {
        "can't" | "cant" => Some("cannot"),
        "won't" | "wont" => Some("will not"),
        "shan't" => Some("shall not"),
        "dont" => Some("do not"),
        "doesnt" => Some("does not"),
        "isnt" => Some("is not"),
        "im" => Some("i am"),
        "let's" => Some("let us"),
        "not" if words[..start].ends_with(" can ") => {
            words.truncate(start - 1);
            words.push_str("not");
            return;
        }
        _ => None,
    };
    if let Some(whole) = whole {
        words.truncate(start);
        words.push_str(whole);
        return;
    }
    if !words[start..].contains('\'') {
        return;
    }
    const ENDINGS: [(&str, &str); 6] = [
        ("n't", " not"),
        ("'m", " am"),
        ("'re", " are"),
        ("'ve", " have"),
        ("'ll", " will"),
        ("'d", " would"),
    ];
    // A name's 's is a genitive; after these words it is "is".
    const IS: [&str; 8] = ["it", "that", "there", "here", "what", "he", "she", "this"];
    for (ending, full) in ENDINGS {
        if words.len() - start > ending.len() && words[start..].ends_with(ending) {
            words.truncate(words.len() - ending.len());
            words.push_str(full);
            return;
        }
    }
    if let Some(stem) = words[start..].strip_suffix("'s").map(str::len) {
        let is = IS.contains(&&words[start..start + stem]);
        words.truncate(start + stem);
        words.push_str(if is { " is" } else { " s" });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_folded_and_contractions_written_out() {
        let of = |text: &str| fold(text).0.trim().to_owned();
        assert_eq!(of("I can’t, I WON'T; it's Ann's."), "i cannot i will not it is ann s");
        assert_eq!(of("I'm sorry: you'd can not"), "i am sorry you would cannot");
        assert_eq!(of("'quoted' words"), "quoted words");
        assert_eq!(fold("—!").1, 0);
    }

    #[test]
    fn sentences_and_items_are_told_apart() {
        let text = "Try this. Ready?\n1. Boil 3.5 l of water.\n- Stir!\n```\nx = 1\n```";
        let found = sentences(text);
        let words: Vec<&str> = found.iter().map(|s| s.words.trim()).collect();
        assert_eq!(words, ["try this", "ready", "boil 3 5 l of water", "stir", "x 1"]);
        let items: Vec<bool> = found.iter().map(|s| s.item).collect();
        assert_eq!(items, [false, false, true, true, true]);
        assert!(found[1].question && !found[0].question);
    }

    #[test]
    fn quotations_are_left_out_and_short_terms_kept() {
        let of = |text: &str| {
            sentences(text).iter().map(|s| s.words.trim().to_owned()).collect::<Vec<_>>().join("|")
        };
        assert_eq!(of("He said \"I cannot help with that\" and left."), "he said and left");
        assert_eq!(of("To “kill time” read."), "to kill time read");
        assert_eq!(of("\"I cannot help with that.\""), "i cannot help with that");
        assert_eq!(
            of("An inch is 1\" wide and so on and on"),
            "an inch is 1 wide and so on and on"
        );
    }
}
