//! `xp resume`: goes on with a run that was stopped, failed or killed.

use clap::Args;

use crate::cli::context::Context;
use crate::cli::evaluate::loaded_spec;
use crate::cli::failure::Failure;
use crate::cli::run::{prepared, report};
use crate::cli::sweep::chosen::is_tested;
use crate::launch::{self, Launch, Started};
use crate::models::runner::vector_unit;
use crate::run::detail::RunDetail;
use crate::run::summary::{ShownState, State};
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
    // A trial that was not chosen does not look at the test images, whoever goes on with it.
    let measures_test = is_tested(run.summary.metrics.keys()) || !context.wait(store.is_trial(&id))?;
    context.wait(store.close());
    let mut sets: Vec<String> = args.device.iter().map(|device| format!("device={device}")).collect();
    sets.extend(args.epochs.map(|epochs| format!("epochs={epochs}")));
    let loaded = loaded_spec(&run, &sets)?;
    refuse(&run, loaded.spec.epochs, args.epochs)?;
    let (started, ending) =
        go_on(context, &run, &loaded, (args.loader_threads, args.json), |launch| Launch { measures_test, ..launch })?;
    report(args.json, context, &started, &ending)
}

/// Goes on with a run; `adapted` may change how.
pub(crate) fn go_on(
    context: &Context,
    run: &RunDetail,
    loaded: &LoadedSpec,
    (loader_threads, json): (Option<u16>, bool),
    adapted: impl for<'a> FnOnce(Launch<'a>) -> Launch<'a>,
) -> Result<(Started, Ending), Failure> {
    let plan = plan(loaded)?;
    let (launch, mut progress) = prepared(context, loaded, &plan, loader_threads, json)?;
    let warnings = launch.warnings.iter().cloned().chain(other_vectors(run)).collect();
    let launch = adapted(Launch { spec_yaml: &run.spec_yaml, warnings, ..launch });
    Ok(launch::resume(&launch, &run.summary.id, &mut progress)?)
}

/// Bytes may come out otherwise on another vector unit; how many threads there are does not matter to them.
fn other_vectors(run: &RunDetail) -> Option<String> {
    let (then, now) = (run.environment.get("vectors")?, vector_unit());
    (then != now).then(|| {
        format!("the run began on a machine with {then}, and this one has {now}: its last bits may differ from now on")
    })
}

/// What keeps a run from going on.
fn refuse(run: &RunDetail, epochs: u32, asked: Option<u32>) -> Result<(), Failure> {
    let name = &run.summary.name;
    let done = run.checkpoints.last().map_or(0, |checkpoint| checkpoint.saved.epoch);
    let refusal = match run.summary.state {
        ShownState::Recorded(State::Running | State::Queued) => {
            Some((format!("the run {name} is still running"), "wait for it, or stop it with Ctrl-C".to_owned()))
        }
        ShownState::Recorded(State::Finished) if asked.is_none() || epochs <= done => Some((
            format!("the run {name} has finished its {done} epochs"),
            format!("`--epochs {}` adds one", done + 1),
        )),
        _ if epochs < done => Some((
            format!("the run {name} has {done} epochs already, {} were asked for", asked.unwrap_or(epochs)),
            "epochs cannot be taken back; start a new run".to_owned(),
        )),
        _ => None,
    };
    refusal.map_or(Ok(()), |(what, hint)| Err(Failure::Usage { what, hint }))
}
