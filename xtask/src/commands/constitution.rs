use std::{collections::BTreeMap, path::PathBuf};

use anyhow::Result;
use cai_data::constitution::{Constitution, Principle};
use clap::{Args, Subcommand};

/// Check a constitution.
#[derive(Args)]
pub struct ConstitutionArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Validate a file, with those that it extends, and count its principles.
    Check {
        /// This project's YAML, the paper's JSON, or llm-swarm's.
        file: PathBuf,
    },
}

/// Runs the command.
pub fn run(args: ConstitutionArgs) -> Result<()> {
    let Action::Check { file } = args.action;
    let Constitution { name, language, principles, few_shot } = Constitution::read(&file)?;
    let mut categories: BTreeMap<&str, usize> = BTreeMap::new();
    for principle in &principles {
        *categories.entry(principle.category.name()).or_default() += 1;
    }
    let counts: Vec<String> = categories.iter().map(|(name, n)| format!("{n} {name}")).collect();
    let serving = |serves: fn(&Principle) -> bool| principles.iter().filter(|p| serves(p)).count();
    println!(
        "{name} ({language}): {} principles ({}); {} for critique and revision, {} for comparison; \
         {} few-shot examples",
        principles.len(),
        counts.join(", "),
        serving(Principle::criticises),
        serving(Principle::compares),
        few_shot.len(),
    );
    for other in &Constitution::files(&file)?[1..] {
        println!("extends {}", other.display());
    }
    Ok(())
}
