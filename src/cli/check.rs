//! `xp check`: reads a spec and says everything that is wrong with it.

use std::path::PathBuf;

use clap::Args;

use crate::cli::failure::Failure;
use crate::cli::output;
use crate::spec::{LoadedSpec, fingerprint};
use crate::train::plan::plan;

/// Check a spec without running it.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The spec file.
    spec: PathBuf,
    /// Replace a value: --set optimizer.adam.learning_rate=1e-4.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Print the complete spec, defaults filled in, as JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn check(args: &CheckArgs) -> Result<(), Failure> {
    let loaded = LoadedSpec::read(&args.spec, &args.sets)?;
    let plan = plan(&loaded)?;
    if args.json {
        output::print_json(&fingerprint::resolved(&plan.spec))
    } else {
        output::print(&format!("{} is valid\n", args.spec.display()))
    }
}
