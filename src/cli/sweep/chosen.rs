//! The point that a sweep chose: its test, when the sweep is complete, and the run that its name stands for.

use crate::cli::context::Context;
use crate::cli::evaluate::measure_test;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::sweep::progress::trial_text;
use crate::cli::sweep::replicates::Records;
use crate::cli::sweep::show;
use crate::report::number::metric_text;
use crate::run::id::RunId;
use crate::run::look::LookedBy;
use crate::run::metric::{MetricKey, Point, Split};
use crate::run::stop::StopFlag;
use crate::run::summary::RunSummary;
use crate::run::sweep::SweepRecord;
use crate::store::StoreError;
use crate::store::connect::Store;
use crate::store::lock::RunLock;
use crate::sweep::standing::Trial;

/// Measures the runs of the chosen point on their test images, each once; no other point's runs look at them.
pub(super) fn test(context: &Context, sweep: &SweepRecord, stop: &StopFlag, hidden: bool) -> Result<(), Failure> {
    let shown = show::shown_by(context, sweep, Records::Left)?;
    let Some(trials) = shown.chosen() else { return Ok(()) };
    let store = context.wait(Store::open(&context.home.database()))?;
    for trial in trials {
        let Some(id) = &trial.record.run else { continue };
        // Whoever has the run tests it, or goes on with it.
        let _lock = match RunLock::take(&context.home.run_dir(id)) {
            Err(StoreError::LockHeld { .. }) => continue,
            lock => lock?,
        };
        let run = context.wait(store.run_detail(id, &context.observer()))?;
        if stop.is_raised() || is_tested(run.summary.metrics.keys()) {
            continue;
        }
        let Some(points) = measure_test(context, &run, stop)? else { continue };
        let by = LookedBy::Sweep { sweep: sweep.id.clone(), point: trial.record.key.point };
        context.wait(store.add_test_points(id, &points, &by))?;
        if !hidden {
            let text = |(key, point): &(MetricKey, Point)| {
                let name = key.to_string();
                format!("{name} {}", metric_text(&name, Some(point.value)))
            };
            let measured = points.iter().map(text).collect::<Vec<_>>().join(", ");
            output::print(&format!("{}, chosen: {measured}\n", run.summary.name))?;
        }
    }
    context.wait(store.close());
    Ok(())
}

/// Whether a run was measured on its test images.
pub(crate) fn is_tested<'a>(metrics: impl IntoIterator<Item = &'a String>) -> bool {
    metrics.into_iter().filter_map(|name| MetricKey::parse(name)).any(|key| key.split == Split::Test)
}

/// Whether a run is measured on its test images when it is trained on or again: not one of a sweep's trials that was not
/// chosen, whoever does so.
pub(crate) fn measures_test(context: &Context, store: &Store, run: &RunSummary) -> Result<bool, Failure> {
    Ok(is_tested(run.metrics.keys()) || !context.wait(store.is_trial(&run.id))?)
}

/// The run that a sweep's name stands for: of the chosen point the one with the best value of the sweep's metric.
pub(crate) fn run(context: &Context, sweep: &SweepRecord) -> Result<RunId, Failure> {
    let shown = show::shown_by(context, sweep, Records::Left)?;
    let direction = shown.metric().direction();
    let mut best: Option<(f64, &Trial)> = None;
    for trial in shown.chosen().unwrap_or_default() {
        if let Some(value) =
            trial.kept(direction).filter(|value| direction.improves(*value, best.map(|(best, _)| best)))
        {
            best = Some((value, trial));
        }
    }
    match best.and_then(|(_, trial)| Some((trial, trial.record.run.clone()?))) {
        Some((trial, run)) => {
            let n = shown.chosen().map_or(0, <[Trial]>::len);
            let of = if n > 1 { format!(", the best of its {n} runs") } else { String::new() };
            let label = trial_text(&trial.record);
            output::say(&format!(
                "note: of the sweep {}, the chosen point's run {} ({label}){of}\n",
                sweep.name,
                run.short()
            ));
            Ok(run)
        }
        None => Err(Failure::NotThere {
            what: format!("the sweep {} has chosen no point yet: trials are left, or none is complete", sweep.name),
            hint: format!("`xp sweep show {}` says how far it is, `xp sweep resume {0}` goes on", sweep.name),
        }),
    }
}
