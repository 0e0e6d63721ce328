//! What a sweep says while it runs: a line a trial, and on a terminal a bar below them.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::output;
use crate::report::number::metric_text;
use crate::run::sweep::{SweepRecord, TrialKey, TrialRecord};
use crate::spec::schema::sweep::Sweep;
use crate::sweep::driver::Watcher;
use crate::sweep::point::Point;
use crate::sweep::standing::{Standing, State, Trial};

/// Prints a sweep's progress.
pub(super) struct Lines<'a> {
    hidden: bool,
    section: &'a Sweep,
    began: BTreeMap<TrialKey, Instant>,
    n_done: usize,
    bar: Option<ProgressBar>,
}

impl<'a> Lines<'a> {
    pub fn new(hidden: bool, sweep: &SweepRecord, section: &'a Sweep) -> Self {
        let style = ProgressStyle::with_template("{msg}").expect("the template is fixed");
        let bar = (!hidden && std::io::stderr().is_terminal()).then(|| ProgressBar::new_spinner().with_style(style));
        let lines = Self { hidden, section, began: BTreeMap::new(), n_done: 0, bar };
        lines.line(&format!("sweep {} ({})", sweep.name, sweep.id.short()));
        lines
    }

    fn line(&self, text: &str) {
        let print = || drop(output::print(&format!("{text}\n")));
        match &self.bar {
            _ if self.hidden => {}
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }
}

/// A trial's point.
pub(super) fn point_of(trial: &TrialRecord) -> Point {
    Point { values: trial.values.clone().into_iter().collect() }
}

/// A point and its seed in a line.
pub(super) fn trial_text(trial: &TrialRecord) -> String {
    let point = point_of(trial);
    let split = trial.key.split_seed.map_or_else(String::new, |seed| format!(" split_seed={seed}"));
    format!("{point}{split} seed={}", trial.key.seed)
}

impl Watcher for Lines<'_> {
    fn started(&mut self, trial: &TrialRecord) {
        self.began.insert(trial.key.clone(), Instant::now());
    }

    fn ended(&mut self, trial: &Trial, all: &Standing<'_>) {
        self.n_done = all.trials.iter().filter(|trial| trial.state == State::Finished).count();
        let seconds = self.began.remove(&trial.record.key).map_or(0.0, |began| began.elapsed().as_secs_f64());
        let key = self.section.metric.key();
        let value = metric_text(&key.to_string(), trial.best(key.direction(), u32::MAX));
        let epoch = trial.values.last().map_or(0, |(epoch, _)| *epoch);
        let outcome = match &trial.state {
            State::Finished if trial.record.is_reused => format!("{key} {value}, from a run that was there"),
            State::Finished => format!("{key} {value} in {seconds:.1} s"),
            State::Paused => format!("{key} {value} after {epoch} epochs, {seconds:.1} s"),
            State::Failed(error) => format!("failed: {}", error.lines().next().unwrap_or_default()),
            State::Waiting | State::Running | State::Interrupted => format!("interrupted after {epoch} epochs"),
        };
        self.line(&format!("{}: {outcome}", trial_text(&trial.record)));
    }

    fn waits(&mut self, n_running: usize) {
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{} trials finished, {n_running} running", self.n_done));
            bar.tick();
        }
    }
}

impl Drop for Lines<'_> {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
