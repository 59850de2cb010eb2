//! Byte-pair encodings of bytes (`tokenizer.ggml.model` "gpt2"), such as Llama 3's and Qwen's.
//!
//! The file has the merges, but of how a text is cut into words it has a name alone
//! (`tokenizer.ggml.pre`); what each name means is read off the models' own `tokenizer.json`.

use serde_json::{Value as Json, json};

use super::Kind;
use crate::{
    Result,
    source::{
        bpe::{self, Bpe},
        gguf::Gguf,
    },
};

/// How a text is cut into words.
struct Words {
    normalizer: Json,
    pre_tokenizer: Json,
    /// Whether a word that is a token is that token, whatever the merges say.
    ignore_merges: bool,
    adds_bos: bool,
}

pub fn read(gguf: &Gguf) -> Result<Kind> {
    let name: &str = gguf.require("tokenizer.ggml.pre")?;
    let words = words(name).ok_or_else(|| {
        gguf.tokenizer_error(format!(
            "how '{name}' (tokenizer.ggml.pre) cuts a text into words is not known here; give the \
             folder of the model's own tokenizer"
        ))
    })?;
    let lines: &[String] = gguf.require("tokenizer.ggml.merges")?;
    let merges = lines.iter().map(|line| {
        let damaged = || gguf.tokenizer_error(format!("the merge {line:?} is not of two tokens"));
        bpe::merge(line).ok_or_else(damaged)
    });
    let bpe = Bpe {
        merges: merges.collect::<Result<_>>()?,
        ignore_merges: Some(words.ignore_merges),
        ..Bpe::default()
    };
    let around = json!({
        "normalizer": words.normalizer,
        "pre_tokenizer": words.pre_tokenizer,
        "decoder": byte_level(true),
    });
    Ok(Kind { bpe, around, adds_bos: words.adds_bos })
}

fn words(name: &str) -> Option<Words> {
    let gpt2 = Words {
        normalizer: Json::Null,
        pre_tokenizer: byte_level(true),
        ignore_merges: false,
        adds_bos: false,
    };
    Some(match name {
        "gpt-2" | "default" => gpt2,
        "smollm" => {
            let digits = json!({"type": "Digits", "individual_digits": true});
            Words { pre_tokenizer: sequence([digits, byte_level(true)]), ..gpt2 }
        }
        "qwen2" => Words {
            normalizer: json!({"type": "NFC"}),
            pre_tokenizer: sequence([split(r"\p{N}"), byte_level(false)]),
            ..gpt2
        },
        "llama-bpe" | "llama3" | "llama-v3" => Words {
            pre_tokenizer: sequence([split(r"\p{N}{1,3}"), byte_level(false)]),
            ignore_merges: true,
            adds_bos: true,
            ..gpt2
        },
        _ => return None,
    })
}

/// With GPT-2's words, or each piece that comes in as one.
fn byte_level(gpt2_words: bool) -> Json {
    json!({
        "type": "ByteLevel",
        "add_prefix_space": false,
        "trim_offsets": true,
        "use_regex": gpt2_words,
    })
}

/// The words of Llama 3 and Qwen 2, which differ in how many digits are one.
fn split(digits: &str) -> Json {
    let regex = format!(
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    );
    json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false})
}

fn sequence<const N: usize>(pre_tokenizers: [Json; N]) -> Json {
    json!({"type": "Sequence", "pretokenizers": pre_tokenizers.to_vec()})
}
