//! A tokenizer from its parts: a byte-pair encoding, and what stands around it.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, SeqAccess, Visitor},
};
use tokenizers::{
    AddedToken, DecoderWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper,
    Tokenizer,
    models::bpe::{BPE, Merges, Vocab},
};

/// With the error of `tokenizers`.
pub type Result<T> = std::result::Result<T, tokenizers::Error>;

/// A byte-pair encoding, as `tokenizer.json` has it.
#[derive(Default, Deserialize)]
pub struct Bpe {
    pub vocab: Vocab,
    #[serde(deserialize_with = "merges")]
    pub merges: Merges,
    pub dropout: Option<f32>,
    pub unk_token: Option<String>,
    pub continuing_subword_prefix: Option<String>,
    pub end_of_word_suffix: Option<String>,
    pub fuse_unk: Option<bool>,
    pub byte_fallback: Option<bool>,
    pub ignore_merges: Option<bool>,
}

impl Bpe {
    /// # Errors
    ///
    /// When a merge is not of two tokens that make a third.
    pub fn build(self) -> Result<BPE> {
        let prefix = self.continuing_subword_prefix.as_deref().unwrap_or_default();
        let longest = self.vocab.keys().map(String::len).max().unwrap_or(0);
        // The builder looks all three tokens up, but has no room for one longer than any token.
        for (left, right) in &self.merges {
            let fits = |right: &str| left.len() + right.len() <= longest;
            if !right.strip_prefix(prefix).is_some_and(fits) {
                return Err(format!("the merge {left:?} {right:?} makes no token").into());
            }
        }
        let mut builder = BPE::builder()
            .vocab_and_merges(self.vocab, self.merges)
            .fuse_unk(self.fuse_unk.unwrap_or_default())
            .byte_fallback(self.byte_fallback.unwrap_or_default())
            .ignore_merges(self.ignore_merges.unwrap_or_default());
        if let Some(dropout) = self.dropout {
            builder = builder.dropout(dropout);
        }
        if let Some(token) = self.unk_token {
            builder = builder.unk_token(token);
        }
        if let Some(prefix) = self.continuing_subword_prefix {
            builder = builder.continuing_subword_prefix(prefix);
        }
        if let Some(suffix) = self.end_of_word_suffix {
            builder = builder.end_of_word_suffix(suffix);
        }
        builder.build()
    }
}

/// What a tokenizer has beside its model, as `tokenizer.json` has it.
#[derive(Deserialize)]
pub struct Parts {
    #[serde(default)]
    pub added_tokens: Vec<Added>,
    pub normalizer: Option<NormalizerWrapper>,
    pub pre_tokenizer: Option<PreTokenizerWrapper>,
    pub post_processor: Option<PostProcessorWrapper>,
    pub decoder: Option<DecoderWrapper>,
}

/// A token that is found in a text before the model sees it.
#[derive(Deserialize)]
pub struct Added {
    pub id: u32,
    #[serde(flatten)]
    pub token: AddedToken,
}

impl Parts {
    /// The tokenizer of these parts and `model`.
    ///
    /// # Errors
    ///
    /// When an added token cannot have its id.
    pub fn assemble(self, model: BPE) -> Result<Tokenizer> {
        let mut tokenizer = Tokenizer::new(model);
        tokenizer.with_normalizer(self.normalizer)?;
        tokenizer.with_pre_tokenizer(self.pre_tokenizer);
        tokenizer.with_post_processor(self.post_processor);
        tokenizer.with_decoder(self.decoder);
        tokenizer.add_tokens(self.added_tokens.iter().map(|added| added.token.clone()))?;
        for Added { id, token: AddedToken { content, .. } } in self.added_tokens {
            match tokenizer.token_to_id(&content) {
                Some(found) if found == id => {}
                found => return Err(format!("added token {content:?}: {id} or {found:?}?").into()),
            }
        }
        Ok(tokenizer)
    }
}

/// The two tokens of a merge that is written as a line, with a space between them.
pub fn merge(line: &str) -> Option<(String, String)> {
    let (left, right) = line.split_once(' ')?;
    (!right.contains(' ')).then(|| (left.into(), right.into()))
}

fn merges<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Merges, D::Error> {
    let merges = Vec::<Merge>::deserialize(deserializer)?;
    Ok(merges.into_iter().map(|Merge(left, right)| (left, right)).collect())
}

/// A merge as a pair or, in older files, as a line.
struct Merge(String, String);

impl<'de> Deserialize<'de> for Merge {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_any(MergeVisitor)
    }
}

struct MergeVisitor;

impl<'de> Visitor<'de> for MergeVisitor {
    type Value = Merge;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a merge: two tokens")
    }

    fn visit_str<E: serde::de::Error>(self, line: &str) -> std::result::Result<Merge, E> {
        let (left, right) = merge(line).ok_or_else(|| E::custom(format!("the merge {line:?}")))?;
        Ok(Merge(left, right))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<Merge, A::Error> {
        match (seq.next_element()?, seq.next_element()?) {
            (Some(left), Some(right)) => Ok(Merge(left, right)),
            _ => Err(A::Error::custom("a merge of less than two tokens")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(json: &str) -> std::result::Result<BPE, String> {
        let bpe: Bpe = serde_json::from_str(json).map_err(|e| e.to_string())?;
        bpe.build().map_err(|e| e.to_string())
    }

    #[test]
    fn merges_are_pairs_or_lines() {
        let pairs = build(r#"{"vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]}"#);
        let lines = build(r#"{"vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}"#);
        assert!(pairs.unwrap() == lines.unwrap());
    }

    #[test]
    fn merges_that_make_no_token_are_refused() {
        for merges in [
            r#"["a a"]"#,
            r#"["ab ab"]"#,
            r#"["ab x"]"#,
            r#"["a"]"#,
            r#"["a b a"]"#,
            r#"[["a"]]"#,
            r#"[["a", "b", "a"]]"#,
            "[1]",
        ] {
            let json = format!(r#"{{"vocab": {{"a": 0, "b": 1, "ab": 2}}, "merges": {merges}}}"#);
            assert!(build(&json).is_err(), "{merges}");
        }
        let prefixed = r#"{"vocab": {"a": 0, "é": 1}, "merges": [["a", "é"]],
            "continuing_subword_prefix": "é"}"#;
        assert!(build(prefixed).is_ok());
        assert!(build(&prefixed.replace(r#"x": "é"#, r#"x": "éé"#)).is_err());
    }
}
