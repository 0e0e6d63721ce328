//! The learning rate of every optimizer step, as a function of the step's number alone.

use std::f64::consts::PI;

use burn::optim::LearningRate;
use burn::optim::lr_scheduler::{LrScheduler, LrSchedulerRecord};

use crate::spec::schema::Spec;
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
    let done = (after / (steps.total - n_warmup).max(1) as f64).min(1.0);
    let epochs = after / steps.per_epoch as f64;
    base * match schedule {
        Schedule::Constant | Schedule::Plateau(_) => 1.0,
        Schedule::Linear(_) => 1.0 - done,
        Schedule::Cosine(_) => 0.5 * (1.0 + (PI * done).cos()),
        Schedule::Exponential(decay) => decay.rate.powf(epochs),
        Schedule::Step(decay) => decay.factor.powf((epochs / f64::from(decay.every_epochs)).floor()),
    }
}

/// A schedule as burn-train drives it, once a step.
#[derive(Clone, Debug)]
pub struct StepSchedule {
    schedule: Schedule,
    base: f64,
    steps: Steps,
    next_step: u64,
    history: History,
    /// On a plateau, the rate of the current epoch.
    epoch_rate: f64,
}

impl StepSchedule {
    /// Begins after `epochs_done` epochs, whose metrics are in the history; `base` is the rate before the schedule.
    pub fn new(spec: &Spec, base: f64, steps_per_epoch: u64, epochs_done: u32, history: History) -> Self {
        let steps = Steps { per_epoch: steps_per_epoch, total: u64::from(spec.epochs) * steps_per_epoch };
        let next_step = u64::from(epochs_done) * steps_per_epoch;
        Self { schedule: spec.schedule.clone(), base, steps, next_step, history, epoch_rate: base }
    }

    /// The rate that all epochs before the next step come to.
    fn judge(&mut self) {
        if let Schedule::Plateau(plateau) = &self.schedule {
            let n_done = self.next_step / self.steps.per_epoch;
            let mut values = self.history.values(plateau.monitor.key());
            values.retain(|(epoch, _)| u64::from(*epoch) <= n_done);
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
        if self.next_step.is_multiple_of(self.steps.per_epoch) {
            self.judge();
        }
        let rate = learning_rate(&self.schedule, self.epoch_rate, self.next_step, self.steps);
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

    #[test]
    fn a_constant_rate_warms_up_to_nothing_else() {
        let steps = Steps { per_epoch: 3, total: 6 };
        assert_eq!(learning_rate(&Schedule::Constant, 0.1, 5, steps), 0.1);
    }
}
