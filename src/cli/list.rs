//! `xp list`: the runs, newest first.

use clap::Args;

use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::report::{json, list as report};
use crate::store::list::RunFilter;

/// List runs, newest first.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only runs of this experiment: the spec's `name`.
    #[arg(long)]
    experiment: Option<String>,
    /// Only the newest N.
    #[arg(long, short = 'n', value_name = "N")]
    limit: Option<u32>,
    /// Only runs with this tag.
    #[arg(long, value_name = "TAG")]
    tag: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn list(args: &ListArgs, context: &Context) -> Result<(), Failure> {
    let filter = RunFilter { experiment: args.experiment.clone(), tag: args.tag.clone(), limit: args.limit };
    if args.json {
        output::print_json(&json::list(&context.list_runs(&filter)?))
    } else {
        let runs = context.list_results(&filter, &report::METRICS)?;
        output::print(&report::list(&runs, output::width()))
    }
}
