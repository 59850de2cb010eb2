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
    let mut cargo = super::cargo();
    cargo.args(["test", "--workspace"]).args(&args.filter);
    if args.slow {
        cargo.args(["--", "--include-ignored"]);
    }
    match cargo.status().context("cannot start cargo")?.success() {
        true => Ok(()),
        false => bail!("tests failed"),
    }
}
