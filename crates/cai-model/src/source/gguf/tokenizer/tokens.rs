//! The tokens of a GGUF file: text and kind of each id.

use tokenizers::{AddedToken, models::bpe::Vocab};

use crate::{
    Result,
    source::{bpe::Added, gguf::Gguf},
};

/// What a token is (`tokenizer.ggml.token_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// A piece of text.
    Normal,
    /// What stands for text that no token has.
    Unknown,
    /// One that only a program places.
    Control,
    /// A text that is found before pieces are.
    UserDefined,
    /// An id that no token has: rows that fill up the embedding.
    Unused,
    /// A byte of text that no piece has.
    Byte,
}

/// All tokens, by id.
pub struct Tokens {
    texts: Vec<String>,
    kinds: Vec<TokenKind>,
    ids: Vocab,
}

impl Tokens {
    pub fn read(gguf: &Gguf) -> Result<Self> {
        let listed: &[String] = gguf.require("tokenizer.ggml.tokens")?;
        let kinds: Vec<usize> = gguf.require("tokenizer.ggml.token_type")?;
        let kind = |(id, kind)| match kind {
            1 => Ok(TokenKind::Normal),
            2 => Ok(TokenKind::Unknown),
            3 => Ok(TokenKind::Control),
            4 => Ok(TokenKind::UserDefined),
            5 => Ok(TokenKind::Unused),
            6 => Ok(TokenKind::Byte),
            _ => Err(gguf.tokenizer_error(format!("token {id} is of type {kind}, not of 1 to 6"))),
        };
        let kinds = kinds.into_iter().enumerate().map(kind).collect::<Result<Vec<_>>>()?;
        if kinds.len() != listed.len() || u32::try_from(listed.len()).is_err() {
            let (tokens, types) = (listed.len(), kinds.len());
            return Err(gguf.tokenizer_error(format!("{tokens} tokens with {types} types")));
        }
        let texts: Vec<_> =
            listed.iter().zip(&kinds).map(|(text, kind)| text_of(text, *kind)).collect();
        let mut ids = Vocab::with_capacity(texts.len());
        for (id, text) in texts.iter().enumerate().filter(|(id, _)| kinds[*id] != TokenKind::Unused)
        {
            if let Some(other) = ids.insert(text.clone(), id as u32) {
                let reason = format!("the token {text:?} has two ids, {other} and {id}");
                return Err(gguf.tokenizer_error(reason));
            }
        }
        Ok(Self { texts, kinds, ids })
    }

    /// The number of ids, with those that no token has.
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    pub fn text(&self, id: u32) -> &str {
        &self.texts[id as usize]
    }

    pub fn kind(&self, id: u32) -> TokenKind {
        self.kinds[id as usize]
    }

    pub fn id(&self, text: &str) -> Option<u32> {
        self.ids.get(text).copied()
    }

    /// Text to id, of the ids that have a token.
    pub fn into_vocab(self) -> Vocab {
        self.ids
    }

    /// Whether bytes have tokens.
    pub fn has_bytes(&self) -> bool {
        self.kinds.contains(&TokenKind::Byte)
    }

    /// The tokens that are found in a text before the model sees it.
    pub fn added(&self) -> Vec<Added> {
        let added = self.texts.iter().zip(&self.kinds).zip(0..).filter_map(|((text, kind), id)| {
            let special = match kind {
                TokenKind::Unknown => true,
                TokenKind::Control => !is_placeholder(text),
                TokenKind::UserDefined => IMAGE_TOKENS.contains(&text.as_str()),
                TokenKind::Normal | TokenKind::Unused | TokenKind::Byte => return None,
            };
            Some(Added { id, token: AddedToken::from(text.as_str(), special).normalized(false) })
        });
        added.collect()
    }
}

/// Special in Gemma's own tokenizer, though llama.cpp's converter takes them for text.
const IMAGE_TOKENS: [&str; 2] = ["<start_of_image>", "<end_of_image>"];

/// Whether it is one of those that llama.cpp's converter makes control tokens for their looks alone,
/// while in Gemma's own tokenizer they are text.
fn is_placeholder(text: &str) -> bool {
    text == "<mask>" || (text.starts_with("<unused") && text.ends_with('>'))
}

/// The token's text in the tokenizer: in those that users define, llama.cpp's converter writes spaces
/// for SentencePiece's `▁`, of which Gemma's runs of spaces consist.
fn text_of(text: &str, kind: TokenKind) -> String {
    let is_run = kind == TokenKind::UserDefined && text.bytes().all(|byte| byte == b' ');
    if is_run { text.replace(' ', "▁") } else { text.into() }
}
