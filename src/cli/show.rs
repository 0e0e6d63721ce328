//! `xp show`: everything recorded about one run.

use clap::Args;

use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::report::{detail, freezing, json};

/// Show everything recorded about one run.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// An id, any unique beginning or end of one, a name or its beginning, or @1 for the newest run.
    run: String,
    /// Show every tensor's hash before and after training: the proof of what was frozen.
    #[arg(long)]
    freezing: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn show(args: &ShowArgs, context: &Context) -> Result<(), Failure> {
    let (store, id) = context.find_run(&args.run)?;
    let run = context.wait(store.run_detail(&id, &context.observer()))?;
    if args.freezing {
        let proof = context.wait(store.freezing(&id))?.ok_or_else(|| Failure::NotThere {
            what: format!("{} has no hashes of its tensors", run.summary.name),
            hint: "they are recorded once the network is built, since this version of xp".to_owned(),
        })?;
        return match args.json {
            true => output::print_json(&json::freezing(&run, &proof)),
            false => output::print(&freezing::text(&run.summary.name, &proof, output::width())),
        };
    }
    if args.json {
        output::print_json(&json::detail(&run))
    } else {
        output::print(&detail::text(&run, output::width()))
    }
}
