use std::path::PathBuf;

use anyhow::{Result, bail};
use burn::{
    module::{Module, ModuleMapper, Param},
    tensor::{DType, Tensor},
};
use cai_data::record::Message;
use cai_model::{
    lora::{WeightChange, largest_change, merge_adapter, prompt_logits},
    model::LanguageModel,
};
use clap::{Args, ValueEnum};
use serde::Serialize;

use super::{ModelArgs, create_dir};

/// Merge an adapter into its base model, in f32, and write a model folder.
///
/// The base's folder stays as it is, so merging is undone by using that again.
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
    /// Prompt to compare logits on, before and after; may be given several times.
    #[arg(long = "prompt", value_name = "TEXT", default_values_t = [
        "How do I brew a pot of tea?".to_string(),
        "Tell me a story about a lighthouse.".to_string(),
        "Why is the sky blue?".to_string(),
    ])]
    prompts: Vec<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Type {
    F32,
    Bf16,
}

/// merge_report.json.
#[derive(Serialize)]
struct Report {
    base: PathBuf,
    adapter: Option<PathBuf>,
    /// Type of the written weights.
    dtype: &'static str,
    /// How far merging moves the weights, before they are written as `dtype`.
    weight_change: WeightChange,
    /// Largest change of a logit on the prompts, adapter on against merged.
    largest_logit_change: f64,
    /// The same with the weights as they are written.
    largest_logit_change_as_written: f64,
    prompts: Vec<String>,
}

/// Runs the command.
pub fn run(args: MergeArgs) -> Result<()> {
    if args.model.adapter.is_none() {
        bail!("give the adapter to merge with --adapter DIR");
    }
    let mut model = args.model.load()?;
    create_dir(&args.out)?;
    let ids = prompt_ids(&model, &args.prompts)?;
    let with_adapter = prompt_logits(&model, &ids)?;

    let (merged, weight_change) = merge_adapter(model.decoder);
    model.decoder = merged;
    let largest_logit_change = largest_change(&with_adapter, &prompt_logits(&model, &ids)?);
    let (dtype, name) = match args.dtype {
        Type::F32 => (DType::F32, "f32"),
        Type::Bf16 => (DType::BF16, "bf16"),
    };
    model.save_folder(dtype, &args.out)?;
    model.decoder = model.decoder.map(&mut Rounded(dtype));
    let as_written = largest_change(&with_adapter, &prompt_logits(&model, &ids)?);

    let report = Report {
        base: model.path,
        adapter: args.model.adapter,
        dtype: name,
        weight_change,
        largest_logit_change,
        largest_logit_change_as_written: as_written,
        prompts: args.prompts,
    };
    cai_data::atomic::write_json(&args.out.join("merge_report.json"), &report)?;
    let WeightChange { largest, mean, .. } = weight_change;
    println!("largest weight change {largest:.2e}, mean {mean:.2e}");
    println!(
        "largest logit change on {} prompts {largest_logit_change:.1e}, as {name} {as_written:.1e}",
        ids.len()
    );
    println!("merged model in {}", args.out.display());
    Ok(())
}

fn prompt_ids(model: &LanguageModel, prompts: &[String]) -> Result<Vec<Vec<u32>>> {
    let prompt = |text: &String| Ok(model.tokenizer.prompt(&[Message::user(text)])?);
    prompts.iter().map(prompt).collect()
}

/// Rounds every weight as a type does, and keeps the type it is computed in.
struct Rounded(DType);

impl ModuleMapper for Rounded {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (id, value, mapper) = param.consume();
        let dtype = value.dtype();
        Param::from_mapped_value(id, value.cast(self.0).cast(dtype), mapper)
    }
}
