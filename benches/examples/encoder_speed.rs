//! Scores and times of a classifier's first encoder on random tokens, for the comparison with the same
//! network in PyTorch (`benches/python/encoder_torch.py` runs both in turn):
//!
//! ```text
//! cargo build -p cai-benches --example encoder_speed
//! python benches/python/encoder_torch.py --model CLASSIFIER target/debug/examples/encoder_speed
//! ```
//!
//! Writes token ids and scores to `--out` and prints one line of JSON: milliseconds for 1 and for 64
//! texts (median), by the CPU path and by tensors, and the machine's rate of matrix products.

use std::{hint::black_box, path::PathBuf, time::Instant};

use anyhow::{Context, Result};
use burn::tensor::{Distribution, Tensor};
use cai_benches::{SEED, device};
use cai_model::device::tune_allocator;
use clap::Parser;
use rand::RngExt;
use safety_classifier::{checkpoint::Checkpoint, inference::CpuEncoder, network::logits};
use serde_json::json;

#[derive(Parser)]
struct Args {
    /// A classifier's folder.
    #[arg(long)]
    model: PathBuf,
    /// Where to write token ids and scores.
    #[arg(long)]
    out: PathBuf,
    /// Tokens of each text.
    #[arg(long, default_value_t = 64)]
    tokens: usize,
    /// Seconds for each measurement.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
}

/// Texts that are scored together.
const TEXTS: usize = 64;
/// Rows and columns of the matrices whose product gives the machine's rate.
const SIDE: usize = 1024;

fn main() -> Result<()> {
    tune_allocator();
    let args = Args::parse();
    let models = Checkpoint::load(&args.model, &device())?.models;
    let model = models.encoders.first().context("the classifier has no encoder")?;
    let cpu = CpuEncoder::new(&model.encoder, &model.shape)?;

    let mut rng = SEED.rng();
    let mut text = || -> Vec<u32> {
        (0..args.tokens).map(|_| rng.random_range(0..model.shape.vocab_size as u32)).collect()
    };
    let ids: Vec<Vec<u32>> = (0..TEXTS).map(|_| text()).collect();
    let texts: Vec<&[u32]> = ids.iter().map(Vec::as_slice).collect();
    let scores = cpu.logits(&texts);
    std::fs::write(&args.out, json!({ "ids": ids, "scores": scores }).to_string())?;

    let time = |work: &mut dyn FnMut() -> Result<()>| median_ms(args.seconds, work);
    let one = time(&mut || {
        black_box(cpu.logits(&texts[..1]));
        Ok(())
    })?;
    let many = time(&mut || {
        black_box(cpu.logits(&texts));
        Ok(())
    })?;
    let one_by_tensors = time(&mut || {
        black_box(logits(&model.encoder, &texts[..1])?);
        Ok(())
    })?;
    let many_by_tensors = time(&mut || {
        black_box(logits(&model.encoder, &texts)?);
        Ok(())
    })?;
    let side = || Tensor::<2>::random([SIDE, SIDE], Distribution::Default, &device());
    let (a, b) = (side(), side());
    let product = time(&mut || {
        black_box(a.clone().matmul(b.clone()).into_data());
        Ok(())
    })?;
    let matrix_gflops = 2.0 * (SIDE as f64).powi(3) / product / 1e6;
    println!(
        "{}",
        json!({
            "one": one,
            "many": many,
            "one_by_tensors": one_by_tensors,
            "many_by_tensors": many_by_tensors,
            "matrix_gflops": matrix_gflops,
        })
    );
    Ok(())
}

/// The median time of `work`, repeated for `seconds` after a tenth of that to warm up.
fn median_ms(seconds: f64, work: &mut dyn FnMut() -> Result<()>) -> Result<f64> {
    let mut times = Vec::new();
    let start = Instant::now();
    while start.elapsed().as_secs_f64() < 1.1 * seconds {
        let begin = Instant::now();
        work()?;
        if start.elapsed().as_secs_f64() > 0.1 * seconds {
            times.push(begin.elapsed().as_secs_f64() * 1e3);
        }
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}
