//! Generation with a KV cache.
//!
//! [`Engine`] generates for many requests at once, which join and leave between two tokens:
//!
//! - [`Engine::submit`] puts a [`Request`] in the queue, [`Engine::cancel`] takes it back;
//! - [`Engine::step`] reads the prompts of waiting requests as far as there are free rows, then adds
//!   one token to each sequence, and tells what happened as [`Event`]s.
//!
//! [`generate`] and [`complete`] run the engine over a list of prompts.
//!
//! What a request gets depends on its prompt, settings and seed alone, not on what runs beside it:
//! each token's draw has a seed of its own, and no row of a batch sees another. Only the last digits
//! of a matrix product differ between batches of different sizes, so that a token can differ where
//! the two most likely ones (or the drawn point and the border of a token's share) are closer than
//! these.

mod choose;
mod engine;
mod offline;
mod request;
mod sampling;
mod sequence;
mod stream;

pub use engine::Engine;
pub use offline::{complete, generate};
pub use request::{Event, Finish, Generation, Limits, Request, RequestId};
pub use sampling::SamplingConfig;
