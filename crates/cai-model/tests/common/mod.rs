//! What the parity tests share: references of Hugging Face's libraries, and the checks themselves.

pub mod adapters;
pub mod checks;
pub mod reference;
pub mod shapes;
pub mod tokenizers;
pub mod training;

use std::path::{Path, PathBuf};

use burn::tensor::Device;

/// Where the models compute: on the device that `CAI_TEST_DEVICE` names, on CPU if it names none.
pub fn device() -> Device {
    let setting = std::env::var("CAI_TEST_DEVICE").unwrap_or("cpu".into());
    cai_model::device::parse(&setting).unwrap()
}

/// The folder of one fixture.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}
