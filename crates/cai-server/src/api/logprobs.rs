//! Log-probabilities as OpenAI writes them.

use cai_model::tokenizer::ChatTokenizer;
use serde_json::{Map, Value, json};

use crate::models::Token;

/// A token of an answer, and where it begins in the text.
pub(super) struct Scored {
    token: Token,
    /// Its part of the text; none for a control token, perhaps only some of a character's.
    bytes: Vec<u8>,
    /// Bytes of text before it.
    pub(super) start: usize,
}

impl Scored {
    /// A token at `end` of the text, which it moves.
    pub(super) fn new(token: Token, tokenizer: &ChatTokenizer, end: &mut usize) -> Self {
        let (start, bytes) = (*end, tokenizer.token_bytes(token.id));
        *end += bytes.len();
        Self { token, bytes, start }
    }
}

/// A chat's `logprobs`.
pub(super) fn chat(tokens: &[Scored], tokenizer: &ChatTokenizer) -> Value {
    let entry = |bytes: &[u8], logprob: f32| json!({"token": name(bytes), "logprob": logprob, "bytes": bytes});
    let content = tokens.iter().map(|Scored { token, bytes, .. }| {
        let top = token.top.iter().map(|&(id, p)| entry(&tokenizer.token_bytes(id), p));
        let mut value = entry(bytes, token.logprob);
        value["top_logprobs"] = top.collect();
        value
    });
    json!({"content": content.collect::<Value>(), "refusal": null})
}

/// A text completion's `logprobs`.
pub(super) fn text(tokens: &[Scored], tokenizer: &ChatTokenizer) -> Value {
    let top = |token: &Token| -> Map<String, Value> {
        let pairs = token.top.iter();
        pairs.map(|&(id, p)| (name(&tokenizer.token_bytes(id)), p.into())).collect()
    };
    let list = |value: &dyn Fn(&Scored) -> Value| tokens.iter().map(value).collect::<Value>();
    json!({
        "tokens": list(&|scored| name(&scored.bytes).into()),
        "token_logprobs": list(&|scored| scored.token.logprob.into()),
        "top_logprobs": list(&|scored| top(&scored.token).into()),
        "text_offset": list(&|scored| scored.start.into()),
    })
}

/// A token as text; bytes that are no character are replacement characters.
fn name(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
