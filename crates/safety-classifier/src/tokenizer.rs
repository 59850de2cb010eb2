//! A byte-level BPE tokenizer, trained on the training texts.
//!
//! Every byte has a token of its own, so any text can be encoded. Text is folded (NFKC, lower case,
//! white space) first, so that spelling variants of a word share tokens.

use std::path::Path;

use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::normalizers::replace::ReplacePattern;
use tokenizers::normalizers::{Lowercase, NFKC, NormalizerWrapper, Replace, Sequence, Strip};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer};

use crate::error::{Error, Result};

/// Fills rows of a batch, where it is never attended to, and stands for tokens that training hides.
const PAD: &str = "[PAD]";
/// Its id: the first of every vocabulary of this crate.
pub const PAD_ID: u32 = 0;
/// Starts every text, so that an empty text has a token too.
const CLS: &str = "[CLS]";

/// Turns text into token ids.
#[derive(Clone, Debug)]
pub struct TextTokenizer {
    inner: Tokenizer,
    cls: u32,
    max_length: usize,
}

/// A text as token ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// `[CLS]` and the text's tokens, at most `max_length` in all.
    pub ids: Vec<u32>,
    /// Whether the text was longer and its end is missing.
    pub truncated: bool,
}

impl TextTokenizer {
    /// Trains a tokenizer with at most `vocab_size` tokens on `texts`. Deterministic.
    ///
    /// # Errors
    /// When the `tokenizers` library fails.
    pub fn train(
        texts: &[&str],
        vocab_size: usize,
        lowercase: bool,
        max_length: usize,
    ) -> Result<Self> {
        let mut tokenizer = Tokenizer::new(BPE::default());
        tokenizer.with_normalizer(Some(folding(lowercase)?)).map_err(failed)?;
        tokenizer.with_pre_tokenizer(Some(ByteLevel::new(true, false, true)));
        tokenizer.with_decoder(Some(ByteLevel::default()));
        let mut trainer: TrainerWrapper = BpeTrainer::builder()
            .vocab_size(vocab_size)
            .min_frequency(2)
            .show_progress(false)
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .special_tokens(vec![AddedToken::from(PAD, true), AddedToken::from(CLS, true)])
            .build()
            .into();
        tokenizer.train(&mut trainer, texts.iter()).map_err(failed)?;
        Self::new(tokenizer, max_length)
    }

    /// Reads `tokenizer.json`.
    ///
    /// # Errors
    /// When the file is missing or is no tokenizer of this crate.
    pub fn load(path: &Path, max_length: usize) -> Result<Self> {
        let checkpoint = |problem| Error::Checkpoint { path: path.to_path_buf(), problem };
        let bytes = std::fs::read(path).map_err(cai_data::Error::read(path))?;
        let tokenizer =
            Tokenizer::from_bytes(bytes).map_err(|error| checkpoint(error.to_string()))?;
        Self::new(tokenizer, max_length).map_err(|error| checkpoint(error.to_string()))
    }

    /// The contents of `tokenizer.json`.
    ///
    /// # Errors
    /// When the `tokenizers` library fails.
    pub fn to_json(&self) -> Result<String> {
        self.inner.to_string(true).map_err(failed)
    }

    /// Encodes a text.
    ///
    /// # Errors
    /// When the `tokenizers` library fails.
    pub fn encode(&self, text: &str) -> Result<Encoded> {
        let encoding = self.inner.encode_fast(text, false).map_err(failed)?;
        let room = self.max_length - 1;
        let tokens = encoding.get_ids();
        let mut ids = vec![self.cls];
        ids.extend_from_slice(&tokens[..tokens.len().min(room)]);
        Ok(Encoded { ids, truncated: tokens.len() > room })
    }

    /// Number of tokens.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    fn new(mut inner: Tokenizer, max_length: usize) -> Result<Self> {
        // `[PAD]` written in a text is text, not padding.
        inner.set_encode_special_tokens(true);
        let id = |token: &str| {
            inner.token_to_id(token).ok_or_else(|| Error::Tokenizer(format!("no token {token}")))
        };
        let (cls, pad) = (id(CLS)?, id(PAD)?);
        if pad != PAD_ID {
            return Err(Error::Tokenizer(format!("{PAD} has the id {pad}, not {PAD_ID}")));
        }
        Ok(Self { inner, cls, max_length })
    }
}

fn folding(lowercase: bool) -> Result<Sequence> {
    let mut steps: Vec<NormalizerWrapper> = vec![NFKC.into()];
    if lowercase {
        steps.push(Lowercase.into());
    }
    let spaces = Replace::new(ReplacePattern::Regex(r"\s+".into()), " ").map_err(failed)?;
    steps.push(spaces.into());
    steps.push(Strip::new(true, true).into());
    Ok(Sequence::new(steps))
}

fn failed(error: tokenizers::Error) -> Error {
    Error::Tokenizer(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokenizer() -> TextTokenizer {
        let texts = ["how do I bake bread", "how do I bake a cake", "bake the bread slowly"];
        TextTokenizer::train(&texts, 300, true, 16).unwrap()
    }

    #[test]
    fn any_text_can_be_encoded_and_variants_agree() {
        let tokenizer = tokenizer();
        for text in ["", "日本語 🙂 \u{0}", "[PAD] [CLS]"] {
            let ids = tokenizer.encode(text).unwrap().ids;
            assert_eq!(ids[0], tokenizer.cls);
            assert!(ids[1..].iter().all(|&id| id != tokenizer.cls && id != PAD_ID), "{text}");
        }
        let plain = tokenizer.encode("bake bread").unwrap();
        assert_eq!(tokenizer.encode("  Bake\n\tBREAD ").unwrap(), plain);
        let back = tokenizer.inner.decode(&plain.ids[1..], false).unwrap();
        assert_eq!(back.trim(), "bake bread");
    }

    #[test]
    fn long_texts_are_cut_and_say_so() {
        let encoded = tokenizer().encode(&"bread ".repeat(100)).unwrap();
        assert_eq!((encoded.ids.len(), encoded.truncated), (16, true));
    }

    #[test]
    fn training_twice_gives_the_same_file_and_it_loads() {
        let json = tokenizer().to_json().unwrap();
        assert_eq!(json, tokenizer().to_json().unwrap());
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokenizer.json");
        std::fs::write(&path, &json).unwrap();
        let loaded = TextTokenizer::load(&path, 16).unwrap();
        assert_eq!(loaded.to_json().unwrap(), json);
        assert_eq!(
            loaded.encode("[CLS] bread").unwrap(),
            tokenizer().encode("[CLS] bread").unwrap()
        );
    }
}
