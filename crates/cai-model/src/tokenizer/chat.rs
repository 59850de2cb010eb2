//! The tokenizer of a chat model.
//!
//! How a chat becomes ids: the template is rendered, and the rendered text is cut at the control
//! tokens that the template placed. Each stretch between two of them is encoded as plain text, in
//! which the tokenizer recognises no control token. That gives the ids of the whole text encoded
//! at once, since a tokenizer cuts at control tokens first, too. Where a message itself contains
//! the text of a control token, a placeholder stands for it while the text is rendered and cut.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cai_data::record::{Message, Role};
use serde_json::Value as Json;
use tokenizers::Tokenizer;

use super::Example;
use super::controls::{Controls, Piece, declare_specials, token_text};
use super::template::ChatTemplate;
use crate::error::{Error, Result};

const END_OF_TURN: &str = "<end_of_turn>";

/// A tokenizer with the chat template and the special tokens of its model. Cheap to clone.
#[derive(Clone)]
pub struct ChatTokenizer {
    /// In a mode in which the text of a control token is only text.
    tokenizer: Arc<Tokenizer>,
    template: Arc<ChatTemplate>,
    controls: Arc<Controls>,
    path: PathBuf,
    vocab_size: usize,
    bos: u32,
    eos: u32,
    pad: u32,
    end_of_turn: u32,
}

/// Which assistant turns of a conversation are trained.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Turns {
    /// Every one.
    All,
    /// The last one.
    Last,
}

impl ChatTokenizer {
    /// Reads `tokenizer.json`, `tokenizer_config.json` and the chat template of a model's folder.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] when a file is missing or malformed, or lacks the tokens of a chat
    /// model (begin, end, padding, end of turn); [`Error::Template`] for the chat template.
    pub fn from_dir(dir: &Path) -> Result<Self> {
        let path = dir.join("tokenizer.json");
        let config_path = dir.join("tokenizer_config.json");
        let config: Json = serde_json::from_str(&read_text(&config_path)?)
            .map_err(|error| tokenizer_error(&config_path, error))?;
        let mut tokenizer = Tokenizer::from_bytes(read_text(&path)?)
            .map_err(|error| tokenizer_error(&path, error))?;
        // Lengths are the caller's business: a limit saved in the file must not cut text here.
        tokenizer.with_truncation(None).map_err(|error| tokenizer_error(&path, error))?;
        tokenizer.with_padding(None);
        declare_specials(&mut tokenizer, &config).map_err(|error| tokenizer_error(&path, error))?;
        tokenizer.set_encode_special_tokens(true);

        let named = |key: &str| -> Result<u32> {
            let token = token_text(&config[key]).ok_or_else(|| {
                let reason = format!("`{key}` is missing; a chat model needs it");
                tokenizer_error(&config_path, reason)
            })?;
            tokenizer.token_to_id(token).ok_or_else(|| {
                let reason = format!("`{key}` of tokenizer_config.json, {token}, is not in it");
                tokenizer_error(&path, reason)
            })
        };
        let (bos, eos, pad) = (named("bos_token")?, named("eos_token")?, named("pad_token")?);
        let end_of_turn = tokenizer.token_to_id(END_OF_TURN).ok_or_else(|| {
            tokenizer_error(&path, format!("the token {END_OF_TURN} of Gemma's chats is not in it"))
        })?;
        let tokens = ["bos_token", "eos_token", "pad_token", "unk_token"]
            .into_iter()
            .filter_map(|key| Some((key, token_text(&config[key])?)));
        let template = ChatTemplate::from_dir(dir, &config, tokens.collect())?;
        let controls = Controls::of(&tokenizer).map_err(|error| tokenizer_error(&path, error))?;
        Ok(ChatTokenizer {
            vocab_size: tokenizer.get_vocab_size(true),
            tokenizer: Arc::new(tokenizer),
            template: Arc::new(template),
            controls: Arc::new(controls),
            path,
            bos,
            eos,
            pad,
            end_of_turn,
        })
    }

