//! A causal language model, whole: any decoder of a known family (Gemma, Llama, Qwen) with LoRA
//! adapters, its tokenizer and chat template, Hugging Face folders and GGUF files in, folders out,
//! batched generation with a KV cache, and completion log-probabilities that never hold
//! `[tokens, vocabulary]` logits.
//!
//! ```no_run
//! use cai_data::record::Message;
//! use cai_model::{device, generate, model::LanguageModel};
//!
//! # fn main() -> cai_model::Result<()> {
//! let device = device::parse("cpu")?;
//! let model = LanguageModel::load("artifacts/models/mini-gemma".as_ref(), None, &device)?;
//! let prompt = model.tokenizer.prompt(&[Message::user("How do I bake bread?")])?;
//! let sampling = generate::SamplingConfig::greedy(64);
//! let seeds = [cai_data::seed::Seed(42)];
//! let answers = generate::generate(&model, &[prompt], &sampling, &seeds, 8, &mut |_| {})?;
//! println!("{}", answers[0].text);
//! # Ok(())
//! # }
//! ```

pub mod batch;
pub mod decoder;
mod error;
pub mod export;
pub mod families;
pub mod generate;
pub mod lora;
pub mod loss;
pub mod model;
pub mod score;
pub mod source;
pub mod tokenizer;
mod untold;

pub use cai_kernels::{device, quantize};
pub use error::{Error, Result};
