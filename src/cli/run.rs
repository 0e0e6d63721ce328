//! `xp run`: trains what a spec says and records it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Args;

use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::progress::{Lines, Progress};
use crate::cli::sweep::chosen::is_tested;
use crate::launch::{self, Launch, Started};
use crate::report::json;
use crate::report::number::metric_text;
use crate::run::metric::{Measure, MetricKey, Split};
use crate::run::stop::StopFlag;
use crate::run::summary::RunSummary;
use crate::settings::Resources;
use crate::spec::LoadedSpec;
use crate::spec::schema::{PLAIN_NAME, is_plain_name};
use crate::spec::short_forms::DeviceChoice;
use crate::store::runs::Ending;
use crate::train::device;
use crate::train::plan::{Plan, plan};

/// Train what a spec says and record it.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The spec file.
    spec: PathBuf,
    /// Replace a value: --set optimizer.adam.learning_rate=1e-4. May be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Where to train: auto, cpu, cuda or cuda:N; short for --set device=…
    #[arg(long)]
    device: Option<DeviceChoice>,
    /// The run's name; by default one is made up.
    #[arg(long, value_parser = plain_name)]
    name: Option<String>,
    /// A tag, for `xp list --tag` and `xp compare --tag`. May be repeated.
    #[arg(long = "tag", value_name = "TAG", value_parser = plain_name)]
    tags: Vec<String>,
    /// Threads that read and decode images; by default one a core. They do not change the result.
    #[arg(long, env = "XP_LOADER_THREADS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    loader_threads: Option<u16>,
    /// Print the run as JSON when it has ended, as `xp show --json` does, and no lines.
    #[arg(long)]
    json: bool,
}

/// Longest name of a run or a tag, characters: lists must stay readable.
const MAX_NAME_LEN: usize = 120;

pub(crate) fn plain_name(text: &str) -> Result<String, String> {
    match text {
        text if text.len() > MAX_NAME_LEN => Err(format!("longer than {MAX_NAME_LEN} characters")),
        text if !is_plain_name(text) => Err(format!("a name {PLAIN_NAME}")),
        text => Ok(text.to_owned()),
    }
}

pub(crate) fn run(args: &RunArgs, context: &Context) -> Result<(), Failure> {
    let mut sets = args.sets.clone();
    sets.extend(args.device.as_ref().map(|device| format!("device={device}")));
    let loaded = LoadedSpec::read(&args.spec, &sets)?;
    let plan = plan(&loaded)?;
    let (launch, mut progress) = prepared(context, &loaded, &plan, args.loader_threads, args.json)?;
    let launch = Launch { name: args.name.clone(), tags: args.tags.clone(), ..launch };
    let (started, ending) = launch::run(&launch, &mut progress)?;
    report(args.json, context, &started, &ending)
}

/// A launch of a plan as its spec says, with a name that is made up, and what prints its progress.
pub(crate) fn prepared<'a>(
    context: &'a Context,
    loaded: &'a LoadedSpec,
    plan: &'a Plan,
    loader_threads: Option<u16>,
    json: bool,
) -> Result<(Launch<'a>, Progress), Failure> {
    let device = device::of_spec(&loaded.spec)?;
    let lines = if json { Lines::Hidden } else { Lines::Printed };
    let backbone = plan.network.layout.name.to_owned();
    let mut progress = Progress::new(lines, device.description.clone(), backbone, plan.spec.epochs);
    progress.notes.clone_from(&plan.notes);
    let launch = Launch {
        home: &context.home,
        plan,
        spec_path: &loaded.path,
        spec_yaml: &loaded.text,
        device,
        resources: Resources::new(loader_threads.map(usize::from)),
        name: None,
        tags: Vec::new(),
        warnings: context.warnings().into_iter().chain(plan.warnings.iter().cloned()).collect(),
        stop: stop_on_signals()?,
        rerun_of: None,
        trial: None,
        until_epoch: None,
        measures_test: true,
    };
    Ok((launch, progress))
}

/// Ctrl-C, a polite kill, and a terminal that was closed.
#[cfg(unix)]
const SIGNALS: [i32; 3] = [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP];
#[cfg(not(unix))]
const SIGNALS: [i32; 2] = [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM];

/// The first signal asks the run to stop after its step; the second ends the process at once.
pub(crate) fn stop_on_signals() -> Result<StopFlag, Failure> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in SIGNALS {
        let registered = signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&flag))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&flag)));
        registered.map_err(|source| Failure::Io { what: "listen for Ctrl-C".into(), source })?;
    }
    Ok(StopFlag::from_shared(flag))
}

/// The first signal ends the process at once, where everything that is on disk may stay as it is.
pub(crate) fn end_on_signals() -> Result<(), Failure> {
    let is_asked = Arc::new(AtomicBool::new(true));
    for signal in SIGNALS {
        let registered = signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&is_asked));
        registered.map_err(|source| Failure::Io { what: "listen for Ctrl-C".into(), source })?;
    }
    Ok(())
}

/// Says how a run ended; its failure is this command's.
pub(crate) fn report(json_only: bool, context: &Context, started: &Started, ending: &Ending) -> Result<(), Failure> {
    let (store, id) = context.find_run(started.id.as_str())?;
    let run = context.wait(store.run_detail(&id, &context.observer()))?;
    if json_only {
        output::print_json(&json::detail(&run))?;
    }
    let (summary, n_looks) = (run.summary, run.n_test_looks);
    match ending {
        Ending::Finished if json_only => Ok(()),
        Ending::Finished => output::print(&last_lines(&summary, n_looks, started)),
        Ending::Stopped => Err(Failure::Interrupted { name: started.name.clone() }),
        Ending::Failed(error) => Err(Failure::Run { name: started.name.clone(), error: error.clone() }),
    }
}

fn last_lines(summary: &RunSummary, n_looks: usize, started: &Started) -> String {
    let seconds = summary.duration_ms() as f64 / 1000.0;
    let best = |measure| {
        let key = MetricKey::new(Split::Valid, measure).to_string();
        let series = summary.metrics.get(&key)?;
        Some(format!("best {key} {} in epoch {}", metric_text(&key, series.best), series.best_epoch?))
    };
    let bests: Vec<String> = [Measure::Loss, Measure::Accuracy].into_iter().filter_map(best).collect();
    let curves = output::from_here(&started.run_dir.join("curves.png"));
    // What was looked at often is no test any more.
    let is_later = n_looks > 1 && is_tested(summary.metrics.keys());
    let look = if is_later { format!("look {n_looks} at these test images\n") } else { String::new() };
    format!("finished in {seconds:.1} s\n{}\n{look}{}\n", bests.join(", "), curves.display())
}
