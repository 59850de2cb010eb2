//! Time and memory of loading a model folder, generating, an SFT step and a DPO step with LoRA.
//!
//! ```text
//! cargo xtask random-model --preset gemma-2b --out /somewhere/gemma-2b
//! cargo run -p cai-benches --example full_size -- --model /somewhere/gemma-2b --quantize 8
//! ```
//!
//! Wall time means little beside other programs; CPU time is that of all threads together. Memory is
//! anonymous memory: what the process allocated, without pages that mirror a file. The peak
//! of each part includes the weights. Linux only.

use std::{path::PathBuf, time::Instant};

use anyhow::Result;
use burn::module::Module;
use cai_benches::{
    SEED, examples,
    memory::{AnonymousPeak, cpu_seconds, status},
    pairs, prompts,
};
use cai_model::{
    decoder::{Decoder, Pass},
    device::tune_allocator,
    generate::{SamplingConfig, generate},
    lora::LoraConfig,
    model::{LanguageModel, LoadOptions},
    source::Quantize,
};
use cai_train::{Objective, TrainArgs, optim::Optimizer, params::Gradients};
use clap::Parser;
use dpo_trainer::{DpoConfig, DpoObjective, Reference, pair_logps};
use helpful_sft::{Mode, SftObjective};

#[derive(Parser)]
struct Args {
    /// Model folder or GGUF file.
    #[arg(long)]
    model: PathBuf,
    /// Hold the base in 8 or 4 bits per weight, or (a GGUF file) as stored.
    #[arg(long)]
    quantize: Option<Quantize>,
    /// Keep the activations of all layers for the backward pass.
    #[arg(long)]
    no_gradient_checkpointing: bool,
    /// Tokens of each training example; the second half is trained.
    #[arg(long, default_value_t = 256)]
    tokens: usize,
    /// Tokens to generate.
    #[arg(long, default_value_t = 32)]
    generate: usize,
}

fn main() -> Result<()> {
    tune_allocator();
    let args = Args::parse();
    let device = cai_benches::device();
    let model = measure("load", || {
        let options = LoadOptions { quantize: args.quantize, ..LoadOptions::default() };
        Ok(LanguageModel::load_with(&args.model, &options, &device)?)
    })?;
    let bytes: usize = model.decoder.weights().iter().map(|weight| weight.num_bytes()).sum();
    let per_weight = model.decoder.bytes_per_weight();
    println!("matrices {:.2} GiB, {per_weight:.4} bytes per weight", gib(bytes as u64));
    let vocabulary = model.spec.vocab_size;
    measure(&format!("generate {} tokens", args.generate), || {
        let prompt = prompts(1, 16, vocabulary);
        let sampling = SamplingConfig::greedy(args.generate);
        Ok(generate(&model, &prompt, &sampling, &[SEED], 1, &mut |_| {}).map(drop)?)
    })?;
    let pass = Pass { recompute: !args.no_gradient_checkpointing, ..Pass::default() };
    let model = model.add_adapter(&LoraConfig::default(), SEED)?;
    let sft = examples(1, args.tokens, vocabulary);
    let mode = Mode::Adapter;
    measure("SFT step", || {
        let objective = SftObjective {
            train: &sft,
            weights: &[],
            rows: &[],
            held_out: &[],
            pad: 0,
            eval_batch_size: 1,
            mode,
            pass,
        };
        step(&model, &objective)
    })?;
    let pairs = pairs(1, args.tokens, vocabulary);
    let config = DpoConfig { gradient_checkpointing: pass.recompute, ..DpoConfig::default() };
    measure("DPO step, with the reference's pass", || {
        let train = pair_logps(&model.decoder, &pairs, 0, &config, &mut |_| {})?;
        let reference = Reference { sources: Default::default(), train, held_out: Vec::new() };
        let objective = DpoObjective {
            train: &pairs,
            held_out: &[],
            reference: &reference,
            pad: 0,
            eval_batch_size: 1,
            config: &config,
        };
        step(&model, &objective)
    })?;
    println!("resident at most {:.2} GiB, file pages included", gib(status("VmHWM")?));
    Ok(())
}

/// Forward, backward, global norm and update, as in the loop.
fn step(model: &LanguageModel, objective: &impl Objective<Decoder>) -> Result<()> {
    let decoder = model.decoder.clone().train();
    let items: Vec<usize> = (0..objective.len()).collect();
    let loss = objective.loss(&decoder, &items, SEED).map_err(anyhow::Error::from_boxed)?;
    let mut grads = loss.surrogate.div_scalar(objective.weight(&items)).backward();
    let mut gradients = Gradients::default();
    gradients.accumulate(&decoder, &mut grads);
    let norm = gradients.norm()?;
    println!("loss {:.4}, gradient norm {norm:.4}", loss.loss / objective.weight(&items));
    Optimizer::new(&TrainArgs::default()).step(decoder, gradients, 1.0, 1e-5);
    Ok(())
}

fn measure<T>(name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let (watch, start, before) = (AnonymousPeak::start()?, Instant::now(), cpu_seconds()?);
    let result = work()?;
    let (seconds, peak) = (start.elapsed().as_secs_f64(), gib(watch.finish()));
    let (cpu, now) = (cpu_seconds()? - before, gib(status("RssAnon")?));
    println!(
        "{name}: {seconds:.1} s (CPU {cpu:.1} s), peak {peak:.2} GiB, afterwards {now:.2} GiB"
    );
    Ok(result)
}

fn gib(bytes: u64) -> f64 {
    bytes as f64 / (1u64 << 30) as f64
}
