//! What the optimizers' keys do: which step is the first that differs follows from the formula.

use super::Case;
use super::lab::{assert_all_part_after, assert_part_after, losses};

pub const CASES: &[Case] = &[
    Case {
        keys: &["optimizer", "optimizer.sgd", "optimizer.adam", "optimizer.adamw", "optimizer.rmsprop"],
        shows: each_moves_in_its_own_way,
    },
    Case {
        keys: &["learning_rates", "learning_rates.*"],
        shows: || assert_part_after(1, &losses(&[]), &losses(&["learning_rates={ head: 0.2 }"])),
    },
    Case {
        keys: &["optimizer.sgd.learning_rate"],
        shows: || parts("sgd", "learning_rate: 0.5", "learning_rate: 0.2", 1),
    },
    // The first step has no last move to go on with.
    Case { keys: &["optimizer.sgd.momentum"], shows: || parts("sgd", "momentum: 0.0", "momentum: 0.9", 2) },
    Case {
        keys: &["optimizer.sgd.nesterov"],
        shows: || parts("sgd", "momentum: 0.9, nesterov: false", "momentum: 0.9, nesterov: true", 1),
    },
    Case {
        keys: &["optimizer.adam.learning_rate"],
        shows: || parts("adam", "learning_rate: 0.05", "learning_rate: 0.02", 1),
    },
    // The bias correction cancels both betas in the first step.
    Case { keys: &["optimizer.adam.beta_1"], shows: || parts("adam", "beta_1: 0.9", "beta_1: 0.5", 2) },
    Case {
        keys: &["optimizer.adam.beta_2"],
        shows: || parts("adam", "epsilon: 1.0e-12, beta_2: 0.999", "epsilon: 1.0e-12, beta_2: 0.5", 2),
    },
    Case { keys: &["optimizer.adam.epsilon"], shows: || parts("adam", "epsilon: 1.0e-7", "epsilon: 1.0", 1) },
    Case {
        keys: &["optimizer.adamw.learning_rate"],
        shows: || parts("adamw", "learning_rate: 0.05", "learning_rate: 0.02", 1),
    },
    Case {
        keys: &["optimizer.adamw.weight_decay"],
        shows: || parts("adamw", "weight_decay: 0.0", "weight_decay: 1.0", 1),
    },
    // The head's bias begins at zero: a step moves it before it can decay.
    Case {
        keys: &["optimizer.adamw.decays", "optimizer.adamw.decays=kernels", "optimizer.adamw.decays=all"],
        shows: || parts("adamw", "weight_decay: 1.0, decays: kernels", "weight_decay: 1.0, decays: all", 2),
    },
    Case { keys: &["optimizer.adamw.beta_1"], shows: || parts("adamw", "beta_1: 0.9", "beta_1: 0.5", 2) },
    Case {
        keys: &["optimizer.adamw.beta_2"],
        shows: || parts("adamw", "epsilon: 1.0e-12, beta_2: 0.999", "epsilon: 1.0e-12, beta_2: 0.5", 2),
    },
    Case { keys: &["optimizer.adamw.epsilon"], shows: || parts("adamw", "epsilon: 1.0e-7", "epsilon: 1.0", 1) },
    Case {
        keys: &["optimizer.rmsprop.learning_rate"],
        shows: || parts("rmsprop", "learning_rate: 0.05", "learning_rate: 0.02", 1),
    },
    Case { keys: &["optimizer.rmsprop.rho"], shows: || parts("rmsprop", "rho: 0.9", "rho: 0.5", 1) },
    Case { keys: &["optimizer.rmsprop.momentum"], shows: || parts("rmsprop", "momentum: 0.0", "momentum: 0.9", 2) },
    Case { keys: &["optimizer.rmsprop.epsilon"], shows: || parts("rmsprop", "epsilon: 1.0e-7", "epsilon: 1.0", 1) },
    Case {
        keys: &["optimizer.rmsprop.epsilon_inside_sqrt"],
        shows: || {
            parts(
                "rmsprop",
                "epsilon: 0.01, epsilon_inside_sqrt: true",
                "epsilon: 0.01, epsilon_inside_sqrt: false",
                1,
            );
        },
    },
    Case {
        keys: &["optimizer.rmsprop.initial_accumulator"],
        shows: || parts("rmsprop", "initial_accumulator: 0.0", "initial_accumulator: 1.0", 1),
    },
];

/// Losses with an optimizer whose learning rate is 0.05 unless said otherwise.
fn with(name: &str, values: &str) -> Vec<f64> {
    let rate = if values.contains("learning_rate") { "" } else { "learning_rate: 0.05, " };
    losses(&[&format!("optimizer={{ {name}: {{ {rate}{values} }} }}")])
}

/// Two settings of an optimizer part after so many epochs.
fn parts(name: &str, a: &str, b: &str, after: usize) {
    assert_part_after(after, &with(name, a), &with(name, b));
}

fn each_moves_in_its_own_way() {
    let runs = [with("sgd", ""), with("adam", ""), with("adamw", "weight_decay: 1.0"), with("rmsprop", "")];
    assert_all_part_after(1, &runs);
}
