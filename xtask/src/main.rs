//! The command line of the project: `cargo xtask COMMAND`.

mod commands;
mod config;
mod forecast;
mod input;
mod memory;
mod models;
mod pipeline;
mod study;

use std::process::ExitCode;

use clap::Parser;
use commands::{Cli, Command};

fn main() -> ExitCode {
    cai_model::device::tune_allocator();
    let cli = Cli::parse();
    start_logging(&cli);
    cai_train::progress::set_quiet(cli.quiet);
    if let Err(error) = stop_cleanly() {
        tracing::warn!("Ctrl-C will end the process at once: {error}");
    }
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", commands::message(&error));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Pipeline(args) => commands::pipeline::run(args),
        Command::Pretrain(args) => commands::pretrain::run(args),
        Command::Classifier(args) => commands::classifier::run(args),
        Command::Sft(args) => commands::sft::run(args),
        Command::Critique(args) => commands::critique::run(args),
        Command::Feedback(args) => commands::feedback::run(args),
        Command::Dpo(args) => commands::dpo::run(args),
        Command::Evaluate(args) => commands::evaluate::run(args),
        Command::Redteam(args) => commands::redteam::run(args),
        Command::Tasks(args) => commands::tasks::run(args),
        Command::Judge(args) => commands::judge::run(args),
        Command::Generate(args) => commands::generate::run(args),
        Command::Score(args) => commands::score::run(args),
        Command::Serve(args) => commands::serve::run(args),
        Command::Merge(args) => commands::merge::run(args),
        Command::RandomModel(args) => commands::random_model::run(args),
        Command::Doctor(args) => commands::doctor::run(args),
        Command::Constitution(args) => commands::constitution::run(args),
        Command::Study(args) => commands::study::run(args),
        Command::Test(args) => commands::test::run(args),
        Command::Bench(args) => commands::bench::run(args),
    }
}

fn start_logging(cli: &Cli) {
    let default = match (cli.quiet, cli.verbose) {
        (true, _) => "error",
        (false, false) => "warn",
        (false, true) => "info",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}

/// The first Ctrl-C asks the work to stop at the next safe point, the second ends the process.
fn stop_cleanly() -> Result<(), ctrlc::Error> {
    ctrlc::set_handler(|| {
        if cai_train::interrupt::requested() {
            std::process::exit(130);
        }
        eprintln!("\nstopping at the next safe point; press Ctrl-C again to stop at once");
        cai_train::interrupt::request();
    })
}
