//! `xp sweep`: many runs of one spec, started, gone on with and shown.

mod begin;
pub(crate) mod chosen;
mod prefix;
mod progress;
mod replicates;
mod show;
mod trial;
pub(crate) mod tried;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::run::{plain_name, stop_on_signals};
use crate::cli::sweep::progress::Lines;
use crate::run::sweep::SweepRecord;
use crate::spec::schema::Spec;
use crate::spec::schema::sweep::Sweep;
use crate::store::StoreError;
use crate::store::connect::Store;
use crate::sweep::driver::{Driver, SweepError};
use crate::sweep::labels::Labels;
use crate::sweep::search::Space;
use crate::sweep::specs::Specs;
use crate::train::device;

/// Run a spec many times with some of its keys changed, and rank what comes out.
///
/// The spec's `sweep:` section says which keys and values. Trials are runs of their own, tagged with the sweep's name; they
/// go on where they were when the sweep is killed and gone on with by `xp sweep resume`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct SweepArgs {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    begin: BeginArgs,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Go on with a sweep that was stopped or killed; what is finished is not done again.
    Resume(ResumeArgs),
    /// Show how far a sweep is, and its points ranked.
    Show(ShowArgs),
    /// List the sweeps, the newest first.
    List {
        /// Print them as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Run one trial; the driver does this.
    #[command(hide = true)]
    Trial(TrialArgs),
}

#[derive(Debug, Args)]
struct BeginArgs {
    /// The spec file.
    #[arg(required = true)]
    spec: Option<PathBuf>,
    /// Replace a value in every trial: --set epochs=3. May be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// The sweep's name, which tags its runs; the spec's name when left out.
    #[arg(long, value_parser = plain_name)]
    name: Option<String>,
    /// Do not run a trial where a finished run has the same spec, images and weights: that run stands for it.
    #[arg(long)]
    needed: bool,
    /// Print what would be tried and what it costs, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// Read what to try from a sweep file of Weights & Biases instead of the spec's `sweep:` section.
    #[arg(long, value_name = "FILE")]
    wandb: Option<PathBuf>,
    /// The key that a parameter or metric of that file means: --map lr=optimizer.sgd.learning_rate. May be repeated.
    #[arg(long = "map", value_name = "NAME=KEY", requires = "wandb")]
    maps: Vec<String>,
    #[command(flatten)]
    how: HowArgs,
}

/// How trials are carried out; none of it changes a result on the CPU.
#[derive(Debug, Args)]
struct HowArgs {
    /// Trials at once; by default one a core on the CPU, one a device else. The cores are divided among them.
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    jobs: Option<u16>,
    /// Where trials run, in turn: --devices cuda:0,cuda:1; as the spec says when left out.
    #[arg(long, value_name = "DEVICE,…", value_delimiter = ',')]
    devices: Vec<crate::spec::short_forms::DeviceChoice>,
    /// Print the sweep as JSON when it has ended, as `xp sweep show --json` does, and no lines.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct ResumeArgs {
    /// A sweep: its name, a part of its id, or @1 for the newest.
    sweep: String,
    /// Try failed trials again.
    #[arg(long)]
    retry_failed: bool,
    #[command(flatten)]
    how: HowArgs,
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// A sweep: its name, a part of its id, or @1 for the newest.
    #[arg(default_value = "@1")]
    sweep: String,
    /// Show it anew every second until nothing runs any more.
    #[arg(long, conflicts_with = "json")]
    follow: bool,
    /// Print it as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct TrialArgs {
    sweep: String,
    point: u32,
    seed: u64,
    #[arg(long)]
    split_seed: Option<u64>,
    #[arg(long)]
    device: Option<crate::spec::short_forms::DeviceChoice>,
}

pub(crate) fn sweep(args: &SweepArgs, context: &Context) -> Result<(), Failure> {
    match &args.action {
        None => begin::begin(&args.begin, context),
        Some(Action::Resume(args)) => resume(args, context),
        Some(Action::Show(args)) => show::show(args, context),
        Some(Action::List { json }) => list(*json, context),
        Some(Action::Trial(args)) => trial::trial(args, context),
    }
}

