//! A learning rate range test: the loss while the rate grows from step to step. Source: Smith 2017, section 3.3, with the
//! smoothing and the end of fastai 2's `lr_find`.

use std::sync::Arc;

use burn::optim::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::train::TrainStep;

use crate::run::event::{Event, Phase};
use crate::run::metric::{Measure, Split};
use crate::run::stop::StopFlag;
use crate::settings::Resources;
use crate::train::channel::Events;
use crate::train::device::TrainDevice;
use crate::train::network;
use crate::train::optimizer;
use crate::train::plan::Plan;
use crate::train::splits::{Reading, of_split};
use crate::train::{Completion, TrainError};

/// Rates from the first to the last step, each as many times the one before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    pub min: f64,
    pub max: f64,
    /// At least 2.
    pub n_steps: u32,
}

/// A step: its rate, its batch's loss, and the smoothed loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RateStep {
    pub rate: f64,
    pub loss: f64,
    pub smoothed: f64,
}

/// The part of the smoothed loss that stays at each step.
const SMOOTHING: f64 = 0.98;

/// A smoothed loss so many times the lowest ends the test.
const EXPLODED: f64 = 4.0;

impl Range {
    fn rate(self, step: u32) -> f64 {
        self.min * (self.max / self.min).powf(f64::from(step) / f64::from(self.n_steps - 1))
    }
}

/// What the losses suggest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Suggestion {
    /// In the middle of the smoothed loss' longest fall: noise at single steps, where it may seem steepest, does not move it.
    pub valley: f64,
    /// A tenth of the rate at which it is lowest.
    pub minimum_tenth: f64,
}

/// Looks for the rates; `None` of losses that never fall.
pub fn suggestion(steps: &[RateStep]) -> Option<Suggestion> {
    let lowest = steps.iter().min_by(|a, b| a.smoothed.total_cmp(&b.smoothed))?;
    let valley = steps[middle_of_longest_fall(steps)?].rate;
    Some(Suggestion { valley, minimum_tenth: lowest.rate / 10.0 })
}

/// The middle of the longest falling sequence of smoothed losses, steps left out between them or not; `None` of none.
fn middle_of_longest_fall(steps: &[RateStep]) -> Option<usize> {
    // The highest last loss of the falling sequences of each length.
    let mut lasts: Vec<f64> = Vec::new();
    let (mut longest, mut end) = (0, 0);
    for (i, step) in steps.iter().enumerate() {
        let n_before = lasts.partition_point(|last| *last > step.smoothed);
        match lasts.get_mut(n_before) {
            Some(last) => *last = step.smoothed,
            None => lasts.push(step.smoothed),
        }
        if n_before + 1 > longest {
            (longest, end) = (n_before + 1, i);
        }
    }
    (longest > 1).then(|| end - longest / 2)
}

/// Trains a copy of the plan's network for some steps, each with a larger rate; nothing is kept of it.
pub fn find(
    plan: &Plan,
    device: &TrainDevice,
    resources: Resources,
    range: Range,
    events: &Events,
    stop: &StopFlag,
) -> Result<Completion<Vec<RateStep>>, TrainError> {
    let mut plan = plan.clone();
    // A batch is a step.
    plan.spec.gradient_accumulation_steps = 1;
    let mut trainee = network::build(&plan, device)?.trainee;
    let reading = Reading { plan: &plan, resources, events, stop, cache: None };
    let listing = of_split(&plan.listings, Split::Train).expect("a plan has a train split");
    let Completion::Done(images) = reading.images(Split::Train, listing, Some(trainee.frame()))? else {
        return Ok(Completion::Stopped);
    };
    let Completion::Done(source) = reading.source(Arc::new(images), Split::Train, trainee.frame())? else {
        return Ok(Completion::Stopped);
    };
    let mut optimizer = optimizer::from_spec(&plan.spec.optimizer);
    let unreadable = |error: String| TrainError::Measure(error);
    let mut steps: Vec<RateStep> = Vec::new();
    let (mut mean, mut lowest) = (0.0, f64::INFINITY);
    events.send(Event::PhaseStarted { phase: Phase::Train { epoch: 1, epochs: 1 }, n_items: u64::from(range.n_steps) });
    'passes: for epoch in 1.. {
        for input in source.epoch(epoch, stop) {
            let step = steps.len() as u32;
            let rate = range.rate(step);
            let output = TrainStep::step(&trainee, input.map_err(|error| unreadable(error.to_string()))?);
            let losses = output.item.of(Measure::Loss).clone().try_into_vec_as::<f32>();
            let losses = losses.map_err(|error| unreadable(error.to_string()))?;
            let loss = losses.iter().map(|loss| f64::from(*loss)).sum::<f64>() / losses.len().max(1) as f64;
            mean = SMOOTHING * mean + (1.0 - SMOOTHING) * loss;
            let smoothed = mean / (1.0 - SMOOTHING.powf(f64::from(step) + 1.0));
            let is_over = !smoothed.is_finite() || smoothed > EXPLODED * lowest;
            if is_over {
                break 'passes;
            }
            lowest = lowest.min(smoothed);
            steps.push(RateStep { rate, loss, smoothed });
            events.send(Event::Progress { n_done: steps.len() as u64 });
            if steps.len() == range.n_steps as usize {
                break 'passes;
            }
            trainee = trainee.optimize(&mut optimizer, ModuleLearningRate::from(rate), output.grads);
        }
        if stop.is_raised() {
            return Ok(Completion::Stopped);
        }
    }
    events.send(Event::PhaseEnded);
    Ok(Completion::Done(steps))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_grow_by_one_factor_from_end_to_end() {
        let range = Range { min: 1e-6, max: 1.0, n_steps: 7 };
        for (step, expected) in [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0].into_iter().enumerate() {
            assert!((range.rate(step as u32) / expected - 1.0).abs() < 1e-12);
        }
    }

    fn steps(losses: &[f64]) -> Vec<RateStep> {
        let step = |(i, &smoothed): (usize, &f64)| RateStep { rate: 10_f64.powi(i as i32), loss: smoothed, smoothed };
        losses.iter().enumerate().map(step).collect()
    }

    /// By hand: seven of the losses fall one after another, to that at 10⁷.
    #[test]
    fn the_middle_of_the_longest_fall_and_a_tenth_of_the_lowest_are_suggested() {
        let found = suggestion(&steps(&[9.0, 4.3, 4.2, 4.25, 3.9, 3.0, 2.0, 1.5, 1.6, 5.0]));
        assert_eq!(found, Some(Suggestion { valley: 1e4, minimum_tenth: 1e6 }));
        // The steepest step is the first; the long fall is what counts.
        let found = suggestion(&steps(&[9.0, 5.0, 5.5, 5.4, 5.3, 5.2, 5.1, 4.9, 8.0]));
        assert_eq!(found, Some(Suggestion { valley: 1e4, minimum_tenth: 1e6 }));
        for never_falling in [&[][..], &[1.0], &[1.0, 1.0, 2.0]] {
            assert_eq!(suggestion(&steps(never_falling)), None);
        }
    }
}
