use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;

/// Run the tests of all crates.
#[derive(Args)]
pub struct TestArgs {
    /// Only tests whose names contain this.
    filter: Option<String>,
    /// Run the slow tests too.
    #[arg(long)]
    slow: bool,
}

/// Runs the command.
pub fn run(args: TestArgs) -> Result<()> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["test", "--workspace"]).args(&args.filter);
    if args.slow {
        cargo.args(["--", "--include-ignored"]);
    }
    // `cargo run` names this package in the environment. Build scripts that ask for the name (ring)
    // would run again, and everything above them would be compiled again.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(&name);
        }
    }
    match cargo.status().context("cannot start cargo")?.success() {
        true => Ok(()),
        false => bail!("tests failed"),
    }
}
