//! How far the trials of a sweep are, and what is to be done next: decided from what is stored alone.

use crate::run::metric::Direction;
use crate::run::sweep::{TrialKey, TrialRecord};
use crate::spec::schema::sweep::Sweep;
use crate::sweep::asha::{self, Climb};
use crate::sweep::labels::Labels;
use crate::sweep::point::Point;
use crate::sweep::search::{Space, Tried};

/// Where a trial stands.
#[derive(Clone, Debug, PartialEq)]
pub enum State {
    Waiting,
    Running,
    /// Stopped or killed before it got as far as it should.
    Interrupted,
    /// Waits at a rung for its point to be judged.
    Paused,
    Finished,
    Failed(String),
}

/// A trial with what its run has to show.
#[derive(Clone, Debug, PartialEq)]
pub struct Trial {
    pub record: TrialRecord,
    pub state: State,
    /// The metric by epoch.
    pub values: Vec<(u32, f64)>,
    /// The metric in the epoch that the run keeps, where another metric decides that; NaN where that is not known.
    pub kept: Option<f64>,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Start a trial, or go on with it.
    Start(TrialKey),
    /// Let a point train to an epoch.
    Promote { point: u32, until_epoch: u32 },
    /// Try a new point.
    Add { point: u32, values: Point, until_epoch: u32 },
    /// Nothing, until a trial that runs has ended; nothing at all where none runs.
    Wait,
}

impl Trial {
    /// The best value up to an epoch.
    pub fn best(&self, direction: Direction, until_epoch: u32) -> Option<f64> {
        let mut best = None;
        for (_, value) in self.values.iter().filter(|(epoch, _)| *epoch <= until_epoch) {
            if direction.improves(*value, best) {
                best = Some(*value);
            }
        }
        best
    }

    /// The value in the epoch whose network is kept, tested and used: the best one, unless another metric decides.
    pub fn kept(&self, direction: Direction) -> Option<f64> {
        self.kept.or_else(|| self.best(direction, u32::MAX))
    }

    fn has_reached(&self, epoch: u32) -> bool {
        self.state == State::Finished || self.values.last().is_some_and(|(last, _)| *last >= epoch)
    }
}

/// The trials of each point, in the order in which the points were chosen.
pub fn by_point(trials: &[Trial]) -> impl Iterator<Item = &[Trial]> {
    trials.chunk_by(|a, b| a.record.key.point == b.record.key.point)
}

/// A sweep as far as it is known.
#[derive(Clone, Debug)]
pub struct Standing<'a> {
    pub section: &'a Sweep,
    pub space: &'a Space,
    pub labels: &'a Labels,
    /// Epochs of a whole trial, of the longest where they differ.
    pub epochs: u32,
    /// By point, split and seed.
    pub trials: Vec<Trial>,
}

