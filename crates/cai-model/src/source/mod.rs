//! Where a model comes from.

mod bpe;
pub mod gguf;
pub mod tokenizer_json;
