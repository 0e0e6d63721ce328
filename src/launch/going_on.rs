//! What a run's record says about where and how it can go on, and what it left behind that nothing refers to.

use std::path::Path;

use serde_json::Value;

use crate::launch::LaunchError;
use crate::launch::keep::Committed;
use crate::run::detail::RunDetail;
use crate::run::event::SavedCheckpoint;
use crate::run::stretch::{self, Stretch};
use crate::run::summary::{ShownState, State};
use crate::spec::schema::Spec;
use crate::spec::stretches::{self, GoOn};
use crate::train::TrainError;
use crate::train::checkpoint::format_3::{self, Standing};
use crate::train::checkpoint::{self, Checkpoint, CheckpointError};
use crate::train::history::{self, EpochValues};
use crate::train::plan::Plan;
use crate::train::schedule::rate_at_epoch;
use crate::train::session::ResumePoint;

/// A run that is to go on, as its record was read before its lock was taken, and what is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    pub recorded: &'a RunDetail,
    /// Epochs in place of the spec's.
    pub epochs: Option<u32>,
    /// Whether the schedule starts over with the epochs that are trained now.
    pub restarts_schedule: bool,
}

/// What keeps a run from going on, whatever its images and weights are.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the run {name} is still running")]
    Running { name: String },
    #[error("the run {name} has finished its {done} epochs")]
    Finished { name: String, done: u32 },
    #[error("the run {name} has {done} epochs already, {asked} were asked for")]
    TooFew { name: String, done: u32, asked: u32 },
    #[error("the run {name} went on in another process meanwhile")]
    Changed { name: String },
    #[error("the schedule of the run {name} cannot start over: {reason}")]
    NoRestart { name: String, reason: String },
}

/// Whether a run as it is recorded can go on; `spec` is the record's with the epochs that are asked for.
pub fn refusal(run: &RunDetail, spec: &Spec, wanted: &Wanted<'_>) -> Result<(), Refusal> {
    let name = run.summary.name.clone();
    let done = run.last_epoch();
    match run.summary.state {
        ShownState::Recorded(State::Running | State::Queued) => return Err(Refusal::Running { name }),
        ShownState::Recorded(State::Finished) if wanted.epochs.is_none() || spec.epochs <= done => {
            return Err(Refusal::Finished { name, done });
        }
        _ if spec.epochs < done => return Err(Refusal::TooFew { name, done, asked: spec.epochs }),
        _ => {}
    }
    let (n_left, n_warmup) = (spec.epochs - done, spec.schedule.warmup_epochs());
    let reason = match spec.schedule.has_course() {
        false => "a constant rate has no course".to_owned(),
        true if n_left == 0 => "no epochs are left".to_owned(),
        true if n_warmup >= n_left => format!("{n_warmup} epochs of warm-up leave nothing of {n_left} epochs"),
        true => return Ok(()),
    };
    if wanted.restarts_schedule { Err(Refusal::NoRestart { name, reason }) } else { Ok(()) }
}

/// Whether a run that was read under its own lock is one that can be gone on with: the lock says that no process of
/// this host has it, and the record must be the one that the spec was made from.
pub(crate) fn refusal_under_lock(
    run: &RunDetail,
    this_host: &str,
    spec: &Spec,
    wanted: &Wanted<'_>,
) -> Result<(), Refusal> {
    let mut run = run.clone();
    if run.summary.state == ShownState::Recorded(State::Running) && run.host == this_host {
        run.summary.state = ShownState::Crashed;
    }
    refusal(&run, spec, wanted)?;
    let is_same = run.resolved_json == wanted.recorded.resolved_json;
    if is_same { Ok(()) } else { Err(Refusal::Changed { name: run.summary.name }) }
}

/// A run as far as it was committed.
#[derive(Clone, Debug)]
pub(crate) struct GoingOn {
    pub point: ResumePoint,
    /// Checkpoints that are there, by epoch.
    pub committed: Vec<Committed>,
    /// What its epochs were trained under, and those to come are.
    pub stretches: Vec<Stretch>,
    /// What is to be said of that.
    pub warnings: Vec<String>,
}

