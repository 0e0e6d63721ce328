//! `xp resume`: goes on with a run that was stopped, failed or killed.

use clap::Args;

use crate::cli::context::Context;
use crate::cli::evaluate::loaded_spec;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::run::{prepared, report};
use crate::cli::sweep::chosen::measures_test;
use crate::launch::going_on::{Refusal, Wanted, refusal};
use crate::launch::{self, Launch, LaunchError, Started};
use crate::models::runner::vector_unit;
use crate::run::detail::RunDetail;
use crate::spec::LoadedSpec;
use crate::spec::short_forms::DeviceChoice;
use crate::store::runs::Ending;
use crate::train::plan::plan;

/// Go on with a run from its last finished epoch.
///
/// On the CPU it ends with the same bytes as a run that was never interrupted.
#[derive(Debug, Args)]
pub(crate) struct ResumeArgs {
    /// A run, as `xp show` takes it.
    run: String,
    /// Train up to this epoch instead of the spec's; extends a run that has finished.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    epochs: Option<u32>,
    /// Start the schedule over with the first of the epochs that are trained now, warm-up included, instead of going on
    /// with its curve.
    #[arg(long, requires = "epochs")]
    restart_schedule: bool,
    /// Where to train: auto, cpu, cuda or cuda:N; by default as the run did.
    #[arg(long)]
    device: Option<DeviceChoice>,
    /// Threads that read and decode images; by default one a core. They do not change the result.
    #[arg(long, env = "XP_LOADER_THREADS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    loader_threads: Option<u16>,
    /// Print the run as JSON when it has ended, as `xp show --json` does, and no lines.
    #[arg(long)]
    json: bool,
}

pub(crate) fn resume(args: &ResumeArgs, context: &Context) -> Result<(), Failure> {
    let (store, id) = context.find_run(&args.run)?;
    let run = context.wait(store.run_detail(&id, &context.observer()))?;
    // `--restart-schedule` comes with `--epochs`.
    if args.epochs.is_some() && context.wait(store.is_trial(&id))? {
        output::say(
            "warning: the run is a trial of a sweep; extended it is none of its points any more, and not ranked\n",
        );
    }
    let measures_test = measures_test(context, &store, &run.summary)?;
    context.wait(store.close());
    let mut sets: Vec<String> = args.device.iter().map(|device| format!("device={device}")).collect();
    sets.extend(args.epochs.map(|epochs| format!("epochs={epochs}")));
    let loaded = loaded_spec(&run, &sets)?;
    let wanted = Wanted { recorded: &run, epochs: args.epochs, restarts_schedule: args.restart_schedule };
    // What is known already need not wait for the images; it is looked at again under the run's lock.
    refusal(&run, &loaded.spec, &wanted).map_err(|refusal| refused(&refusal))?;
    let (started, ending) = go_on(context, &wanted, &loaded, (args.loader_threads, args.json), |launch| Launch {
        measures_test,
        ..launch
    })?;
    report(args.json, context, &started, &ending)
}

/// Goes on with a run; `adapted` may change how.
pub(crate) fn go_on(
    context: &Context,
    wanted: &Wanted<'_>,
    loaded: &LoadedSpec,
    (loader_threads, json): (Option<u16>, bool),
    adapted: impl for<'a> FnOnce(Launch<'a>) -> Launch<'a>,
) -> Result<(Started, Ending), Failure> {
    let plan = plan(loaded)?;
    let (launch, mut progress) = prepared(context, loaded, &plan, loader_threads, json)?;
    let run = wanted.recorded;
    let warnings = launch.warnings.iter().cloned().chain(other_vectors(run)).collect();
    let launch = adapted(Launch { spec_yaml: &run.spec_yaml, warnings, ..launch });
    launch::resume(&launch, wanted, &mut progress).map_err(|error| match error {
        LaunchError::CannotGoOn(refusal) => refused(&refusal),
        error => error.into(),
    })
}

/// Bytes may come out otherwise on another vector unit; how many threads there are does not matter to them.
fn other_vectors(run: &RunDetail) -> Option<String> {
    let (then, now) = (run.environment.get("vectors")?, vector_unit());
    (then != now).then(|| {
        format!("the run began on a machine with {then}, and this one has {now}: its last bits may differ from now on")
    })
}

/// Why a run does not go on, and what to do about it.
fn refused(refusal: &Refusal) -> Failure {
    let hint = match refusal {
        Refusal::Running { .. } => "wait for it, or stop it with Ctrl-C".to_owned(),
        Refusal::Finished { done, .. } => format!("`--epochs {}` adds one", done + 1),
        Refusal::TooFew { .. } => "epochs cannot be taken back; start a new run".to_owned(),
        Refusal::Changed { name } => format!("`xp show {name}` says how far it is"),
        Refusal::NoRestart { .. } => "leave `--restart-schedule` out".to_owned(),
    };
    Failure::Usage { what: refusal.to_string(), hint }
}
