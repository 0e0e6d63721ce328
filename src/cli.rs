//! The command line: the only layer that parses flags, prints and picks exit codes.

pub mod check;
pub mod failure;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Transfer learning on images from one YAML file.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Check(check::CheckArgs),
}

/// Runs the command line and returns its exit code: 0 done, 1 the work failed, 2 usage or an invalid spec.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Check(args) => check::check(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
