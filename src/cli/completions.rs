//! `xp completions`: scripts that teach a shell the command line.

use clap::Args;
use clap_complete::Shell;

use crate::cli::failure::Failure;
use crate::cli::output;

/// Print the completion script of a shell.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    shell: Shell,
}

pub(crate) fn completions(args: &CompletionsArgs, command: &mut clap::Command) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, command, "xp", &mut script);
    output::print(&String::from_utf8_lossy(&script))
}
