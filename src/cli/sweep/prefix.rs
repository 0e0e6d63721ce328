//! What the frozen layers give for all trials of a sweep, computed before the first one starts.

use std::sync::mpsc::sync_channel;
use std::thread;

use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::progress::{Lines, Progress};
use crate::cli::sweep::tried::MAX_CHECKED;
use crate::launch::Watcher;
use crate::run::stop::StopFlag;
use crate::run::sweep::TrialKey;
use crate::settings::Resources;
use crate::spec::schema::weights::Weights;
use crate::store::connect::Store;
use crate::sweep::driver::{Driver, standing_of};
use crate::sweep::specs::Specs;
use crate::sweep::standing::{State, Trial};
use crate::train::channel::Events;
use crate::train::device::TrainDevice;
use crate::train::plan::{Plan, plan};
use crate::train::shared_prefix::Filling;

/// Fills the cache for the points that are known before anything comes out, where at least two trials are left.
///
/// What goes wrong is said and left to the trials, which meet it too.
pub(super) fn fill(context: &Context, driver: &Driver<'_>, specs: &Specs, device: &TrainDevice) -> Result<(), Failure> {
    let plans = plans(context, driver, specs)?;
    if plans.len() < 2 {
        return Ok(());
    }
    let stop: &StopFlag = &driver.stop;
    let mut progress = Progress::new(Lines::Hidden, String::new(), String::new(), 0);
    let filled = thread::scope(|scope| {
        let (sender, events) = sync_channel(64);
        let (plans, cache_dir) = (&plans, context.home.feature_cache_dir());
        let filling = scope.spawn(move || {
            let (events, resources) = (Events::new(sender), Resources::new(None));
            Filling { device, resources, cache_dir: &cache_dir, events: &events, stop }.fill(plans)
        });
        for event in events {
            progress.event(&event);
        }
        progress.ended();
        filling.join()
    });
    match filled {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => output::say(&format!("warning: the frozen layers are left to the trials: cannot {error}\n")),
        Err(_) => output::say("warning: the frozen layers are left to the trials: computing them for all failed\n"),
    }
    Ok(())
}

/// The plans of the trials that are left.
fn plans(context: &Context, driver: &Driver<'_>, specs: &Specs) -> Result<Vec<Plan>, Failure> {
    let Driver { sweep, section, .. } = driver;
    let store = context.wait(Store::open(&context.home.database()))?;
    let trials = context.wait(standing_of(&context.home, &store, sweep, section))?;
    context.wait(store.close());
    let is_done = |values: &serde_json::Map<String, serde_json::Value>, key: &TrialKey| {
        let draws = (key.split_seed, key.seed);
        let is_its = |trial: &&Trial| (trial.record.key.split_seed, trial.record.key.seed) == draws;
        let trial = trials.iter().filter(is_its).find(|trial| trial.record.values == *values);
        trial.is_some_and(|trial| matches!(trial.state, State::Finished | State::Failed(_)))
    };
    let mut plans = Vec::new();
    for point in driver.space.planned(section, driver.labels).into_iter().take(MAX_CHECKED) {
        let values = point.values.clone().into_iter().collect();
        for key in driver.keys_of(0).iter().filter(|key| !is_done(&values, key)) {
            plans.push(plan(&specs.of_trial(&point, key, &[])?)?);
            // Other seeds and splits have the same images and frozen layers, unless those are drawn from the seed.
            if plans.last().is_some_and(|plan| plan.spec.model.weights != Weights::Random) && plans.len() > 1 {
                break;
            }
        }
    }
    Ok(plans)
}
