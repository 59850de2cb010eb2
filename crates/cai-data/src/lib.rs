//! Records, files and the mini world: everything about data that needs no tensor code.
//!
//! - [`record`]: the records that the stages exchange (conversations, preference pairs, labelled
//!   texts, evaluation prompts);
//! - [`jsonl`]: these records in `.jsonl` and `.jsonl.gz` files, streaming;
//! - [`table`], [`source`], [`dataset`] and [`hh`]: what other people's files hold, turned into these
//!   records;
//! - [`atomic`], [`hash`], [`seed`], [`split`], [`text`]: whole files or none, fingerprints,
//!   reproducible randomness, held-out splits, and text folding for overlap tests;
//! - [`constitution`], [`dialogue`], [`refusal`], [`cutoff`], [`world`]: the principles, the wording of
//!   critique and feedback dialogues, how refusals are recognised, what becomes of texts that were cut
//!   off, and the generated mini world.

pub mod atomic;
pub mod constitution;
pub mod cutoff;
pub mod dataset;
pub mod dialogue;
mod error;
pub mod hash;
pub mod hh;
pub mod jsonl;
pub mod lexicon;
pub mod overlay;
mod pairs;
pub mod record;
pub mod refusal;
pub mod seed;
pub mod source;
pub mod split;
pub mod table;
pub mod text;
mod words;
pub mod world;

pub use error::{Error, Result};
