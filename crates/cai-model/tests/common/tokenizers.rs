//! Ids of texts and chats.

use cai_data::record::Message;
use cai_model::tokenizer::{ChatTokenizer, Turns};
use serde_json::Value;

/// Asserts that the texts and chats of `reference.json` become its ids.
pub fn ids_agree(tokenizer: &ChatTokenizer, reference: &Value) {
    for case in reference["tokenizer"].as_array().unwrap() {
        let text = case["text"].as_str().unwrap();
        let ours = tokenizer.encode_with_special(text).unwrap();
        // Hugging Face's tokenizer puts <bos> before every text, ours only before a chat.
        let ours: Vec<u32> = tokenizer.bos().into_iter().chain(ours).collect();
        assert_eq!(ours, ids(&case["ids"]), "{text:?}");
    }
    for case in reference["chat"].as_array().unwrap() {
        let messages: Vec<Message> = serde_json::from_value(case["messages"].clone()).unwrap();
        let prompt = case["add_generation_prompt"].as_bool().unwrap();
        assert_eq!(tokenizer.render(&messages, prompt).unwrap(), case["text"].as_str().unwrap());
        let ours = match prompt {
            true => tokenizer.prompt(&messages).unwrap(),
            false => tokenizer.conversation(&messages, Turns::All).unwrap().ids,
        };
        assert_eq!(ours, ids(&case["ids"]), "{}", case["text"]);
    }
}

fn ids(list: &Value) -> Vec<u32> {
    serde_json::from_value(list.clone()).unwrap()
}
