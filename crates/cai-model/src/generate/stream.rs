use crate::{Result, tokenizer::ChatTokenizer};

/// What a tokenizer's decoder writes for bytes that are no character.
const REPLACEMENT: char = '\u{FFFD}';

/// The text of a growing list of tokens, in pieces that are certain: whole characters, before the
/// first stop string, and nothing that may be the beginning of one.
pub(super) struct TextStream {
    tokenizer: ChatTokenizer,
    /// The tokens of the last piece of text, as context for the decoder, then those whose text is
    /// not certain.
    window: Vec<u32>,
    /// How many of `window` are context.
    read: usize,
    /// Text of the context.
    context: String,
    /// Decoded text that may be the beginning of a stop string.
    held: String,
    /// Every piece that was handed out.
    text: String,
}

/// Some more text.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Piece {
    pub(super) text: String,
    /// Whether a stop string follows it.
    pub(super) stopped: bool,
}

impl TextStream {
    pub(super) fn new(tokenizer: ChatTokenizer) -> Self {
        let (context, held, text) = Default::default();
        Self { tokenizer, window: Vec::new(), read: 0, context, held, text }
    }

    /// One more token.
    pub(super) fn push(&mut self, token: u32, stops: &[String]) -> Result<Piece> {
        self.window.push(token);
        let now = self.tokenizer.decode(&self.window)?;
        // A character's first bytes, each a token, are decoded to replacement characters.
        if now.ends_with(REPLACEMENT) {
            return Ok(Piece::default());
        }
        let new = self.behind_context(&now)?;
        if new.is_empty() {
            return Ok(Piece::default());
        }
        self.window.drain(..self.read);
        self.read = self.window.len();
        self.context = self.tokenizer.decode(&self.window)?;
        Ok(self.release(new, stops))
    }

    /// There is no further token: what was held back, but for half a character.
    pub(super) fn finish(&mut self, stops: &[String]) -> Result<Piece> {
        let now = self.tokenizer.decode(&self.window)?;
        let rest = self.behind_context(&now)?.trim_end_matches(REPLACEMENT).to_owned();
        let mut piece = self.release(rest, stops);
        if !piece.stopped {
            self.text.push_str(&self.held);
            piece.text.push_str(&std::mem::take(&mut self.held));
        }
        Ok(piece)
    }

    /// All text that was handed out.
    pub(super) fn into_text(self) -> String {
        self.text
    }

    /// The part of the window's text `now` that comes after the context.
    fn behind_context(&self, now: &str) -> Result<String> {
        match now.strip_prefix(&self.context) {
            Some(new) => Ok(new.to_owned()),
            // Bytes after a character that was built of bytes, and that make none themselves, are
            // decoded together with it.
            None => self.tokenizer.decode(&self.window[self.read..]),
        }
    }

    /// Adds decoded text and takes out what is certain.
    fn release(&mut self, new: String, stops: &[String]) -> Piece {
        self.held.push_str(&new);
        let stop = stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min();
        let certain = stop.unwrap_or(self.held.len() - overlap(&self.held, stops));
        let text: String = self.held.drain(..certain).collect();
        self.text.push_str(&text);
        Piece { text, stopped: stop.is_some() }
    }
}

