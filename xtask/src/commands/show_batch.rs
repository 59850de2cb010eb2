//! What `--show-batch` prints: the first batch as the model sees it, trained tokens marked.

use std::io::{IsTerminal, stdout};

use anyhow::Result;
use cai_model::tokenizer::{ChatTokenizer, Example};
use dpo_trainer::DpoConfig;
use helpful_sft::SftConfig;

/// Prints the conversations of the first step of SFT.
pub fn sft(
    tokenizer: &ChatTokenizer,
    prepared: &helpful_sft::Prepared,
    config: &SftConfig,
) -> Result<()> {
    legend();
    for i in helpful_sft::first_batch(prepared, config)? {
        show(tokenizer, &format!("example {}", i + 1), &prepared.train[i])?;
    }
    Ok(())
}

/// Prints the pairs of the first step of DPO.
pub fn dpo(
    tokenizer: &ChatTokenizer,
    prepared: &dpo_trainer::Prepared,
    config: &DpoConfig,
) -> Result<()> {
    legend();
    for i in dpo_trainer::first_batch(prepared, config)? {
        let pair = &prepared.train[i];
        show(tokenizer, &format!("pair {}, chosen", i + 1), &pair.chosen)?;
        show(tokenizer, &format!("pair {}, rejected", i + 1), &pair.rejected)?;
    }
    Ok(())
}

fn legend() {
    let marks = if stdout().is_terminal() { "green" } else { "between [[ and ]]" };
    println!("the examples of the first step; trained tokens are {marks}");
}

fn show(tokenizer: &ChatTokenizer, title: &str, example: &Example) -> Result<()> {
    let (tokens, trained) = (example.ids.len(), example.trained_tokens());
    println!("\n{title}: {tokens} tokens, {trained} trained");
    println!("{}", tokenizer.marked(example, stdout().is_terminal())?.trim_end_matches('\n'));
    Ok(())
}
