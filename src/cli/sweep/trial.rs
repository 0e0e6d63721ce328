//! One trial of a sweep, in a process of its own.

use std::io::Read;
use std::sync::mpsc::sync_channel;
use std::thread;

use crate::cli::context::Context;
use crate::cli::evaluate::loaded_spec;
use crate::cli::failure::Failure;
use crate::cli::resume::go_on;
use crate::cli::run::{prepared, report};
use crate::cli::sweep::progress::point_of;
use crate::cli::sweep::{TrialArgs, find, section_of};
use crate::launch::going_on::Wanted;
use crate::launch::{self, Launch};
use crate::run::engine;
use crate::run::stop::StopFlag;
use crate::run::summary::RunSummary;
use crate::run::sweep::{TrialKey, TrialRecord};
use crate::spec::fingerprint;
use crate::store::StoreError;
use crate::store::connect::Store;
use crate::store::runs::Ending;
use crate::sweep::specs::Specs;
use crate::train::channel::Events;
use crate::train::plan::plan;
use crate::train::{Completion, identity};

pub(super) fn trial(args: &TrialArgs, context: &Context) -> Result<(), Failure> {
    let (store, sweep) = find(context, &args.sweep)?;
    let trials = context.wait(store.trials(&sweep.id))?;
    let wanted = TrialKey { sweep: sweep.id.clone(), point: args.point, split_seed: args.split_seed, seed: args.seed };
    let is_meant = |trial: &&TrialRecord| trial.key == wanted;
    let trial = trials.iter().find(is_meant).ok_or_else(|| StoreError::NoSuchSweep { query: args.sweep.clone() })?;
    let until_epoch = Some(trial.until_epoch);
    let device: Vec<String> = args.device.iter().map(|device| format!("device={device}")).collect();
    let (started, ending) = match &trial.run {
        Some(id) => {
            let run = context.wait(store.run_detail(id, &context.observer()))?;
            let wanted = Wanted { recorded: &run, epochs: None, restarts_schedule: false };
            go_on(context, &wanted, &loaded_spec(&run, &device)?, (None, true), |launch| {
                stop_with_driver(&launch.stop);
                Launch { until_epoch, measures_test: false, ..launch }
            })?
        }
        None => {
            let point = point_of(trial);
            let specs = Specs::of(&sweep, &section_of(&sweep)?);
            let loaded = specs.of_trial(&point, &trial.key, &device)?;
            let plan = plan(&loaded)?;
            let (launch, mut progress) = prepared(context, &loaded, &plan, None, true)?;
            stop_with_driver(&launch.stop);
            if sweep.is_needed_only && reused(context, &store, &launch, trial)? {
                return Ok(());
            }
            let (tags, trial) = (vec![sweep.name], Some(trial.key.clone()));
            // The test images are for the chosen point, when there is one.
            let launch = Launch { tags, trial, until_epoch, measures_test: false, ..launch };
            launch::run(&launch, &mut progress)?
        }
    };
    match ending {
        // At its rung, or asked to stop: both are no failure.
        Ending::Stopped => Ok(()),
        ending => report(true, context, &started, &ending),
    }
}

/// Raises the flag when standard input ends, as it does with the process that holds its other end.
fn stop_with_driver(stop: &StopFlag) {
    let stop = stop.clone();
    thread::spawn(move || {
        let mut rest = Vec::new();
        let _ = std::io::stdin().lock().read_to_end(&mut rest);
        stop.raise();
    });
}

/// Lets a finished run of the same fingerprint stand for the trial, if there is one whose numbers this engine gives too.
fn reused(context: &Context, store: &Store, launch: &Launch<'_>, trial: &TrialRecord) -> Result<bool, Failure> {
    // Nobody listens: what is to be said of the images is said when they are used.
    let (sender, _) = sync_channel(1);
    let events = Events::new(sender);
    let found = identity::inputs(launch.plan, &launch.device, launch.resources, &events, &launch.stop)?;
    let Completion::Done((data, weights_hash)) = found else { return Ok(false) };
    let print = fingerprint::of_inputs(&launch.plan.spec, &[], &data, &weights_hash, launch.device.class);
    let same = context.wait(store.finished_with_fingerprint(&print.run))?;
    let same = context.wait(store.run_summaries(&same, &context.observer()))?;
    let is_repeatable = |run: &&RunSummary| engine::has_same_numbers(run.engine.as_deref(), &run.params);
    let Some(run) = same.iter().find(is_repeatable) else { return Ok(false) };
    context.wait(store.reuse_run(&trial.key, &run.id))?;
    Ok(true)
}
