//! `xp compare`: what differs between runs, and what came of it.

use clap::Args;

use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::report::compare::{Comparison, ShownParams};
use crate::run::id::RunId;
use crate::store::list::RunFilter;

/// Compare runs: the parameters that differ, the best and last metrics, the time.
#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// Runs, as `xp show` takes them; without any, all of them.
    runs: Vec<String>,
    /// All runs of this experiment: the spec's `name`.
    #[arg(long, conflicts_with = "runs")]
    experiment: Option<String>,
    /// Show the parameters that are the same, too.
    #[arg(long)]
    all_params: bool,
    /// Only runs with this tag.
    #[arg(long, value_name = "TAG", conflicts_with = "runs")]
    tag: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn compare(args: &CompareArgs, context: &Context) -> Result<(), Failure> {
    let runs = if args.runs.is_empty() {
        context.list_runs(&RunFilter { experiment: args.experiment.clone(), tag: args.tag.clone(), limit: None })?
    } else {
        let mut ids: Vec<RunId> = Vec::new();
        let (store, first) = context.find_run(&args.runs[0])?;
        ids.push(first);
        for query in &args.runs[1..] {
            let id = context.wait(store.find_run(query))?;
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        context.wait(store.run_summaries(&ids, &context.observer()))?
    };
    let shown = if args.all_params { ShownParams::All } else { ShownParams::Differing };
    let comparison = Comparison::new(&runs, shown);
    if args.json { output::print_json(&comparison.json()) } else { output::print(&comparison.text(output::width())) }
}
