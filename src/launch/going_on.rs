//! What a run's record says about where it can go on, and what it left behind that nothing refers to.

use std::path::Path;

use crate::launch::keep::Committed;
use crate::run::detail::RunDetail;
use crate::run::summary::State;
use crate::train::checkpoint;
use crate::train::history::EpochValues;
use crate::train::session::ResumePoint;

/// A run as far as it was committed.
#[derive(Clone, Debug)]
pub(crate) struct GoingOn {
    pub point: ResumePoint,
    /// Checkpoints that are there, by epoch.
    pub committed: Vec<Committed>,
}

impl GoingOn {
    /// `history` holds the epochs' values of the metrics that decide something.
    pub fn from_record(run: &RunDetail, history: EpochValues) -> Self {
        let kept = run.checkpoints.iter().filter(|checkpoint| !checkpoint.deleted);
        let committed: Vec<Committed> = kept
            .map(|checkpoint| Committed {
                epoch: checkpoint.saved.epoch,
                monitor_value: checkpoint.monitor_value.unwrap_or(f64::NAN),
            })
            .collect();
        let point = ResumePoint {
            epoch: committed.last().map_or(0, |last| last.epoch),
            history,
            extends: run.events.iter().any(|event| event.state == State::Finished),
        };
        Self { point, committed }
    }

    /// Removes checkpoint folders without a row: their epochs never committed, or were given up for newer ones.
    pub fn sweep(&self, run_dir: &Path) {
        let kept: Vec<_> = self.committed.iter().map(|kept| run_dir.join(checkpoint::folder(kept.epoch))).collect();
        let Ok(entries) = std::fs::read_dir(run_dir.join("checkpoints")) else { return };
        for path in entries.flatten().map(|entry| entry.path()).filter(|path| !kept.contains(path)) {
            tracing::info!(folder = %path.display(), "removing a checkpoint that was never committed");
            let _ = std::fs::remove_dir_all(path);
        }
    }
}
