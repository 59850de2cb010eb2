//! Control tokens: which there are, where they stand in a text, and how the text of one that a
//! person wrote is kept from being taken for one.

use std::borrow::Cow;

use cai_data::record::Message;
use serde_json::Value as Json;
use tokenizers::{AddedToken, Tokenizer};

use crate::error::{Error, Result};

/// A stretch of a rendered chat.
#[derive(Debug, PartialEq)]
pub(super) enum Piece {
    Control(u32),
    Text(String),
}

/// The control tokens, those with the longest text first.
pub(super) struct Controls(Vec<Control>);

struct Control {
    text: String,
    id: u32,
    /// Whether it takes the white space before it.
    lstrip: bool,
    /// Whether it takes the white space after it.
    rstrip: bool,
}

impl Controls {
    pub(super) fn of(tokenizer: &Tokenizer) -> std::result::Result<Self, String> {
        let mut controls = Vec::new();
        for (id, token) in tokenizer.get_added_tokens_decoder() {
            if !token.special {
                continue;
            }
            let AddedToken { content: text, single_word, lstrip, rstrip, .. } = token;
            if single_word {
                return Err(format!(
                    "the special token {text} stands only between words (single_word), which is \
                     not supported; set it to false in tokenizer.json"
                ));
            }
            controls.push(Control { text, id, lstrip, rstrip });
        }
        controls.sort_by(|a, b| b.text.len().cmp(&a.text.len()).then_with(|| a.text.cmp(&b.text)));
        Ok(Controls(controls))
    }

    /// Whether this token is one.
    pub(super) fn has(&self, id: u32) -> bool {
        self.0.iter().any(|control| control.id == id)
    }

    /// Whether a control token of this text is missing.
    pub(super) fn lacks(&self, text: &str) -> bool {
        self.0.iter().all(|control| control.text != text)
    }

    /// Whether `text` holds the text of one.
    pub(super) fn in_text(&self, text: &str) -> bool {
        self.find(text).is_some()
    }

    /// The control token that `text` begins with: its place in the list.
    fn at_start(&self, text: &str) -> Option<usize> {
        self.0.iter().position(|control| text.starts_with(control.text.as_str()))
    }

    /// The first control token in `text`: its byte position and its place in the list.
    fn find(&self, text: &str) -> Option<(usize, usize)> {
        let mut first_bytes = [false; 256];
        for control in &self.0 {
            first_bytes[usize::from(control.text.as_bytes()[0])] = true;
        }
        let candidates = text.bytes().enumerate().filter(|(_, b)| first_bytes[usize::from(*b)]);
        // A control's first byte begins a character, so that `at` is on a border.
        candidates.into_iter().find_map(|(at, _)| Some((at, self.at_start(&text[at..])?)))
    }

    pub(super) fn cut(&self, text: &str) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((at, index)) = self.find(rest) {
            let Control { text, id, lstrip, rstrip } = &self.0[index];
            let (before, after) = (&rest[..at], &rest[at + text.len()..]);
            let before = if *lstrip { before.trim_end() } else { before };
            if !before.is_empty() {
                pieces.push(Piece::Text(before.to_owned()));
            }
            pieces.push(Piece::Control(*id));
            rest = if *rstrip { after.trim_start() } else { after };
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        pieces
    }

    /// The messages with a placeholder for the text of each control token in them, and the mark
    /// that placeholders are made of; `None` when there is nothing to replace.
    pub(super) fn shield(
        &self,
        messages: &[Message],
        template: &str,
    ) -> Result<Option<(Vec<Message>, char)>> {
        if !messages.iter().any(|message| self.in_text(&message.content)) {
            return Ok(None);
        }
        let unused = |mark: &char| {
            !template.contains(*mark) && !messages.iter().any(|m| m.content.contains(*mark))
        };
        let Some(mark) = ('\u{F0000}'..='\u{FFFFD}').find(unused) else {
            let reason = "the messages hold the text of a control token and all 65,534 private \
                          characters U+F0000 to U+FFFFD, one of which must be free to stand for \
                          it; remove such characters"
                .to_owned();
            return Err(Error::Template { reason });
        };
        let shielded = messages.iter().map(|message| {
            let mut content = String::new();
            let mut rest = message.content.as_str();
            while let Some((at, index)) = self.find(rest) {
                content.push_str(&rest[..at]);
                content.push_str(&format!("{mark}{index}{mark}"));
                rest = &rest[at + self.0[index].text.len()..];
            }
            content.push_str(rest);
            Message { role: message.role, content }
        });
        Ok(Some((shielded.collect(), mark)))
    }

    pub(super) fn unshield(&self, text: &str, mark: char) -> String {
        // Between every two marks stands the number of a control.
        let parts = text.split(mark).enumerate().map(|(i, part)| match part.parse::<usize>() {
            Ok(index) if i % 2 == 1 && index < self.0.len() => Cow::from(&self.0[index].text),
            _ => Cow::from(part),
        });
        parts.collect()
    }
}

/// Makes special what `tokenizer_config.json` calls so, as `transformers` does: hub checkpoints
/// name some control tokens only there.
pub(super) fn declare_specials(
    tokenizer: &mut Tokenizer,
    config: &Json,
) -> std::result::Result<(), tokenizers::Error> {
    let keys = [
        "bos_token",
        "eos_token",
        "pad_token",
        "unk_token",
        "mask_token",
        "cls_token",
        "sep_token",
    ];
    let mut names: Vec<String> =
        keys.iter().filter_map(|key| token_text(&config[key])).map(str::to_owned).collect();
    for key in ["additional_special_tokens", "extra_special_tokens"] {
        let listed = match &config[key] {
            Json::Array(list) => list.iter().collect(),
            Json::Object(map) => map.values().collect(),
            _ => Vec::new(),
        };
        names.extend(listed.into_iter().filter_map(token_text).map(str::to_owned));
    }
    if let Json::Object(tokens) = &config["added_tokens_decoder"] {
        let special = tokens.values().filter(|token| token["special"] == true);
        names.extend(special.filter_map(token_text).map(str::to_owned));
    }
    // One that has no id cannot be made by the template either, and must not be given one here.
    names.retain(|name| !name.is_empty() && tokenizer.token_to_id(name).is_some());
    let known = tokenizer.get_added_tokens_decoder();
    let tokens = names.into_iter().map(|name| {
        let id = tokenizer.token_to_id(&name);
        match id.and_then(|id| known.get(&id)) {
            Some(token) => AddedToken { special: true, ..token.clone() },
            None => AddedToken::from(name, true),
        }
    });
    let tokens: Vec<AddedToken> = tokens.collect();
    tokenizer.add_special_tokens(tokens).map(|_| ())
}

/// A special token, given as text or as `{"content": text}`.
pub(super) fn token_text(setting: &Json) -> Option<&str> {
    setting.as_str().or_else(|| setting["content"].as_str())
}
