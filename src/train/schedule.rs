//! The learning rate of every optimizer step, as a function of the step's number and the run's stretches.

use std::f64::consts::PI;

use burn::optim::LearningRate;
use burn::optim::lr_scheduler::{LrScheduler, LrSchedulerRecord};

use crate::run::stretch::{self, Stretch};
use crate::spec::schema::schedule::Schedule;
use crate::train::history::{History, rate_on_plateau};

/// The steps of a training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steps {
    pub per_epoch: u64,
    /// All epochs'.
    pub total: u64,
}

/// The learning rate of a step, counted from 0.
///
/// A warm-up rises linearly from 0 at the first step to `base`; what follows counts from its end, as in Keras 3's
/// `CosineDecay`. Linear is `PolynomialDecay` with power 1, exponential and step are `ExponentialDecay` without and with
/// its staircase. A plateau's rate falls with what is measured: see [`crate::train::history::rate_on_plateau`].
pub fn learning_rate(schedule: &Schedule, base: f64, step: u64, steps: Steps) -> f64 {
    let n_warmup = u64::from(schedule.warmup_epochs()) * steps.per_epoch;
    if step < n_warmup {
        return base * step as f64 / n_warmup as f64;
    }
    let after = (step - n_warmup) as f64;
    let done = (after / steps.total.saturating_sub(n_warmup).max(1) as f64).min(1.0);
    let epochs = after / steps.per_epoch as f64;
    base * match schedule {
        Schedule::Constant | Schedule::Plateau(_) => 1.0,
        Schedule::Linear(_) => 1.0 - done,
        Schedule::Cosine(_) => 0.5 * (1.0 + (PI * done).cos()),
        Schedule::Exponential(decay) => decay.rate.powf(epochs),
        Schedule::Step(decay) => decay.factor.powf((epochs / f64::from(decay.every_epochs)).floor()),
    }
}

/// The learning rate with which an epoch, counted from 1, begins in a stretch; `base` is the rate before the schedule.
pub fn rate_at_epoch(schedule: &Schedule, base: f64, stretch: &Stretch, epoch: u32) -> f64 {
    let steps = Steps { per_epoch: 1, total: u64::from(stretch.schedule_epochs()) };
    learning_rate(schedule, base, u64::from(epoch.saturating_sub(1 + stretch.schedule_after)), steps)
}

/// What the rates of a training come from.
#[derive(Clone, Debug)]
pub struct Course {
    pub schedule: Schedule,
    /// Never empty: a training as its spec says has one.
    pub stretches: Vec<Stretch>,
    pub steps_per_epoch: u64,
    pub history: History,
}

/// A schedule as burn-train drives it, once a step.
#[derive(Clone, Debug)]
pub struct StepSchedule {
    course: Course,
    base: f64,
    next_step: u64,
    /// On a plateau, the rate of the current epoch.
    epoch_rate: f64,
}

impl StepSchedule {
    /// Begins after `epochs_done` epochs, whose metrics are in the history; `base` is the rate before the schedule.
    pub fn new(course: Course, base: f64, epochs_done: u32) -> Self {
        let next_step = u64::from(epochs_done) * course.steps_per_epoch;
        Self { course, base, next_step, epoch_rate: base }
    }

    /// The stretch that the next step is part of.
    fn stretch(&self) -> &Stretch {
        let epoch = u32::try_from(self.next_step / self.course.steps_per_epoch + 1).unwrap_or(u32::MAX);
        stretch::of_epoch(&self.course.stretches, epoch).expect("a training has a stretch")
    }

    /// The rate that all epochs before the next step come to.
    fn judge(&mut self) {
        if let Schedule::Plateau(plateau) = &self.course.schedule {
            let n_done = self.next_step / self.course.steps_per_epoch;
            let schedule_after = self.stretch().schedule_after;
            let mut values = self.course.history.values(plateau.monitor.key());
            values.retain(|(epoch, _)| u64::from(*epoch) <= n_done && *epoch > schedule_after);
            let rate = rate_on_plateau(&values, plateau, self.base);
            if rate != self.epoch_rate {
                tracing::info!(epoch = n_done + 1, rate, "the learning rate falls");
            }
            self.epoch_rate = rate;
        }
    }
}

impl LrScheduler for StepSchedule {
    fn step(&mut self) -> LearningRate {
        let per_epoch = self.course.steps_per_epoch;
        if self.next_step.is_multiple_of(per_epoch) {
            self.judge();
        }
        let stretch = self.stretch();
        let n_before = u64::from(stretch.schedule_after) * per_epoch;
        let steps = Steps { per_epoch, total: u64::from(stretch.schedule_epochs()) * per_epoch };
        let rate = learning_rate(&self.course.schedule, self.epoch_rate, self.next_step - n_before, steps);
        self.next_step += 1;
        rate
    }

    fn to_record(&self) -> LrSchedulerRecord {
        LrSchedulerRecord::new().with_scalar("next_step", self.next_step)
    }

    /// The number of epochs done says the same, and was given when this was made.
    fn load_record(&mut self, _: LrSchedulerRecord) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::metric::{Measure, MetricKey, Split};

