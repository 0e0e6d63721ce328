//! `schedule`: how the learning rate changes.

use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::spec::schema::monitor::Monitor;

/// How the learning rate changes; each begins with the optimizer's `learning_rate`, after a warm-up if there is one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Schedule {
    /// The optimizer's `learning_rate` at every step.
    #[default]
    Constant,
    /// In a straight line to 0 at the end.
    Linear(#[garde(dive)] Warmup),
    /// Along half a cosine to 0 at the end.
    Cosine(#[garde(dive)] Warmup),
    /// Multiplied by `rate` over every epoch, evenly.
    Exponential(#[garde(dive)] ExponentialDecay),
    /// Multiplied by `factor` every so many epochs.
    Step(#[garde(dive)] StepDecay),
    /// Multiplied by `factor` when a metric has not improved for `patience` epochs, as Keras' `ReduceLROnPlateau` does.
    Plateau(#[garde(dive)] Plateau),
}

impl Schedule {
    /// Epochs in which the learning rate rises linearly from 0.
    pub fn warmup_epochs(&self) -> u32 {
        match self {
            Self::Constant => 0,
            Self::Linear(warmup) | Self::Cosine(warmup) => warmup.warmup_epochs,
            Self::Exponential(decay) => decay.warmup_epochs,
            Self::Step(decay) => decay.warmup_epochs,
            Self::Plateau(plateau) => plateau.warmup_epochs,
        }
    }
}

/// A schedule whose only setting is its warm-up.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub struct Warmup {
    /// Epochs in which the learning rate rises linearly from 0.
    #[serde(default)]
    #[garde(range(max = 1_000_000))]
    pub warmup_epochs: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub struct ExponentialDecay {
    /// The learning rate after an epoch, as a part of the one before.
    #[garde(range(min = 1e-6, max = 1.0))]
    pub rate: f64,
    /// Epochs in which the learning rate rises linearly from 0.
    #[serde(default)]
    #[garde(range(max = 1_000_000))]
    pub warmup_epochs: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub struct StepDecay {
    /// Epochs between two falls.
    #[garde(range(min = 1, max = 1_000_000))]
    pub every_epochs: u32,
    /// What the learning rate is multiplied by.
    #[garde(range(min = 1e-6, max = 1.0))]
    pub factor: f64,
    /// Epochs in which the learning rate rises linearly from 0.
    #[serde(default)]
    #[garde(range(max = 1_000_000))]
    pub warmup_epochs: u32,
}

/// Keras' `ReduceLROnPlateau`, judged after every epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub struct Plateau {
    /// The metric that should improve.
    #[serde(default)]
    #[garde(skip)]
    pub monitor: Monitor,
    /// What the learning rate is multiplied by.
    #[serde(default = "default_factor")]
    #[garde(range(min = 1e-6, max = 0.999_999))]
    pub factor: f64,
    /// Epochs without improvement before it falls.
    #[serde(default = "default_patience")]
    #[garde(range(min = 1, max = 1_000_000))]
    pub patience: u32,
    /// A smaller change for the better does not count as one.
    #[serde(default = "default_min_delta")]
    #[garde(range(min = 0.0, max = 1e6))]
    pub min_delta: f64,
    /// Epochs after a fall in which nothing is counted.
    #[serde(default)]
    #[garde(range(max = 1_000_000))]
    pub cooldown_epochs: u32,
    /// The learning rate does not fall below this.
    #[serde(default)]
    #[garde(range(min = 0.0, max = 1e3))]
    pub min_learning_rate: f64,
    /// Epochs in which the learning rate rises linearly from 0.
    #[serde(default)]
    #[garde(range(max = 1_000_000))]
    pub warmup_epochs: u32,
}

fn default_factor() -> f64 {
    0.1
}

fn default_patience() -> u32 {
    10
}

fn default_min_delta() -> f64 {
    1e-4
}
