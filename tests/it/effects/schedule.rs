//! What the schedules' keys do, seen in the epoch in which the learning rate is no longer the constant one.

use super::Case;
use super::lab::{assert_all_part_after, assert_part_after, assert_same, losses};

pub const CASES: &[Case] = &[
    Case { keys: &["schedule", "schedule=constant"], shows: constant_is_the_default },
    Case {
        keys: &["schedule.linear", "schedule.cosine", "schedule.exponential", "schedule.step", "schedule.plateau"],
        shows: each_falls_in_its_own_way,
    },
    Case { keys: &["schedule.linear.warmup_epochs"], shows: || warms_up("linear", "") },
    Case { keys: &["schedule.cosine.warmup_epochs"], shows: || warms_up("cosine", "") },
    Case { keys: &["schedule.exponential.warmup_epochs"], shows: || warms_up("exponential", "rate: 0.5") },
    Case { keys: &["schedule.step.warmup_epochs"], shows: || warms_up("step", "every_epochs: 2, factor: 0.1") },
    Case { keys: &["schedule.plateau.warmup_epochs"], shows: || warms_up("plateau", "") },
    Case {
        keys: &["schedule.exponential.rate"],
        shows: || assert_part_after(2, &with("exponential", "rate: 0.5"), &with("exponential", "rate: 0.9")),
    },
    Case { keys: &["schedule.step.every_epochs"], shows: every_epochs_says_when_it_falls },
    Case {
        keys: &["schedule.step.factor"],
        shows: || {
            let half = with("step", "every_epochs: 2, factor: 0.5");
            assert_part_after(3, &with("step", "every_epochs: 2, factor: 0.1"), &half);
        },
    },
    Case { keys: &["schedule.plateau.patience"], shows: patience_says_when_it_falls },
    Case {
        keys: &["schedule.plateau.factor"],
        shows: || {
            assert_part_after(3, &never_better("patience: 1, factor: 0.1"), &never_better("patience: 1, factor: 0.5"));
        },
    },
    Case { keys: &["schedule.plateau.cooldown_epochs"], shows: a_cooldown_delays_the_second_fall },
    Case {
        keys: &["schedule.plateau.min_learning_rate"],
        shows: || assert_same(&never_better("patience: 1, min_learning_rate: 0.5"), &losses(&[])),
    },
    Case { keys: &["schedule.plateau.min_delta"], shows: min_delta_says_what_is_better },
    Case { keys: &["schedule.plateau.monitor"], shows: monitor_says_what_should_improve },
];

fn with(name: &str, values: &str) -> Vec<f64> {
    losses(&[&format!("schedule={{ {name}: {{ {values} }} }}")])
}

fn constant_is_the_default() {
    assert_same(&losses(&["schedule=constant"]), &losses(&[]));
}

/// The first step has the whole learning rate in all of them.
fn each_falls_in_its_own_way() {
    let runs = [losses(&[]), with("linear", ""), with("cosine", ""), with("exponential", "rate: 0.5")];
    assert_all_part_after(2, &runs);
    let step = with("step", "every_epochs: 2, factor: 0.1");
    assert_part_after(3, &step, &losses(&[]));
    let plateau = never_better("patience: 2, factor: 0.1");
    assert_part_after(4, &plateau, &losses(&[]));
}

/// A learning rate of 0 in the first step leaves the loss as it was.
fn warms_up(name: &str, values: &str) {
    let separator = if values.is_empty() { "" } else { ", " };
    let warm = with(name, &format!("{values}{separator}warmup_epochs: 1"));
    assert_same(&warm[..1], &warm[1..2]);
    let cold = with(name, values);
    assert_part_after(1, &warm, &cold);
}

fn every_epochs_says_when_it_falls() {
    assert_part_after(3, &with("step", "every_epochs: 2, factor: 0.1"), &losses(&[]));
    assert_part_after(4, &with("step", "every_epochs: 3, factor: 0.1"), &losses(&[]));
}

/// No epoch but the first counts as better: it would have to be by a thousand.
fn never_better(values: &str) -> Vec<f64> {
    with("plateau", &format!("monitor: train.loss, min_delta: 1000, {values}"))
}

fn patience_says_when_it_falls() {
    assert_part_after(3, &never_better("patience: 1"), &losses(&[]));
    assert_part_after(4, &never_better("patience: 2"), &losses(&[]));
}

fn a_cooldown_delays_the_second_fall() {
    let at_once = never_better("patience: 1, factor: 0.5");
    let later = never_better("patience: 1, factor: 0.5, cooldown_epochs: 2");
    assert_part_after(4, &at_once, &later);
}

fn min_delta_says_what_is_better() {
    let better = with("plateau", "monitor: train.loss, patience: 1, min_delta: 0");
    assert_same(&better, &losses(&[]));
    assert_part_after(3, &never_better("patience: 1"), &better);
}

/// The loss falls all the time, and the accuracy is soon as high as it can be.
fn monitor_says_what_should_improve() {
    let loss = with("plateau", "monitor: train.loss, patience: 1, min_delta: 0");
    let accuracy = with("plateau", "monitor: train.accuracy, patience: 1, min_delta: 0.9");
    assert_part_after(3, &accuracy, &loss);
}
