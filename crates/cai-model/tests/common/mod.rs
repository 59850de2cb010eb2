//! What the parity tests share: references of Hugging Face's libraries, and the checks themselves.

pub mod adapters;
pub mod checks;
pub mod reference;
pub mod shapes;
pub mod training;

use std::path::{Path, PathBuf};

/// The folder of one fixture.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}