    /// Keras 3's schedules: tests/fixtures/make_schedule_golden.py.
    #[test]
    fn every_step_agrees_with_keras() {
        let golden: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/fixtures/schedule_golden.json")).unwrap();
        let steps = Steps {
            per_epoch: golden["steps_per_epoch"].as_u64().unwrap(),
            total: golden["steps_per_epoch"].as_u64().unwrap() * golden["epochs"].as_u64().unwrap(),
        };
        let base = golden["learning_rate"].as_f64().unwrap();
        let cases = golden["cases"].as_array().unwrap();
        assert_eq!(cases.len(), 6);
        for case in cases {
            let schedule: Schedule = serde_json::from_value(case["schedule"].clone()).unwrap();
            let rates = case["rates"].as_array().unwrap();
            assert_eq!(rates.len() as u64, steps.total);
            for (step, expected) in rates.iter().enumerate() {
                let (found, expected) =
                    (learning_rate(&schedule, base, step as u64, steps), expected.as_f64().unwrap());
                // Keras computes in f32.
                assert!((found - expected).abs() <= 2e-6 * base, "{schedule:?} step {step}: {found} {expected}");
            }
        }
    }

    fn rates(schedule: &Schedule, stretches: &[Stretch], epochs_done: u32, n: usize) -> Vec<f64> {
        let (schedule, stretches) = (schedule.clone(), stretches.to_vec());
        let course = Course { schedule, stretches, steps_per_epoch: 4, history: History::default() };
        let mut schedule = StepSchedule::new(course, 0.5, epochs_done);
        (0..n).map(|_| LrScheduler::step(&mut schedule)).collect()
    }

    /// Each stretch's rates are those of a training of its length, wherever a process began.
    #[test]
    fn an_extended_training_has_the_rates_of_each_length_in_turn() {
        for text in [r#"{"cosine":{}}"#, r#"{"linear":{"warmup_epochs":1}}"#] {
            let schedule: Schedule = serde_json::from_str(text).unwrap();
            let whole = |epochs| Stretch::whole(epochs, schedule.value());
            let [short, long] = [3, 5].map(|epochs| rates(&schedule, &[whole(epochs)], 0, 4 * epochs as usize));
            let extended = [whole(3), Stretch { after_epoch: 3, ..whole(5) }];
            let expected = [&short[..], &long[12..]].concat();
            assert_eq!(rates(&schedule, &extended, 0, 20), expected, "{text}");
            assert_eq!(rates(&schedule, &extended, 3, 8), expected[12..], "{text}");
            assert!(expected[12] > expected[11], "{text}");
            // Started over, the last epochs are a whole training of their own.
            let restarted = [whole(3), Stretch { after_epoch: 3, schedule_after: 3, ..whole(6) }];
            let expected = [&short[..], &short[..]].concat();
            assert_eq!(rates(&schedule, &restarted, 0, 24), expected, "{text}");
            assert_eq!(rates(&schedule, &restarted, 4, 8), expected[16..], "{text}");
            for (epoch, stretches) in [(4, &extended), (5, &extended), (4, &restarted), (5, &restarted)] {
                let stretch = stretch::of_epoch(stretches, epoch).unwrap();
                let first = rates(&schedule, stretches, epoch - 1, 1)[0];
                assert!((rate_at_epoch(&schedule, 0.5, stretch, epoch) - first).abs() < 1e-12, "{text}, epoch {epoch}");
            }
        }
    }

    /// What was measured before it started over has no part in it.
    #[test]
    fn a_plateau_that_starts_over_begins_with_the_whole_rate() {
        let text = r#"{"plateau":{"patience":1,"factor":0.5,"monitor":"valid.loss"}}"#;
        let schedule: Schedule = serde_json::from_str(text).unwrap();
        let history = History::default();
        let key = MetricKey::new(Split::Valid, Measure::Loss);
        (1..=6).for_each(|epoch| history.push(key, epoch, 1.0));
        let rates = |stretches: Vec<Stretch>| {
            let course = Course { schedule: schedule.clone(), stretches, steps_per_epoch: 1, history: history.clone() };
            let mut schedule = StepSchedule::new(course, 0.5, 0);
            (0..6).map(|_| LrScheduler::step(&mut schedule)).collect::<Vec<f64>>()
        };
        let whole = |epochs| Stretch::whole(epochs, schedule.value());
        assert_eq!(rates(vec![whole(6)]), [0.5, 0.5, 0.25, 0.125, 0.0625, 0.03125]);
        let restarted = vec![whole(3), Stretch { after_epoch: 3, schedule_after: 3, ..whole(6) }];
        assert_eq!(rates(restarted), [0.5, 0.5, 0.25, 0.5, 0.5, 0.25]);
        // Where it does not start over, it does not matter how many epochs were asked for.
        let extended = vec![whole(3), Stretch { after_epoch: 3, ..whole(6) }];
        assert_eq!(rates(extended), rates(vec![whole(6)]));
    }

    #[test]
    fn a_constant_rate_warms_up_to_nothing_else() {
        let steps = Steps { per_epoch: 3, total: 6 };
        assert_eq!(learning_rate(&Schedule::Constant, 0.1, 5, steps), 0.1);
    }
}
