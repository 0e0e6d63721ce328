//! What a run's record says about where it can go on, and what it left behind that nothing refers to.

use std::path::Path;

use crate::launch::LaunchError;
use crate::launch::keep::Committed;
use crate::run::detail::RunDetail;
use crate::run::event::SavedCheckpoint;
use crate::run::summary::State;
use crate::train::TrainError;
use crate::train::checkpoint::format_3::{self, Standing};
use crate::train::checkpoint::{self, Checkpoint, CheckpointError};
use crate::train::history::EpochValues;
use crate::train::plan::Plan;
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
            .clone()
            .map(|checkpoint| Committed {
                epoch: checkpoint.saved.epoch,
                monitor_value: checkpoint.monitor_value.unwrap_or(f64::NAN),
            })
            .collect();
        let point = ResumePoint {
            checkpoints: kept.map(|checkpoint| checkpoint.saved.clone()).collect(),
            history,
            extends: run.events.iter().any(|event| event.state == State::Finished),
        };
        Self { point, committed }
    }

    /// Checks that the checkpoint that the training goes on from is there, whole, and the one that was recorded.
    pub fn verify(&self, run_dir: &Path) -> Result<(), CheckpointError> {
        match self.point.checkpoints.last() {
            Some(last) => Checkpoint::open(run_dir, last)?.verify(),
            None => Ok(()),
        }
    }

    /// Writes checkpoints of an older format anew, each beside what it was; those that this returns are to be recorded, and
    /// what is not of them counts until then. One that is damaged, and not the last, stays as it is.
    pub fn convert(
        &mut self,
        run_dir: &Path,
        objects_dir: &Path,
        plan: &Plan,
    ) -> Result<Vec<SavedCheckpoint>, LaunchError> {
        let (mut converted, last) = (Vec::new(), self.point.epoch());
        for saved in &mut self.point.checkpoints {
            let standing = if saved.epoch == last { Standing::Last } else { Standing::Earlier };
            match format_3::convert_if_old(run_dir, saved, standing, (plan, objects_dir)) {
                Ok(Some(new)) => {
                    tracing::info!(epoch = new.epoch, "a checkpoint of an older format was converted");
                    *saved = new;
                    converted.push(saved.clone());
                }
                Ok(None) => {}
                Err(error @ TrainError::Checkpoint(CheckpointError::Damaged { .. })) if saved.epoch != last => {
                    tracing::warn!(epoch = saved.epoch, %error, "a checkpoint of an older format stays");
                }
                Err(error) => return Err(LaunchError::Convert(error)),
            }
        }
        Ok(converted)
    }

    /// Removes checkpoint folders without a row: their epochs never committed, or were given up for newer ones. Of those
    /// that stay, what an older format left goes, and the optimizer's state of all but the last.
    pub fn sweep(&self, run_dir: &Path) {
        let last = self.point.epoch();
        for saved in &self.point.checkpoints {
            let Ok(checkpoint) = Checkpoint::open(run_dir, saved) else { continue };
            let swept = checkpoint.sweep();
            let swept = if saved.epoch == last { swept } else { swept.and(checkpoint.without_optimizer().map(drop)) };
            if let Err(error) = swept {
                tracing::warn!(epoch = saved.epoch, %error, "files of a checkpoint that are not needed stay");
            }
        }
        let kept: Vec<_> = self.committed.iter().map(|kept| run_dir.join(checkpoint::folder(kept.epoch))).collect();
        let Ok(entries) = std::fs::read_dir(run_dir.join("checkpoints")) else { return };
        for path in entries.flatten().map(|entry| entry.path()).filter(|path| !kept.contains(path)) {
            tracing::info!(folder = %path.display(), "removing a checkpoint that was never committed");
            let _ = std::fs::remove_dir_all(path);
        }
    }
}
