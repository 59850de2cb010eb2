use std::path::PathBuf;

use anyhow::{Result, bail};
use burn::tensor::DType;
use cai_model::{checkpoint::save_folder, lora::merge_adapter};
use clap::{Args, ValueEnum};

use super::{ModelArgs, create_dir};

/// Merge an adapter into its base model, in f32, and write a model folder.
#[derive(Args)]
pub struct MergeArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Folder to write.
    #[arg(long)]
    out: PathBuf,
    /// Type of the written weights.
    #[arg(long, value_enum, default_value_t = Type::Bf16)]
    dtype: Type,
}

#[derive(Clone, Copy, ValueEnum)]
enum Type {
    F32,
    Bf16,
}

/// Runs the command.
pub fn run(args: MergeArgs) -> Result<()> {
    if args.model.adapter.is_none() {
        bail!("give the adapter to merge with --adapter DIR");
    }
    let model = args.model.load()?;
    create_dir(&args.out)?;
    let (merged, largest) = merge_adapter(model.gemma);
    let dtype = match args.dtype {
        Type::F32 => DType::F32,
        Type::Bf16 => DType::BF16,
    };
    save_folder(&merged, Some(&model.dir), dtype, &args.out)?;
    println!("largest weight change {largest:.4}; merged model in {}", args.out.display());
    Ok(())
}