impl Standing<'_> {
    fn direction(&self) -> Direction {
        self.section.metric.key().direction()
    }

    /// What comes next: trials that were begun first, then promotions, then new points.
    pub fn next(&self) -> Step {
        let is_startable = |trial: &&Trial| matches!(trial.state, State::Waiting | State::Interrupted);
        if let Some(trial) = self.trials.iter().find(is_startable) {
            return Step::Start(trial.record.key.clone());
        }
        let points: Vec<&[Trial]> = by_point(&self.trials).collect();
        let rungs = asha::rungs(self.section.asha, self.epochs);
        let climbs: Vec<Climb> = points.iter().map(|trials| self.climb(trials, &rungs)).collect();
        let promote =
            |point: usize| Step::Promote { point: point as u32, until_epoch: rungs[climbs[point].values.len()] };
        if let Some(asha) = self.section.asha
            && let Some(point) = asha::promoted(&climbs, rungs.len(), asha.reduction_factor, self.direction())
        {
            return promote(point);
        }
        let history: Vec<Tried> = points.iter().map(|trials| self.tried(trials, &rungs)).collect();
        if let Some(values) = self.space.next(self.section, &history, self.labels) {
            return Step::Add { point: points.len() as u32, values, until_epoch: rungs[0] };
        }
        // Nothing is left to wait for: a sweep of fewer points than its rungs need still has a best one.
        let is_running = self.trials.iter().any(|trial| trial.state == State::Running);
        let survivor = asha::survivor(&climbs, rungs.len(), self.direction()).filter(|_| !is_running);
        survivor.map_or(Step::Wait, promote)
    }

    /// Whether nothing is left to do: no point to try, to train on or to judge.
    pub fn is_complete(&self) -> bool {
        self.next() == Step::Wait && !self.trials.iter().any(|trial| trial.state == State::Running)
    }

    fn climb(&self, trials: &[Trial], rungs: &[u32]) -> Climb {
        let reached = rungs.iter().take_while(|rung| trials.iter().all(|trial| trial.has_reached(**rung)));
        let values = reached.map(|rung| self.mean(trials, *rung).unwrap_or(f64::NAN)).collect();
        Climb { values, is_taken: trials.iter().any(|trial| trial.state != State::Paused) }
    }

    fn tried(&self, trials: &[Trial], rungs: &[u32]) -> Tried {
        let values = trials[0].record.values.clone();
        let point = Point { values: values.into_iter().collect() };
        Tried { point, value: self.climb(trials, rungs).values.last().copied() }
    }

    /// The mean over seeds of each one's best value up to an epoch; `None` where a seed has none.
    pub fn mean(&self, trials: &[Trial], until_epoch: u32) -> Option<f64> {
        let bests: Option<Vec<f64>> = trials.iter().map(|trial| trial.best(self.direction(), until_epoch)).collect();
        bests.map(|bests| bests.iter().sum::<f64>() / bests.len() as f64)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::run::id::RunId;

    fn section(text: Value) -> Sweep {
        serde_json::from_value(text).unwrap()
    }

    fn trial(point: u32, seed: u64, x: u32, state: State, values: &[f64]) -> Trial {
        let record = TrialRecord {
            key: TrialKey { sweep: RunId::from_stored("S".into()), point, split_seed: None, seed },
            values: json!({ "x": x }).as_object().unwrap().clone(),
            until_epoch: 9,
            run: None,
            is_reused: false,
            error: None,
        };
        Trial { record, state, values: (1..).zip(values.iter().copied()).collect(), kept: None }
    }

    fn next(section: &Sweep, trials: Vec<Trial>) -> Step {
        let (space, labels) = (Space::new(section).unwrap(), Labels::as_written());
        Standing { section, space: &space, labels: &labels, epochs: 9, trials }.next()
    }

    #[test]
    fn what_was_begun_goes_on_before_anything_new() {
        let section = section(json!({ "parameters": { "x": { "values": [1, 2] } } }));
        let add = |point, x: u32| Step::Add {
            point,
            values: Point { values: [("x".to_owned(), json!(x))].into() },
            until_epoch: asha::TO_THE_END,
        };
        assert_eq!(next(&section, vec![]), add(0, 1));
        let one = |state| trial(0, 7, 1, state, &[0.5]);
        assert_eq!(next(&section, vec![one(State::Running)]), add(1, 2));
        assert_eq!(next(&section, vec![one(State::Failed("no".into()))]), add(1, 2));
        for state in [State::Interrupted, State::Waiting] {
            assert_eq!(next(&section, vec![one(state)]), Step::Start(one(State::Waiting).record.key));
        }
        assert_eq!(next(&section, vec![one(State::Finished), trial(1, 7, 2, State::Running, &[])]), Step::Wait);
    }

    #[test]
    fn the_better_half_trains_on_by_the_mean_over_seeds() {
        let section = section(json!({
            "parameters": { "x": { "values": [1, 2] } }, "seeds": [0, 1],
            "asha": { "min_epochs": 1, "reduction_factor": 2 },
        }));
        let paused = |point, seed, x, value| trial(point, seed, x, State::Paused, &[value]);
        let mut trials = vec![paused(0, 0, 1, 0.5), paused(0, 1, 1, 0.1), paused(1, 0, 2, 0.2), paused(1, 1, 2, 0.2)];
        assert_eq!(next(&section, trials.clone()), Step::Promote { point: 1, until_epoch: 2 });
        trials[3].state = State::Failed("no".into());
        // Nothing is left to compare it with: the point that can go on does.
        assert_eq!(next(&section, trials.clone()), Step::Promote { point: 0, until_epoch: 2 });
        trials[3].state = State::Running;
        trials[3].values.clear();
        assert_eq!(next(&section, trials), Step::Wait);
    }
}
