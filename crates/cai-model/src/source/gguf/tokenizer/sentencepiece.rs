//! SentencePiece's byte-pair encoding (`tokenizer.ggml.model` "llama"), such as Gemma's.
//!
//! The file has no merges, but a score for each piece. SentencePiece joins those two neighbours whose
//! union has the best score, so that each way to split a piece into two is a merge, and they rank by
//! the piece's score. `transformers` orders equal ones by their lengths, longest first; so do we: the
//! merges of Gemma 3 come out one by one as in its `tokenizer.json`.

use std::cmp::Ordering;

use rayon::prelude::*;
use serde_json::json;
use tokenizers::models::bpe::Merges;

use super::{
    Kind,
    tokens::{TokenKind, Tokens},
};
use crate::{
    Result,
    source::{bpe::Bpe, gguf::Gguf},
};

/// The most bytes of a piece, so that trying all ways to split it cannot take forever. SentencePiece
/// makes none of more than 16 characters if nobody says otherwise.
const LONGEST: usize = 1024;

pub fn read(gguf: &Gguf, tokens: &Tokens) -> Result<Kind> {
    let scores: &[f64] = gguf.require("tokenizer.ggml.scores")?;
    if scores.len() != tokens.len() {
        let (tokens, scores) = (tokens.len(), scores.len());
        return Err(gguf.tokenizer_error(format!("{tokens} tokens with {scores} scores")));
    }
    if let Some(id) = (0..tokens.len() as u32).find(|id| tokens.text(*id).len() > LONGEST) {
        let bytes = tokens.text(id).len();
        return Err(gguf.tokenizer_error(format!(
            "token {id} is a text of {bytes} bytes, which no tokenizer has; the file is damaged"
        )));
    }
    let unknown = gguf.token_id(tokens, "tokenizer.ggml.unknown_token_id")?;
    let bpe = Bpe {
        merges: merges(tokens, scores),
        unk_token: unknown.map(|id| tokens.text(id).into()),
        fuse_unk: Some(true),
        byte_fallback: Some(tokens.has_bytes()),
        ..Bpe::default()
    };
    let mut normalizers =
        vec![json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"})];
    let mut decoders = vec![
        json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if gguf.get("tokenizer.ggml.add_space_prefix")?.unwrap_or(true) {
        normalizers.insert(0, json!({"type": "Prepend", "prepend": "▁"}));
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    let around = json!({
        "normalizer": {"type": "Sequence", "normalizers": normalizers},
        "decoder": {"type": "Sequence", "decoders": decoders},
    });
    Ok(Kind { bpe, around, adds_bos: true })
}

/// A way to split a piece into two tokens.
struct Split {
    score: f64,
    /// In characters.
    lengths: [u32; 2],
    ids: [u32; 2],
}

/// All merges, first the one that comes first.
fn merges(tokens: &Tokens, scores: &[f64]) -> Merges {
    let splits = scores.par_iter().zip(0..tokens.len() as u32).flat_map_iter(|(score, id)| {
        let score = match tokens.kind(id) {
            TokenKind::Normal => Some(*score),
            TokenKind::UserDefined => Some(0.0),
            _ => None,
        };
        score.into_iter().flat_map(move |score| splits(tokens, id, score))
    });
    let mut splits: Vec<Split> = splits.collect();
    // Stable: of the same score and lengths, the piece with the lower id comes first.
    splits.par_sort_by(|a, b| match b.score.total_cmp(&a.score) {
        Ordering::Equal => b.lengths.cmp(&a.lengths),
        order => order,
    });
    let texts = |split: &Split| split.ids.map(|id| tokens.text(id).to_owned()).into();
    splits.iter().map(texts).collect()
}

/// The ways to split the piece `id`, by the ids of the two.
fn splits(tokens: &Tokens, id: u32, score: f64) -> Vec<Split> {
    let text = tokens.text(id);
    let count = text.chars().count();
    let cuts = text.char_indices().enumerate().skip(1);
    let mut splits: Vec<Split> = cuts
        .filter_map(|(before, (at, _))| {
            let (left, right) = text.split_at(at);
            let ids = [tokens.id(left)?, tokens.id(right)?];
            Some(Split { score, lengths: [before, count - before].map(|n| n as u32), ids })
        })
        .collect();
    splits.sort_unstable_by_key(|split| split.ids);
    splits
}
