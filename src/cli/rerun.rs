//! `xp rerun`: a run done again from its record, and whether it comes out the same.

use clap::Args;
use serde_json::json;

use crate::cli::context::Context;
use crate::cli::evaluate::loaded_spec;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::run::{plain_name, prepared, report};
use crate::cli::sweep::chosen::measures_test;
use crate::launch::{self, Launch};
use crate::report::repeat as repeat_report;
use crate::run::detail::RunDetail;
use crate::run::id::RunId;
use crate::run::metric::{MetricKey, Resolution, Split};
use crate::run::repeat::{self, Pair};
use crate::store::connect::Store;
use crate::store::runs::Ending;
use crate::train::plan::plan;

/// Run a run again from its record: the same spec, images and weights, as a new run.
///
/// Images or weights that have changed since are refused.
#[derive(Debug, Args)]
pub(crate) struct RerunArgs {
    /// A run, as `xp show` takes it.
    run: String,
    /// Hold every recorded point and the trained tensors against what comes out; name the first step that differs.
    #[arg(long)]
    verify: bool,
    /// The new run's name; by default one is made up.
    #[arg(long, value_parser = plain_name)]
    name: Option<String>,
    /// Threads that read and decode images; by default one a core. They do not change the result.
    #[arg(long, env = "XP_LOADER_THREADS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    loader_threads: Option<u16>,
    /// Print the new run as JSON when it has ended and, with --verify, what differs; no lines.
    #[arg(long)]
    json: bool,
}

/// Facts of the environment that may change a result to the bit.
const SURROUNDINGS: [&str; 6] = ["xp", "engine", "burn", "arch", "vectors", "device.name"];

pub(crate) fn rerun(args: &RerunArgs, context: &Context) -> Result<(), Failure> {
    let (store, id) = context.find_run(&args.run)?;
    let run = context.wait(store.run_detail(&id, &context.observer()))?;
    let name = &run.summary.name;
    if args.verify && run.trained.is_none() {
        return Err(Failure::Usage {
            what: format!("the run {name} has not finished: there is nothing to hold a new one against"),
            hint: format!("`xp resume {name}` goes on with it"),
        });
    }
    let loaded = loaded_spec(&run, &[])?;
    let plan = plan(&loaded)?;
    let (launch, mut progress) = prepared(context, &loaded, &plan, args.loader_threads, args.json)?;
    let launch = Launch { measures_test: measures_test(context, &store, &run.summary)?, ..launch };
    let launch = Launch { spec_yaml: &run.spec_yaml, name: args.name.clone(), rerun_of: Some(&run), ..launch };
    let (started, ending) = launch::run(&launch, &mut progress)?;
    if !args.verify || ending != Ending::Finished {
        return report(args.json, context, &started, &ending);
    }
    if !args.json {
        report(false, context, &started, &ending)?;
    }
    let again = context.wait(store.run_detail(&started.id, &context.observer()))?;
    verify(args, context, &store, [&run, &again])
}

fn verify(args: &RerunArgs, context: &Context, store: &Store, runs: [&RunDetail; 2]) -> Result<(), Failure> {
    let [run, again] = runs;
    let ids = [&run.summary.id, &again.summary.id];
    let pairs = pairs(context, store, ids, run)?;
    let difference = repeat::first_difference(&pairs);
    let hash = |run: &RunDetail| run.trained.as_ref().map(|trained| trained.trained_hash.clone());
    let same_tensors = hash(run) == hash(again);
    let fact = |run: &RunDetail, name: &str| run.environment.get(name).cloned();
    let surroundings: Vec<(String, [Option<String>; 2])> = SURROUNDINGS
        .into_iter()
        .map(|name| (name.to_owned(), [fact(run, name), fact(again, name)]))
        .filter(|(_, [then, now])| then != now)
        .collect();
    if args.json {
        output::print_json(&json!({
            "schema": 1,
            "recorded": run.summary.id.as_str(),
            "repeated": again.summary.id.as_str(),
            "points_compared": repeat::n_compared(&pairs),
            "same_tensors": same_tensors,
            "first_difference": difference.map(|difference| json!({
                "metric": difference.key.to_string(),
                "epoch": difference.epoch,
                "step": difference.step,
                "recorded": difference.recorded,
                "repeated": difference.repeated,
            })),
            "surroundings": surroundings.iter().map(|(name, [then, now])| (name.clone(), json!([then, now])))
                .collect::<serde_json::Map<_, _>>(),
        }))?;
    } else {
        let n_compared = repeat::n_compared(&pairs);
        let text = repeat_report::text(&run.summary.name, n_compared, difference.as_ref(), same_tensors, &surroundings);
        output::print(&text)?;
    }
    if difference.is_none() && same_tensors {
        return Ok(());
    }
    Err(Failure::NotRepeated { recorded: run.summary.name.clone(), repeated: again.summary.name.clone() })
}

/// All series of a run but those of the machine, with the new run's beside them.
fn pairs(context: &Context, store: &Store, ids: [&RunId; 2], run: &RunDetail) -> Result<Vec<Pair>, Failure> {
    let keys = run.summary.metrics.keys().filter_map(|name| MetricKey::parse(name));
    let mut pairs = Vec::new();
    for key in keys {
        for resolution in [Resolution::Step, Resolution::Epoch] {
            let [recorded, repeated] = ids.map(|id| context.wait(store.points(id, key, resolution)));
            let mut pair = Pair { key, recorded: recorded?, repeated: repeated? };
            if key.split == Split::Test {
                // A run that was extended was tested at the end of each stretch.
                let n_earlier = pair.recorded.len().saturating_sub(1);
                pair.recorded.drain(..n_earlier);
            }
            pairs.push(pair);
        }
    }
    Ok(pairs)
}
