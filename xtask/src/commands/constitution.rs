use std::{collections::BTreeMap, path::PathBuf};

use anyhow::Result;
use cai_data::constitution::Constitution;
use clap::{Args, Subcommand};

/// Check a constitution.
#[derive(Args)]
pub struct ConstitutionArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Validate a file and count its principles.
    Check {
        /// The file.
        file: PathBuf,
    },
}

/// Runs the command.
pub fn run(args: ConstitutionArgs) -> Result<()> {
    let Action::Check { file } = args.action;
    let constitution = Constitution::read(&file)?;
    let mut categories: BTreeMap<String, usize> = BTreeMap::new();
    for principle in &constitution.principles {
        let category = serde_json::to_value(principle.category)?;
        *categories.entry(category.as_str().unwrap_or_default().into()).or_default() += 1;
    }
    let counts: Vec<String> = categories.iter().map(|(name, n)| format!("{n} {name}")).collect();
    let total = constitution.principles.len();
    println!("{}: {total} principles ({})", constitution.name, counts.join(", "));
    Ok(())
}
