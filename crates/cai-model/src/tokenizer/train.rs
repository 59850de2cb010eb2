//! A tokenizer like Gemma's, trained on a corpus.

use std::collections::HashSet;
use std::iter;
use std::path::Path;

use cai_data::atomic;
use serde_json::json;
use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::normalizers::replace::Replace;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, Model, SplitDelimiterBehavior, Tokenizer, Trainer};

use crate::error::{Error, Result};

const SPACE: char = '▁';

/// The special tokens; their ids are their places here.
const SPECIAL: [&str; 7] =
    ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<start_of_turn>", "<end_of_turn>"];

/// Trains a byte-pair encoding (Sennrich et al. 2016, arXiv 1508.07909, section 3.2) in Gemma's
/// format and writes `tokenizer.json`, `tokenizer_config.json` and `chat_template.jinja` to `dir`.
///
/// The vocabulary: the special tokens `<pad>` 0, `<eos>` 1, `<bos>` 2, `<unk>` 3, `<mask>` 4,
/// `<start_of_turn>` 5, `<end_of_turn>` 6; 256 byte tokens, through which any text can be encoded;
/// every printable ASCII character and every character of `texts`; then merges, until there are
/// `vocab_size` tokens (fewer when the texts hold no more pairs that occur twice). A space is `▁`
/// and belongs to the word after it. Merges stay inside a word or a run of punctuation; digits and
/// line breaks are tokens of their own. The same texts give the same bytes.
///
/// # Errors
/// [`Error::Tokenizer`] when `vocab_size` has no room for the characters; an error of writing.
pub fn train_bpe(
    texts: impl Iterator<Item = String>,
    vocab_size: usize,
    chat_template: &str,
    dir: &Path,
) -> Result<()> {
    let path = dir.join("tokenizer.json");
    let failed = |reason: String| Error::Tokenizer { path: path.clone(), reason };
    let texts: Vec<String> = texts.collect();
    let bpe = merges(texts, vocab_size).map_err(|error| failed(error.to_string()))?;
    let size = bpe.get_vocab_size();
    if size > vocab_size {
        return Err(failed(format!(
            "special tokens, bytes and the texts' characters alone make {size} tokens; set the \
             vocabulary's size to at least that, it is {vocab_size}"
        )));
    }
    let tokenizer = gemma_pipeline(bpe).and_then(|tokenizer| tokenizer.to_string(true));
    let tokenizer = tokenizer.map_err(|error| failed(error.to_string()))?;

    atomic::write(&path, tokenizer.as_bytes())?;
    atomic::write_json(&dir.join("tokenizer_config.json"), &tokenizer_config())?;
    atomic::write(&dir.join("chat_template.jinja"), chat_template.as_bytes())?;
    Ok(())
}

fn merges(texts: Vec<String>, vocab_size: usize) -> std::result::Result<BPE, tokenizers::Error> {
    let bytes = (0..=255u8).map(|byte| format!("<0x{byte:02X}>"));
    let names = SPECIAL.map(str::to_owned).into_iter().chain(bytes);
    let ascii = ('!'..='~').chain(['\n', '\t', SPACE]);
    let mut trainer = BpeTrainer::builder()
        .vocab_size(vocab_size)
        .min_frequency(2)
        .show_progress(false)
        .special_tokens(names.map(|name| AddedToken::from(name, true)).collect())
        .initial_alphabet(ascii.collect::<HashSet<char>>())
        .build();
    // The names of the roles stand in every turn, and are to be single tokens.
    let roles = iter::repeat_n("user\nmodel".to_owned(), texts.len().max(2));
    trainer.feed(texts.into_iter().chain(roles), |text| Ok(words(text)))?;
    let mut bpe =
        BPE::builder().unk_token("<unk>".to_owned()).fuse_unk(true).byte_fallback(true).build()?;
    trainer.train(&mut bpe)?;
    Ok(bpe)
}

/// What Gemma puts around its BPE; saved by `transformers` in the same words.
fn gemma_pipeline(bpe: BPE) -> std::result::Result<Tokenizer, tokenizers::Error> {
    let mut tokenizer = Tokenizer::new(bpe);
    tokenizer.with_normalizer(Some(Replace::new(" ", SPACE)?))?;
    // Never splits, since the normalizer leaves no space: Gemma merges inside whole texts.
    let spaces = SplitPattern::String(" ".into());
    let split = Split::new(spaces, SplitDelimiterBehavior::MergedWithPrevious, false)?;
    tokenizer.with_pre_tokenizer(Some(split));
    let template = TemplateProcessing::builder()
        .try_single("<bos> $A")?
        .try_pair("<bos> $A <bos> $B")?
        .special_tokens(vec![("<bos>", 2)])
        .build()?;
    tokenizer.with_post_processor(Some(template));
    let decoders = vec![
        Replace::new(SPACE.to_string(), " ")?.into(),
        ByteFallback::default().into(),
        Fuse::default().into(),
    ];
    tokenizer.with_decoder(Some(Sequence::new(decoders)));
    tokenizer.add_special_tokens(SPECIAL.map(|name| AddedToken::from(name, true)))?;
    Ok(tokenizer)
}

fn tokenizer_config() -> serde_json::Value {
    json!({
        "additional_special_tokens": ["<start_of_turn>", "<end_of_turn>"],
        "bos_token": "<bos>",
        "clean_up_tokenization_spaces": false,
        "eos_token": "<eos>",
        "mask_token": "<mask>",
        "model_max_length": 1_000_000_000,
        "pad_token": "<pad>",
        "tokenizer_class": "GemmaTokenizer",
        "unk_token": "<unk>",
    })
}

/// The stretches of `text` inside which characters may be merged.
fn words(text: &str) -> Vec<String> {
    let text = text.replace(' ', SPACE.encode_utf8(&mut [0; 4]));
    let mut words: Vec<String> = Vec::new();
    let mut before = Class::Alone;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let class = match Class::of(c) {
            // The apostrophe in don't.
            Class::Mark
                if matches!(c, '\'' | '’')
                    && before == Class::Letter
                    && chars.peek().is_some_and(|next| next.is_alphabetic()) =>
            {
                Class::Letter
            }
            class => class,
        };
        let continues = match class {
            Class::Letter | Class::Mark => before == class || before == Class::Space,
            Class::Space | Class::Alone => false,
        };
        match words.last_mut() {
            Some(word) if continues => word.push(c),
            _ => words.push(c.into()),
        }
        before = class;
    }
    words
}

#[derive(Copy, Clone, PartialEq)]
enum Class {
    Space,
    Letter,
    Mark,
    /// A digit, a line break: a token of its own.
    Alone,
}

impl Class {
    fn of(c: char) -> Self {
        match c {
            SPACE => Class::Space,
            c if c.is_alphabetic() => Class::Letter,
            c if c.is_numeric() || c.is_whitespace() || c.is_control() => Class::Alone,
            _ => Class::Mark,
        }
    }
}
