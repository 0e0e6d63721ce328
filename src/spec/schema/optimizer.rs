//! `optimizer`: the formulas by which weights move.

use std::ops::RangeInclusive;

use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The rates that there may be.
pub const LEARNING_RATES: RangeInclusive<f64> = 1e-12..=1e3;

/// The optimizer, by Keras' formulas.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Optimizer {
    /// Gradient descent, with momentum when asked for.
    Sgd(#[garde(dive)] Sgd),
    /// Kingma and Ba 2015.
    Adam(#[garde(dive)] Adam),
    /// Adam with decoupled weight decay: Loshchilov and Hutter 2019.
    Adamw(#[garde(dive)] AdamW),
    /// Gradients divided by the root of their mean square.
    Rmsprop(#[garde(dive)] RmsProp),
}

impl Default for Optimizer {
    fn default() -> Self {
        Self::Adam(Adam { learning_rate: 1e-3, beta_1: 0.9, beta_2: 0.999, epsilon: 1e-7 })
    }
}

impl Optimizer {
    /// As a spec writes it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Sgd(_) => "sgd",
            Self::Adam(_) => "adam",
            Self::Adamw(_) => "adamw",
            Self::Rmsprop(_) => "rmsprop",
        }
    }

    pub fn learning_rate(&self) -> f64 {
        match self {
            Self::Sgd(sgd) => sgd.learning_rate,
            Self::Adam(adam) => adam.learning_rate,
            Self::Adamw(adamw) => adamw.learning_rate,
            Self::Rmsprop(rmsprop) => rmsprop.learning_rate,
        }
    }

    /// The same with another rate.
    pub fn with_learning_rate(mut self, rate: f64) -> Self {
        let learning_rate = match &mut self {
            Self::Sgd(sgd) => &mut sgd.learning_rate,
            Self::Adam(adam) => &mut adam.learning_rate,
            Self::Adamw(adamw) => &mut adamw.learning_rate,
            Self::Rmsprop(rmsprop) => &mut rmsprop.learning_rate,
        };
        *learning_rate = rate;
        self
    }
}

/// `v = momentum · v − learning_rate · g; w += v`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub struct Sgd {
    /// The size of a step, before the schedule.
    #[garde(range(min = 1e-12, max = 1e3))]
    pub learning_rate: f64,
    /// The part of the last move that goes on.
    #[serde(default)]
    #[garde(range(min = 0.0, max = 0.9999))]
    pub momentum: f64,
    /// Nesterov's form: `w += momentum · v − learning_rate · g`.
    #[serde(default)]
    #[garde(skip)]
    pub nesterov: bool,
}

/// Adam with Keras' placement of epsilon: outside the bias correction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub struct Adam {
    /// The size of a step, before the schedule.
    #[garde(range(min = 1e-12, max = 1e3))]
    pub learning_rate: f64,
    /// How slowly the mean of the gradients changes.
    #[serde(default = "default_beta_1")]
    #[garde(range(min = 0.0, max = 0.999_999))]
    pub beta_1: f64,
    /// How slowly the mean of their squares changes.
    #[serde(default = "default_beta_2")]
    #[garde(range(min = 0.0, max = 0.999_999_9))]
    pub beta_2: f64,
    /// Keeps the quotient finite; where it stands is part of the formula.
    #[serde(default = "default_epsilon")]
    #[garde(range(min = 1e-16, max = 1.0))]
    pub epsilon: f64,
}

/// Adam after `w −= learning_rate · weight_decay · w`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub struct AdamW {
    /// The size of a step, before the schedule.
    #[garde(range(min = 1e-12, max = 1e3))]
    pub learning_rate: f64,
    /// The part of a weight that is taken off at every step, times the learning rate.
    #[serde(default = "default_weight_decay")]
    #[garde(range(min = 0.0, max = 1.0))]
    pub weight_decay: f64,
    /// What decays.
    #[serde(default)]
    #[garde(skip)]
    pub decays: Decays,
    /// How slowly the mean of the gradients changes.
    #[serde(default = "default_beta_1")]
    #[garde(range(min = 0.0, max = 0.999_999))]
    pub beta_1: f64,
    /// How slowly the mean of their squares changes.
    #[serde(default = "default_beta_2")]
    #[garde(range(min = 0.0, max = 0.999_999_9))]
    pub beta_2: f64,
    /// Keeps the quotient finite; where it stands is part of the formula.
    #[serde(default = "default_epsilon")]
    #[garde(range(min = 1e-16, max = 1.0))]
    pub epsilon: f64,
}

/// The tensors that weight decay is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Decays {
    /// Kernels alone: what is drawn towards zero in a bias or a norm does not make a network simpler.
    #[default]
    Kernels,
    /// Biases and the scales and shifts of norms too, as Keras' AdamW does unless told otherwise.
    All,
}

/// `a = rho · a + (1 − rho) · g²; w −= learning_rate · g / √(a + epsilon)`, with momentum when asked for.
///
/// Keras 2.0.8's form: `epsilon: 1e-8, epsilon_inside_sqrt: false`. TensorFlow 1's: `epsilon: 1e-10, initial_accumulator: 1`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub struct RmsProp {
    /// The size of a step, before the schedule.
    #[garde(range(min = 1e-12, max = 1e3))]
    pub learning_rate: f64,
    /// How slowly the mean square changes.
    #[serde(default = "default_rho")]
    #[garde(range(min = 0.0, max = 0.999_999))]
    pub rho: f64,
    /// The part of the last move that goes on.
    #[serde(default)]
    #[garde(range(min = 0.0, max = 0.9999))]
    pub momentum: f64,
    /// Keeps the quotient finite; where it stands is part of the formula.
    #[serde(default = "default_epsilon")]
    #[garde(range(min = 1e-16, max = 1.0))]
    pub epsilon: f64,
    /// Whether epsilon is added to the mean square or to its root.
    #[serde(default = "default_true")]
    #[garde(skip)]
    pub epsilon_inside_sqrt: bool,
    /// The mean square before the first step.
    #[serde(default)]
    #[garde(range(min = 0.0, max = 1e6))]
    pub initial_accumulator: f64,
}

fn default_beta_1() -> f64 {
    0.9
}

fn default_beta_2() -> f64 {
    0.999
}

fn default_weight_decay() -> f64 {
    0.004
}

fn default_rho() -> f64 {
    0.9
}

fn default_true() -> bool {
    true
}

fn default_epsilon() -> f64 {
    1e-7
}
