use std::path::PathBuf;

use anyhow::{Context, Result, anyhow};
use burn::tensor::DType;
use cai_data::seed::Seed;
use cai_model::{
    decoder::DecoderSpec,
    export::write_random_model,
    families::{PRESETS, preset},
};
use clap::{Args, ValueEnum, builder::PossibleValuesParser};

/// Write a model folder of random weights, of any size: for benches and tests of memory.
#[derive(Args)]
pub struct RandomModelArgs {
    /// Shape of the model.
    #[arg(long, value_parser = PossibleValuesParser::new(PRESETS))]
    preset: String,
    /// Type of the weights.
    #[arg(long, value_enum, default_value_t = Type::Bf16)]
    dtype: Type,
    /// Folder to write.
    #[arg(long)]
    out: PathBuf,
    /// Model folder whose tokenizer is copied; it may have fewer tokens than the model.
    #[arg(long, default_value = "artifacts/models/mini-gemma")]
    tokenizer: PathBuf,
    /// Seed of the weights.
    #[arg(long, default_value_t = 42)]
    seed: u64,
}

#[derive(Clone, Copy, ValueEnum)]
enum Type {
    F32,
    Bf16,
}

/// Runs the command.
pub fn run(args: RandomModelArgs) -> Result<()> {
    let config = preset(&args.preset).context("unknown preset")?;
    let config = DecoderSpec::from_json(config).map_err(|reason| anyhow!(reason))?;
    let dtype = match args.dtype {
        Type::F32 => DType::F32,
        Type::Bf16 => DType::BF16,
    };
    write_random_model(&config, dtype, Seed(args.seed), &args.tokenizer, &args.out)?;
    let millions = config.num_parameters() as f64 / 1e6;
    println!("{} with {millions:.1} million random parameters", args.out.display());
    Ok(())
}
