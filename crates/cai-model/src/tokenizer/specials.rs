//! Which tokens begin a text, end it, and fill up batches.

use serde_json::Value as Json;
use tokenizers::Tokenizer;

use super::controls::token_text;

/// What a tokenizer's and a generation config say about special tokens.
#[derive(Clone)]
pub(super) struct Specials {
    /// What the tokenizer puts before every text, if anything.
    pub(super) bos: Option<u32>,
    /// What fills up batches, if it is said: `pad_token`, else `unk_token`.
    pub(super) pad: Option<u32>,
    /// What ends a text or a turn: `eos_token`, then `eos_token_id` of the generation config.
    pub(super) ends: Vec<u32>,
}

impl Specials {
    /// # Errors
    /// What is wrong, where a named token is not in the tokenizer or a setting is not of its type.
    pub(super) fn of(
        tokenizer: &Tokenizer,
        config: &Json,
        generation: &Json,
    ) -> Result<Self, String> {
        let named = |key: &str| match token_text(&config[key]) {
            None => Ok(None),
            Some(token) => match tokenizer.token_to_id(token) {
                Some(id) => Ok(Some(id)),
                None => Err(format!("its `{key}`, {token}, is not in it")),
            },
        };
        let eos = named("eos_token")?;
        // What its post-processor puts before a text: it alone says, unless the config does.
        let empty = tokenizer.encode("", true).map_err(|error| error.to_string())?;
        let added = empty.get_ids().first().copied();
        let bos = match (&config["add_bos_token"], named("bos_token")?) {
            (Json::Bool(true), None) => {
                return Err("`add_bos_token` is true, and `bos_token` is missing".into());
            }
            (Json::Bool(true), bos) => bos,
            (Json::Bool(false), _) => None,
            (_, Some(bos)) => added.filter(|&id| id == bos),
            (_, None) => added.filter(|&id| Some(id) != eos),
        };
        let unk = token_text(&config["unk_token"]).and_then(|token| tokenizer.token_to_id(token));
        let mut ends: Vec<u32> = eos.into_iter().collect();
        for id in generation_ends(&generation["eos_token_id"])? {
            if !ends.contains(&id) {
                ends.push(id);
            }
        }
        Ok(Specials { bos, pad: named("pad_token")?.or(unk), ends })
    }
}

/// `eos_token_id`: nothing, an id, or a list of them.
fn generation_ends(setting: &Json) -> Result<Vec<u32>, String> {
    let id = |value: &Json| {
        value.as_u64().and_then(|id| u32::try_from(id).ok()).ok_or_else(|| {
            format!("`eos_token_id` is {setting}; it must be a token's id or a list of them")
        })
    };
    match setting {
        Json::Null => Ok(Vec::new()),
        Json::Array(ids) => ids.iter().map(id).collect(),
        single => Ok(vec![id(single)?]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ends_are_an_id_or_a_list() {
        assert!(generation_ends(&Json::Null).unwrap().is_empty());
        assert_eq!(generation_ends(&json!(7)).unwrap(), [7]);
        assert_eq!(generation_ends(&json!([1, 106])).unwrap(), [1, 106]);
        for wrong in [json!("<eos>"), json!(-1), json!([1, null]), json!(1u64 << 32)] {
            let error = generation_ends(&wrong).unwrap_err();
            assert!(error.contains("`eos_token_id` is"), "{error}");
        }
    }
}
