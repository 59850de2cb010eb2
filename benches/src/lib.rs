//! Shared set-up of the benches: random models and random data of fixed sizes, on the CPU.
//!
//! Weights mean nothing here; time depends on shapes alone. Everything comes from one seed, so that
//! two runs of a bench do the same work.
//!
//! ```text
//! cargo bench --profile dev --workspace --bench kernels            # all of benches/kernels.rs
//! cargo bench --profile dev --workspace --bench steps -- sft       # those named …sft…
//! ```
//!
//! `--profile dev` measures what `cargo xtask` runs and shares the build of `cargo test
//! --workspace`: without it Cargo compiles everything once more, into `target/release`.

mod classifier;
mod language;
pub mod memory;
pub mod rates;
pub mod steps;
pub mod worker;

use std::time::Duration;

use anyhow::Result;
use burn::tensor::{Device, Tensor};
use cai_data::seed::Seed;
use cai_model::{
    decoder::{RandomInit, TensorSource},
    device::{join_workers, tune_allocator},
};
use criterion::Criterion;
use rand::RngExt;

pub use classifier::classifier;
pub use language::{
    GemmaShape, PRESETS, examples, language_model, pairs, prompts, write_tokenizer,
};

/// Where all random numbers of the benches come from.
pub const SEED: Seed = Seed(42);

/// Runs `benches` with the settings that all share, and with the allocator of the command line.
///
/// Few samples and short times, because a sample of a training step takes a second; criterion's own
/// options (`--sample-size`, `--measurement-time`) override them.
///
/// # Errors
///
/// Those of `benches`.
pub fn run(benches: impl FnOnce(&mut Criterion) -> Result<()>) -> Result<()> {
    tune_allocator();
    join_workers();
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    benches(&mut criterion)?;
    criterion.final_summary();
    Ok(())
}

/// The device of the benches.
pub fn device() -> Device {
    Device::flex()
}

/// A tensor of draws from N(0, 1), which depend on `name`; zeros if it has one dimension.
///
/// # Errors
///
/// None in practice: random weights are never missing.
pub fn random<const D: usize>(name: &str, shape: [usize; D]) -> Result<Tensor<D>> {
    Ok(RandomInit { seed: SEED, std: 1.0, device: device() }.tensor(name, shape)?)
}

/// `count` texts of `words` made-up words each.
pub fn texts(count: usize, words: usize) -> Vec<String> {
    const SYLLABLES: [&str; 12] =
        ["ba", "ke", "lo", "mi", "nu", "ra", "so", "ti", "vu", "wen", "yar", "zol"];
    let mut rng = SEED.derive("texts").rng();
    let mut word = || -> String {
        let syllables = rng.random_range(1..4);
        (0..syllables).map(|_| SYLLABLES[rng.random_range(0..SYLLABLES.len())]).collect()
    };
    let mut text = || (0..words).map(|_| word()).collect::<Vec<_>>().join(" ");
    (0..count).map(|_| text()).collect()
}
