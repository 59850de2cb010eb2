//! Text to token ids and back: tokenizer, chat template, and which tokens of a chat are trained.
//!
//! Text that people wrote can never become a control token. `<end_of_turn>` inside a message is
//! encoded as the characters that it consists of; only the chat template places control tokens.

mod chat;
mod choice;
mod controls;
mod conversation;
mod dates;
mod example;
mod json;
mod marked;
mod parts;
mod specials;
mod template;
mod train;
mod vocabulary;

#[cfg(test)]
mod tests;

pub use chat::ChatTokenizer;
pub use choice::{GEMMA_CHAT_TEMPLATE, TemplateChoice};
pub use conversation::Turns;
pub use example::Example;
pub use parts::TokenizerParts;
pub use template::ChatTemplate;
pub use train::train_bpe;
