//! Tokens one by one: their names and bytes, and which of them a model has rows for.

use tokenizers::DecoderWrapper;

use super::ChatTokenizer;
use crate::{Error, Result};

impl ChatTokenizer {
    /// The highest token id and one: how many rows an embedding needs to have one for each token.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// A token as the tokenizer's file writes it, such as `▁the` or `Ġthe`; `None` for an id that
    /// there is not.
    pub fn name(&self, id: u32) -> Option<String> {
        self.tokenizer.id_to_token(id)
    }

    /// The id of a token that the tokenizer's file writes so.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.tokenizer.token_to_id(token)
    }

    /// Whether there is a token of this id.
    pub fn has(&self, id: u32) -> bool {
        self.name(id).is_some()
    }

    /// The tokens for which an embedding of so many rows has none, with their names.
    pub fn ids_beyond(&self, rows: usize) -> Vec<(u32, String)> {
        (rows..self.vocab_size).filter_map(|id| Some((id as u32, self.name(id as u32)?))).collect()
    }

    /// Finds ids for which an embedding of so many rows has none.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] that names the first such token.
    pub fn check_ids(&self, ids: &[u32], rows: usize) -> Result<()> {
        match ids.iter().find(|&&id| id as usize >= rows) {
            None => Ok(()),
            Some(&id) => {
                let name = self.name(id).unwrap_or_else(|| "no token of the tokenizer".into());
                let reason = format!(
                    "the text holds token {id} ({name}), for which the model has no row: it has \
                     {rows}; take it out of the text or the chat template, or use the tokenizer \
                     that belongs to the model"
                );
                Err(Error::Tokenizer { path: self.path.clone(), reason })
            }
        }
    }

    /// Whether this is a control token.
    pub fn is_control(&self, id: u32) -> bool {
        self.controls.has(id)
    }

    /// Whether a text holds the text of a control token.
    pub fn names_control(&self, text: &str) -> bool {
        self.controls.in_text(text)
    }

    /// What one token adds to a text: the bytes that a byte-level token stands for, the byte of a
    /// token such as `<0xE2>`, nothing for a control token or an id that there is not.
    pub fn token_bytes(&self, id: u32) -> Vec<u8> {
        let token = self.name(id).unwrap_or_default();
        let byte = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
        if let Some(byte) = byte.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            return vec![byte];
        }
        if self.is_control(id) {
            return Vec::new();
        }
        if self.tokenizer.get_decoder().is_some_and(is_byte_level) {
            let bytes: Option<Vec<u8>> = token.chars().map(byte_of).collect();
            return bytes.unwrap_or_else(|| token.into_bytes());
        }
        self.decode(&[id]).unwrap_or_default().into_bytes()
    }
}

fn is_byte_level(decoder: &DecoderWrapper) -> bool {
    match decoder {
        DecoderWrapper::ByteLevel(_) => true,
        DecoderWrapper::Sequence(sequence) => sequence.get_decoders().iter().any(is_byte_level),
        _ => false,
    }
}

/// The byte that a character of a byte-level token stands for (GPT-2's table): printable characters
/// of Latin-1 for themselves, those from U+0100 on for the other bytes, in order.
fn byte_of(c: char) -> Option<u8> {
    let printable = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    match u8::try_from(c) {
        Ok(byte) => Some(byte).filter(printable),
        Err(_) => (0..=255).filter(|byte| !printable(byte)).nth(c as usize - 256),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenizers::pre_tokenizers::byte_level::ByteLevel;

    #[test]
    fn the_byte_table_is_that_of_the_library() {
        let mut bytes: Vec<u8> = ByteLevel::alphabet().into_iter().filter_map(byte_of).collect();
        bytes.sort_unstable();
        assert_eq!(bytes, (0..=255).collect::<Vec<u8>>());
        assert_eq!(
            ['A', 'Ġ', 'Ċ', 'â', '中', '\n'].map(byte_of),
            [Some(b'A'), Some(b' '), Some(b'\n'), Some(0xE2), None, None]
        );
    }
}