/// Bytes at the end of `text` that are the beginning of a stop string, the longest.
fn overlap(text: &str, stops: &[String]) -> usize {
    let longest = |stop: &String| {
        let lengths = (1..stop.len().min(text.len() + 1)).rev();
        lengths.filter(|&n| stop.is_char_boundary(n)).find(|&n| text.ends_with(&stop[..n]))
    };
    stops.iter().filter_map(longest).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::{GEMMA_CHAT_TEMPLATE, train_bpe};

    /// A tokenizer that knows ASCII, and every other character as bytes.
    fn tokenizer() -> ChatTokenizer {
        let dir = tempfile::tempdir().unwrap();
        let texts = ["the end of the story", "the end of the day", "stop it, stop that"];
        let texts = texts.iter().map(|text| text.to_string());
        train_bpe(texts, 400, GEMMA_CHAT_TEMPLATE, dir.path()).unwrap();
        ChatTokenizer::from_dir(dir.path()).unwrap()
    }

    /// The pieces of each token and of the end, up to a stop string.
    fn pieces(tokenizer: &ChatTokenizer, ids: &[u32], stops: &[&str]) -> (Vec<String>, bool) {
        let stops: Vec<String> = stops.iter().map(|stop| stop.to_string()).collect();
        let mut stream = TextStream::new(tokenizer.clone());
        let mut pieces = Vec::new();
        for &id in ids {
            let piece = stream.push(id, &stops).unwrap();
            pieces.push(piece.text);
            if piece.stopped {
                assert_eq!(pieces.concat(), stream.into_text());
                return (pieces, true);
            }
        }
        let last = stream.finish(&stops).unwrap();
        pieces.push(last.text);
        assert_eq!(pieces.concat(), stream.into_text());
        (pieces, last.stopped)
    }

    #[test]
    fn characters_made_of_bytes_come_whole() {
        let tokenizer = tokenizer();
        let text = "the é, the € and the 🦀 end — of \u{200d}the story; 漢字";
        let ids = tokenizer.encode(text).unwrap();
        assert!(ids.len() > text.chars().count() / 2, "bytes are tokens");
        let (pieces, _) = pieces(&tokenizer, &ids, &[]);
        assert_eq!(pieces.concat(), text);
        assert!(pieces.iter().all(|piece| !piece.contains(REPLACEMENT)), "{pieces:?}");
        // Every character comes with its last token, not later.
        for (i, _) in ids.iter().enumerate() {
            let decoded = tokenizer.decode(&ids[..=i]).unwrap();
            if !decoded.ends_with(REPLACEMENT) {
                assert_eq!(pieces[..=i].concat(), decoded);
            }
        }
    }

    #[test]
    fn half_a_character_at_the_end_is_left_out() {
        let tokenizer = tokenizer();
        let ids = tokenizer.encode("the 🦀").unwrap();
        let (whole, _) = pieces(&tokenizer, &ids, &[]);
        assert_eq!(whole.concat(), "the 🦀");
        for cut in 1..4 {
            let (pieces, _) = pieces(&tokenizer, &ids[..ids.len() - cut], &[]);
            assert_eq!(pieces.concat(), "the ");
        }
    }

    #[test]
    fn bytes_that_are_no_character_do_not_stop_the_text() {
        let tokenizer = tokenizer();
        // <0x00> is id 7 in this project's tokenizers; 0xFF begins no character.
        let byte = |byte: u32| 7 + byte;
        assert_eq!(tokenizer.decode(&[byte(0xC3), byte(0xA9)]).unwrap(), "é");
        let the = tokenizer.encode("the").unwrap();
        let ids = [vec![byte(0xC3), byte(0xA9), byte(0xFF)], the.clone(), the].concat();
        let (pieces, _) = pieces(&tokenizer, &ids, &[]);
        assert_eq!(pieces.concat(), "é\u{FFFD}thethe");
    }

    #[test]
    fn stop_strings_across_tokens_end_the_text() {
        let tokenizer = tokenizer();
        let ids = tokenizer.encode("the end of the story, the end").unwrap();
        for (stop, expected) in [
            ("of the s", "the end "),
            (" the end", "the end of the story,"),
            ("the", ""),
            ("y, t", "the end of the stor"),
        ] {
            let (pieces, stopped) = pieces(&tokenizer, &ids, &[stop, "never there"]);
            assert_eq!((pieces.concat().as_str(), stopped), (expected, true));
        }
        // The one that is complete first counts.
        let (first, _) = pieces(&tokenizer, &ids, &["story", "of", "end of the"]);
        assert_eq!(first.concat(), "the end ");
    }

    #[test]
    fn text_that_only_begins_like_a_stop_string_is_held_and_then_told() {
        let tokenizer = tokenizer();
        let ids = tokenizer.encode("stop that").unwrap();
        let (pieces, stopped) = pieces(&tokenizer, &ids, &["stop thaw"]);
        assert_eq!((pieces.concat().as_str(), stopped), ("stop that", false));
        assert!(pieces[0].is_empty(), "{pieces:?}");
        assert_eq!(overlap("ab", &["abab".into(), "bc".into()]), 2);
        assert_eq!(overlap("xé", &["éé".into()]), 2);
        assert_eq!(overlap("abc", &["abc".into()]), 0);
    }
}
