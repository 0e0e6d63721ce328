//! What a sweep's trials have to show, as its ranking wants it.

use crate::report::ranking::Replicate;
use crate::run::metric::MetricKey;
use crate::run::summary::RunSummary;
use crate::sweep::standing::Trial;

/// A trial with what is recorded of its run.
pub(super) fn replicate(trial: &Trial, metric: MetricKey, runs: &[RunSummary]) -> Replicate {
    let run = runs.iter().find(|run| Some(&run.id) == trial.record.run.as_ref());
    Replicate {
        seed: trial.record.key.seed,
        value: trial.best(metric.direction(), u32::MAX),
        run: run.map(|run| run.name.clone()),
        ..Replicate::default()
    }
}