impl GoingOn {
    /// `history` holds the epochs' values of the metrics that decide something.
    pub fn from_record(run: &RunDetail, history: EpochValues, spec: &Spec, restarts_schedule: bool) -> Self {
        let kept = run.checkpoints.iter().filter(|checkpoint| !checkpoint.deleted);
        let committed: Vec<Committed> = kept
            .clone()
            .map(|checkpoint| Committed {
                epoch: checkpoint.saved.epoch,
                monitor_value: checkpoint.monitor_value.unwrap_or(f64::NAN),
            })
            .collect();
        let point = ResumePoint { checkpoints: kept.map(|checkpoint| checkpoint.saved.clone()).collect(), history };
        let done = point.epoch();
        let is_past_early_stop = had_finished(run) && stops_early(spec, &point.history);
        let recorded = recorded_stretches(run);
        let stretches = stretches::going_on(spec, &recorded, GoOn { done, is_past_early_stop, restarts_schedule });
        let warnings = if recorded == stretches { Vec::new() } else { warnings(spec, &stretches, done) };
        Self { point, committed, stretches, warnings }
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

/// The stretches of a run; of one from before they were recorded the only one that its spec knows of.
pub fn recorded_stretches(run: &RunDetail) -> Vec<Stretch> {
    if !run.stretches.is_empty() {
        return run.stretches.clone();
    }
    let resolved: Value = serde_json::from_str(&run.resolved_json).unwrap_or_default();
    let epochs = resolved["epochs"].as_u64().and_then(|epochs| u32::try_from(epochs).ok());
    epochs.map(|epochs| vec![Stretch::whole(epochs, resolved["schedule"].clone())]).unwrap_or_default()
}

/// Whether a run from before stretches were recorded went on, and may have been asked for more epochs when it did.
pub(crate) fn has_unknown_stretches(run: &RunDetail, spec: &Spec) -> bool {
    let n_starts = run.events.iter().filter(|event| event.state == State::Running).count();
    run.stretches.is_empty() && n_starts > 1 && spec.may_have_stretches()
}

/// Whether more is asked for than what ended the run. Of an older run only its states tell.
fn had_finished(run: &RunDetail) -> bool {
    let is_finished = run.summary.state == ShownState::Recorded(State::Finished);
    is_finished || run.stretches.is_empty() && run.events.iter().any(|event| event.state == State::Finished)
}

fn stops_early(spec: &Spec, history: &EpochValues) -> bool {
    spec.early_stopping.as_ref().is_some_and(|stopping| {
        history.get(&stopping.monitor.key()).is_some_and(|values| history::stops_early(values, stopping))
    })
}

/// What makes the run another one than a run of as many epochs from its beginning.
fn warnings(spec: &Spec, stretches: &[Stretch], done: u32) -> Vec<String> {
    let effective = stretches::effective(spec, stretches);
    let [.., before, now] = effective.as_slice() else { return Vec::new() };
    if now.after_epoch != done {
        return Vec::new();
    }
    let mut warnings = Vec::new();
    if now.is_past_early_stop {
        warnings.push(format!(
            "early stopping had ended the training after epoch {done}; it goes on all the same, as no run of {} epochs \
             from the beginning does",
            now.epochs
        ));
    }
    if before.epochs != now.epochs && now.schedule_after < done {
        let next = done + 1;
        let base = spec.in_epoch(next).optimizer.learning_rate();
        let [then, now_at] = [before, now].map(|stretch| rate_text(rate_at_epoch(&spec.schedule, base, stretch, next)));
        warnings.push(format!(
            "the learning rate jumps at epoch {next}, from {then} to {now_at}: the schedule was {} over {} epochs, and is \
             over {} from now on, so this is no run of {} epochs from the beginning; `--restart-schedule` starts the \
             schedule over instead",
            stretch::schedule_name(now),
            before.schedule_epochs(),
            now.schedule_epochs(),
            now.epochs,
        ));
    }
    warnings
}

fn rate_text(rate: f64) -> String {
    if rate == 0.0 { "0".to_owned() } else { format!("{rate:.3e}") }
}
