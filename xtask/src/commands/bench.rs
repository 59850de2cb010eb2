use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

/// Time steps: beside what the machine can do, beside PyTorch, against their sizes.
#[derive(Args)]
pub struct BenchArgs {
    /// What to run.
    #[arg(value_enum, default_value_t = What::Table)]
    what: What,
    /// Its options: `cargo xtask bench table -- --help` tells those of `table`.
    #[arg(last = true)]
    options: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// Tokens per second, share of the machine's measured rate, peak memory; `-- --save FILE` keeps the
    /// numbers, `-- --against FILE` compares with them.
    Table,
    /// The same steps by PyTorch, in turn with ours.
    Pytorch,
    /// Time and memory of a step against its sizes, as a figure.
    Growth,
    /// Criterion's benches of kernels and steps, compared with the last time.
    Criterion,
}

/// Runs the command.
pub fn run(args: BenchArgs) -> Result<()> {
    let mut cargo = super::cargo();
    // The profile and the crates of everything else, so that nothing is compiled twice.
    if args.what == What::Criterion {
        cargo.args(["bench", "--profile", "dev", "--workspace", "--bench", "kernels"]);
        cargo.args(["--bench", "steps", "--"]).args(&args.options);
        return succeeds(cargo);
    }
    cargo.args(["build", "--workspace", "--bin", "cai-bench"]);
    succeeds(cargo)?;
    let name = args.what.to_possible_value().context("a bench without a name")?;
    let folder = std::env::current_exe()?.with_file_name("cai-bench");
    let mut bench = Command::new(folder.with_extension(std::env::consts::EXE_EXTENSION));
    bench.arg(name.get_name()).args(&args.options);
    succeeds(bench)
}

fn succeeds(mut command: Command) -> Result<()> {
    match command.status().with_context(|| format!("cannot start {command:?}"))?.success() {
        true => Ok(()),
        false => bail!("the bench failed"),
    }
}
