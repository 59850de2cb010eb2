//! Text to token ids and back: tokenizer, chat template, and which tokens of a chat are trained.
//!
//! Text that people wrote can never become a control token. `<end_of_turn>` inside a message is
//! encoded as the characters that it consists of; only the chat template places control tokens.

mod chat;
mod controls;
mod example;
mod marked;
mod template;
mod train;

#[cfg(test)]
mod tests;

pub use chat::{ChatTokenizer, Turns};
pub use example::Example;
pub use template::ChatTemplate;
pub use train::{GEMMA_CHAT_TEMPLATE, train_bpe};