fn resume(args: &ResumeArgs, context: &Context) -> Result<(), Failure> {
    let (store, sweep) = find(context, &args.sweep)?;
    context.wait(store.close());
    carry_out(context, &sweep, &args.how, args.retry_failed)
}

/// Runs what is left of a sweep and says what came out.
fn carry_out(context: &Context, sweep: &SweepRecord, how: &HowArgs, retry_failed: bool) -> Result<(), Failure> {
    let section = section_of(sweep)?;
    let specs = Specs::of(sweep, &section);
    let loaded = specs.base()?;
    let space = Space::new(&section).map_err(|problems| tried::refusal(&loaded, None, problems))?;
    let labels = Labels::of(specs.clone());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let first = how.devices.first().copied().unwrap_or(loaded.spec.device);
    let device = device::of_spec(&Spec { device: first, ..loaded.spec.clone() })?;
    let is_on_cpu = how.devices.is_empty() && device.class == device::CPU;
    let n_default = if is_on_cpu { cores } else { how.devices.len().max(1) };
    let jobs = how.jobs.map_or(n_default, usize::from);
    let stop = stop_on_signals()?;
    let driver = Driver {
        home: &context.home,
        sweep,
        section: &section,
        space: &space,
        labels: &labels,
        spec_seed: loaded.spec.seed,
        epochs: specs.epochs(&loaded, &space)?[1],
        jobs,
        threads: (cores / jobs).max(1),
        devices: how.devices.iter().map(ToString::to_string).collect(),
        executable: std::env::current_exe()
            .map_err(|source| Failure::Io { what: "find this program".into(), source })?,
        retry_failed,
        stop: stop.clone(),
    };
    prefix::fill(context, &driver, &specs, &device)?;
    driver.drive(&mut Lines::new(how.json, sweep, &section))?;
    if !stop.is_raised() {
        chosen::test(context, sweep, &stop, how.json)?;
    }
    let shown = show::shown(context, sweep)?;
    if how.json {
        output::print_json(&shown.json())?;
    } else {
        output::print(&shown.text(output::width()))?;
    }
    match shown.n_failed() {
        _ if stop.is_raised() => Err(Failure::SweepStopped { name: sweep.name.clone() }),
        0 if shown.is_complete() => Ok(()),
        // Their processes ended again and again before their runs did.
        0 => Err(Failure::Trials { name: sweep.name.clone(), n_failed: shown.n_left() }),
        n_failed => Err(Failure::Trials { name: sweep.name.clone(), n_failed }),
    }
}

fn section_of(sweep: &SweepRecord) -> Result<Sweep, Failure> {
    serde_json::from_value(sweep.section.clone()).map_err(|error| {
        let what = format!("the sweep {}", sweep.name);
        StoreError::Corrupt { what, reason: error.to_string() }.into()
    })
}

fn find(context: &Context, query: &str) -> Result<(Store, SweepRecord), Failure> {
    let not_found = || StoreError::NoSuchSweep { query: query.to_owned() };
    let store = context.existing_store()?.ok_or_else(not_found)?;
    let sweep = context.wait(store.find_sweep(query))?;
    Ok((store, sweep))
}

fn list(json: bool, context: &Context) -> Result<(), Failure> {
    let Some(store) = context.existing_store()? else {
        return if json {
            output::print_json(&json!({ "schema": 1, "sweeps": [] }))
        } else {
            output::print("no sweeps\n")
        };
    };
    let sweeps = context.wait(store.sweeps())?;
    if json {
        let shown: Vec<_> =
            sweeps.iter().map(|sweep| Ok(show::shown(context, sweep)?.json())).collect::<Result<_, Failure>>()?;
        return output::print_json(&json!({ "schema": 1, "sweeps": shown }));
    }
    let lines: Vec<String> =
        sweeps.iter().map(|sweep| show::far(context, &store, sweep)).collect::<Result<_, Failure>>()?;
    output::print(&if lines.is_empty() { "no sweeps\n".to_owned() } else { lines.join("\n") + "\n" })
}

impl From<SweepError> for Failure {
    fn from(error: SweepError) -> Self {
        match error {
            SweepError::Store(error) => Self::Store(error),
            SweepError::Start(source) => Self::Io { what: "run a trial".into(), source },
            SweepError::Io { path, source } => Self::Io { what: format!("write {}", path.display()), source },
        }
    }
}