    /// The ids of `text` as it is: nothing is added, and control tokens in it are only text.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] when the tokenizer has no token for a character, which one with byte
    /// fallback always has.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self
            .tokenizer
            .encode_fast(text, false)
            .map_err(|error| tokenizer_error(&self.path, error))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The ids of a text in which `<bos>`, `<end_of_turn>` and so on stand for control tokens. For
    /// texts that no user wrote, such as a rendered template.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_with_special(&self, text: &str) -> Result<Vec<u32>> {
        Ok(self.encode_pieces(self.controls.cut(text))?.ids)
    }

    /// The text of `ids`, without control tokens.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] when the tokenizer's decoder fails.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.tokenizer.decode(ids, true).map_err(|error| tokenizer_error(&self.path, error))
    }

    /// The text of `ids`, control tokens included.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    pub fn decode_with_special(&self, ids: &[u32]) -> Result<String> {
        self.tokenizer.decode(ids, false).map_err(|error| tokenizer_error(&self.path, error))
    }

    /// What one token adds to a text: the byte of a token such as `<0xE2>`, nothing for a control
    /// token or an id that there is not.
    pub fn token_bytes(&self, id: u32) -> Vec<u8> {
        let token = self.tokenizer.id_to_token(id).unwrap_or_default();
        let byte = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
        match byte.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => vec![byte],
            None => self.decode(&[id]).unwrap_or_default().into_bytes(),
        }
    }

    /// The chat as the template renders it; with `add_generation_prompt` up to where the
    /// assistant's answer begins.
    ///
    /// # Errors
    /// [`Error::Template`] when the template refuses the conversation.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        self.template.render(messages, add_generation_prompt)
    }

    /// The ids of a chat up to where the assistant's answer begins, with `<bos>` exactly once.
    ///
    /// # Errors
    /// [`Error::Template`] when the template refuses the conversation.
    pub fn prompt(&self, messages: &[Message]) -> Result<Vec<u32>> {
        Ok(self.encode_pieces(self.pieces(messages, true)?)?.ids)
    }

    /// The ids of a chat, with `<bos>` exactly once, and which of them are trained.
    ///
    /// A trained turn begins where the ids leave those of the prompt before it (the chat so far
    /// with the generation prompt), so that a token merged across that border belongs to the turn:
    /// TRL's rule.
    ///
    /// # Errors
    /// [`Error::Template`] when the template refuses the conversation, or no turn is the
    /// assistant's.
    pub fn conversation(&self, messages: &[Message], train: Turns) -> Result<Example> {
        let mut turns: Vec<usize> =
            (0..messages.len()).filter(|&i| messages[i].role == Role::Assistant).collect();
        let Some(&last) = turns.last() else {
            let reason = "the conversation has no assistant turn to train".to_owned();
            return Err(Error::Template { reason });
        };
        if train == Turns::Last {
            turns = vec![last];
        }
        let whole = self.encode_pieces(self.pieces(messages, false)?)?;
        let mut trained = vec![false; whole.ids.len()];
        for turn in turns {
            let start = self.shared(&whole, self.pieces(&messages[..turn], true)?)?;
            let end = if turn + 1 == messages.len() {
                whole.ids.len()
            } else {
                self.shared(&whole, self.pieces(&messages[..=turn], false)?)?
            };
            // A template may render a turn differently once others follow: then nothing is shared.
            if let Some(turn) = trained.get_mut(start..end) {
                turn.fill(true);
            }
        }
        if !trained.contains(&true) {
            let reason = "the chat template leaves no token of the assistant to train: it renders \
                          the turns before an answer differently once the answer follows"
                .to_owned();
            return Err(Error::Template { reason });
        }
        Ok(Example { ids: whole.ids, trained })
    }

    /// The chat of `prompt` and `completion`, of which the completion is trained.
    ///
    /// # Errors
    /// [`Error::Template`] when the completion is not one assistant turn or the template refuses
    /// the conversation.
    pub fn completion(&self, prompt: &[Message], completion: &[Message]) -> Result<Example> {
        if !matches!(completion, [Message { role: Role::Assistant, .. }]) {
            let turns = completion.len();
            let reason = format!(
                "a completion is one assistant turn, this one has {turns} turns; put the turns \
                 before it into the prompt"
            );
            return Err(Error::Template { reason });
        }
        self.conversation(&[prompt, completion].concat(), Turns::Last)
    }

    /// `completion` after `prompt` as plain texts without a chat template; the completion's tokens are
    /// trained. A token that merges the two belongs to the completion, as in TRL.
    ///
    /// # Errors
    ///
    /// As [`Self::encode`].
    pub fn text_completion(&self, prompt: &str, completion: &str) -> Result<Example> {
        let with_bos = |text: &str| -> Result<Vec<u32>> {
            let mut ids = vec![self.bos()];
            ids.extend(self.encode(text)?);
            Ok(ids)
        };
        let before = with_bos(prompt)?;
        let ids = with_bos(&format!("{prompt}{completion}"))?;
        let common = before.iter().zip(&ids).take_while(|(a, b)| a == b).count();
        let trained = (0..ids.len()).map(|i| i >= common).collect();
        Ok(Example { ids, trained })
    }

    /// The token that every chat begins with.
    pub fn bos(&self) -> u32 {
        self.bos
    }

    /// The token that ends a text.
    pub fn eos(&self) -> u32 {
        self.eos
    }

    /// The token that fills up batches.
    pub fn pad(&self) -> u32 {
        self.pad
    }

    /// The token that ends a turn of a chat.
    pub fn end_of_turn(&self) -> u32 {
        self.end_of_turn
    }

    /// The tokens at which generation stops: end of text and end of turn.
    pub fn stop_ids(&self) -> Vec<u32> {
        let mut ids = vec![self.eos, self.end_of_turn];
        ids.dedup();
        ids
    }

    /// The number of token ids, control tokens included.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The rendered chat cut at the template's control tokens, with `<bos>` exactly once.
    fn pieces(&self, messages: &[Message], add_generation_prompt: bool) -> Result<Vec<Piece>> {
        let shield = self.controls.shield(messages, self.template.source())?;
        let rendered = match &shield {
            Some((shielded, _)) => self.template.render(shielded, add_generation_prompt)?,
            None => self.template.render(messages, add_generation_prompt)?,
        };
        let mut pieces = self.controls.cut(&rendered);
        if let Some((_, mark)) = shield {
            for piece in &mut pieces {
                if let Piece::Text(text) = piece {
                    *text = self.controls.unshield(text, mark);
                }
            }
        }
        match pieces.iter().filter(|piece| **piece == Piece::Control(self.bos)).count() {
            0 => pieces.insert(0, Piece::Control(self.bos)),
            1 => {}
            count => {
                let reason = format!("it begins the text {count} times; once is right");
                return Err(Error::Template { reason });
            }
        }
        Ok(pieces)
    }

    fn encode_pieces(&self, pieces: Vec<Piece>) -> Result<Encoded> {
        let mut encoded = Encoded { ids: Vec::new(), pieces: Vec::with_capacity(pieces.len()) };
        for piece in pieces {
            match &piece {
                Piece::Control(id) => encoded.ids.push(*id),
                Piece::Text(text) => encoded.ids.extend(self.encode(text)?),
            }
            encoded.pieces.push((piece, encoded.ids.len()));
        }
        Ok(encoded)
    }

    /// How many ids `whole` and the ids of `other` have in common at their beginnings.
    fn shared(&self, whole: &Encoded, other: Vec<Piece>) -> Result<usize> {
        let mut start = 0;
        for ((piece, end), other) in whole.pieces.iter().zip(other) {
            if *piece != other {
                if let (Piece::Text(_), Piece::Text(text)) = (piece, other) {
                    let ids = self.encode(&text)?;
                    start +=
                        whole.ids[start..*end].iter().zip(&ids).take_while(|(a, b)| a == b).count();
                }
                break;
            }
            start = *end;
        }
        Ok(start)
    }
}

impl fmt::Debug for ChatTokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChatTokenizer")
            .field("path", &self.path)
            .field("vocab_size", &self.vocab_size)
            .finish_non_exhaustive()
    }
}

/// Pieces with the position in `ids` at which each ends.
struct Encoded {
    ids: Vec<u32>,
    pieces: Vec<(Piece, usize)>,
}

fn tokenizer_error(path: &Path, reason: impl fmt::Display) -> Error {
    Error::Tokenizer { path: path.to_owned(), reason: reason.to_string() }
}

pub(super) fn read_text(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|source| Error::Io { path: path.to_owned(), source })
}
