//! `xp show`: everything recorded about one run.

use clap::Args;

use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::report::{detail, json};

/// Show everything recorded about one run.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// An id, any unique beginning or end of one, a name or its beginning, or @1 for the newest run.
    run: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn show(args: &ShowArgs, context: &Context) -> Result<(), Failure> {
    let (store, id) = context.find_run(&args.run)?;
    let run = context.wait(store.run_detail(&id, &context.observer()))?;
    if args.json {
        output::print_json(&json::detail(&run))
    } else {
        output::print(&detail::text(&run, output::width()))
    }
}
