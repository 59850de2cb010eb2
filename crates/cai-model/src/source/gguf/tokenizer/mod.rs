//! The tokenizer that a GGUF file describes in its metadata, as the model's Hugging Face folder has it.

mod byte_level;
mod sentencepiece;
mod tokens;

use serde_json::{Value as Json, json};
use tokenizers::PostProcessorWrapper;

use super::Gguf;
use crate::{
    Error, Result,
    source::bpe::{Bpe, Parts},
    tokenizer::TokenizerParts,
};
use tokens::Tokens;

/// What the kinds of tokenizers differ in.
struct Kind {
    /// Without its vocabulary.
    bpe: Bpe,
    /// `normalizer`, `pre_tokenizer` and `decoder`, as in `tokenizer.json`.
    around: Json,
    /// Whether texts begin with `<bos>` where the file does not say.
    adds_bos: bool,
}

impl Gguf {
    /// The tokenizer: a byte-pair encoding of SentencePiece's kind (`tokenizer.ggml.model` is "llama")
    /// or of bytes ("gpt2").
    ///
    /// # Errors
    ///
    /// [`Error::Weights`] when a key is missing or of another kind; [`Error::Tokenizer`] when the
    /// tokenizer is of a kind that is not supported, or damaged.
    pub fn tokenizer(&self) -> Result<TokenizerParts> {
        let tokens = Tokens::read(self)?;
        let kind = match self.require("tokenizer.ggml.model")? {
            "llama" => sentencepiece::read(self, &tokens)?,
            "gpt2" => byte_level::read(self)?,
            other => {
                return Err(self.tokenizer_error(format!(
                    "tokenizer.ggml.model '{other}' is not supported, only 'llama' and 'gpt2'; give \
                     the folder of the model's own tokenizer"
                )));
            }
        };
        let config = self.tokenizer_config(&tokens, kind.adds_bos)?;
        let fail = |error: tokenizers::Error| self.tokenizer_error(error.to_string());
        let mut parts: Parts = serde_json::from_value(kind.around).map_err(|e| fail(e.into()))?;
        parts.post_processor = post_processor(&tokens, &config).map_err(|e| fail(e.into()))?;
        parts.added_tokens = tokens.added();
        let end_ids = self.end_ids(&tokens)?;
        let bpe = Bpe { vocab: tokens.into_vocab(), ..kind.bpe };
        let tokenizer = bpe.build().and_then(|bpe| parts.assemble(bpe)).map_err(fail)?;
        let generation = json!({"eos_token_id": end_ids});
        Ok(TokenizerParts {
            tokenizer,
            config,
            generation,
            template: None,
            path: self.path().into(),
        })
    }

    fn tokenizer_config(&self, tokens: &Tokens, adds_bos: bool) -> Result<Json> {
        let add_bos = self.get("tokenizer.ggml.add_bos_token")?.unwrap_or(adds_bos);
        let add_eos = self.get("tokenizer.ggml.add_eos_token")?.unwrap_or(false);
        let mut config = json!({"add_bos_token": add_bos, "add_eos_token": add_eos});
        for (name, key) in [
            ("bos_token", "tokenizer.ggml.bos_token_id"),
            ("eos_token", "tokenizer.ggml.eos_token_id"),
            ("pad_token", "tokenizer.ggml.padding_token_id"),
            ("unk_token", "tokenizer.ggml.unknown_token_id"),
        ] {
            if let Some(id) = self.token_id(tokens, key)? {
                config[name] = json!(tokens.text(id));
            }
        }
        if let Some(template) = self.get::<&str>("tokenizer.chat_template")? {
            config["chat_template"] = json!(template);
        }
        for (setting, token) in [("add_bos_token", "bos_token"), ("add_eos_token", "eos_token")] {
            if config[setting] == true && config[token].is_null() {
                return Err(self.tokenizer_error(format!(
                    "it sets {setting}, but has no {token} (tokenizer.ggml.{token}_id)"
                )));
            }
        }
        Ok(config)
    }

    /// The tokens that end a text or a turn.
    fn end_ids(&self, tokens: &Tokens) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        for name in ["eos", "eot", "eom"] {
            let id = self.token_id(tokens, &format!("tokenizer.ggml.{name}_token_id"))?;
            ids.extend(id.filter(|id| !ids.contains(id)));
        }
        Ok(ids)
    }

    /// The id under `key`, which must be that of a token.
    fn token_id(&self, tokens: &Tokens, key: &str) -> Result<Option<u32>> {
        let Some(id) = self.get::<usize>(key)? else { return Ok(None) };
        match u32::try_from(id).ok().filter(|id| (*id as usize) < tokens.len()) {
            Some(id) => Ok(Some(id)),
            None => Err(self
                .tokenizer_error(format!("{key} is {id}, but there are {} tokens", tokens.len()))),
        }
    }

    fn tokenizer_error(&self, reason: String) -> Error {
        Error::Tokenizer { path: self.path().into(), reason }
    }
}

/// Puts `<bos>` before a text and `<eos>` behind it, as the config says.
fn post_processor(
    tokens: &Tokens,
    config: &Json,
) -> serde_json::Result<Option<PostProcessorWrapper>> {
    let special = |setting: &str, token: &str| match config[setting] == true {
        true => config[token].as_str(),
        false => None,
    };
    let (bos, eos) = (special("add_bos_token", "bos_token"), special("add_eos_token", "eos_token"));
    if bos.is_none() && eos.is_none() {
        return Ok(None);
    }
    let token = |text: &str, of: u32| json!({"SpecialToken": {"id": text, "type_id": of}});
    let sequence = |name: &str, of: u32| {
        let text = json!({"Sequence": {"id": name, "type_id": of}});
        [bos.map(|bos| token(bos, of)), Some(text), eos.map(|eos| token(eos, of))]
    };
    let list = |parts: Vec<Option<Json>>| parts.into_iter().flatten().collect::<Vec<_>>();
    let ids = [bos, eos].into_iter().flatten().map(|text| {
        let of = json!({"id": text, "ids": [tokens.id(text)], "tokens": [text]});
        (text.to_string(), of)
    });
    serde_json::from_value(json!({
        "type": "TemplateProcessing",
        "single": list(sequence("A", 0).into()),
        "pair": list([sequence("A", 0), sequence("B", 1)].concat()),
        "special_tokens": ids.collect::<serde_json::Map<_, _>>(),
    }))
    .map(Some)
}
