//! Every key of a spec, its default and its range.

pub mod augment;
pub mod cache;
pub mod data;
pub mod model;
pub mod monitor;
pub mod optimizer;
pub mod plan;
pub mod precision;
pub mod preprocess;
pub mod schedule;
pub mod source;
pub mod sweep;
pub mod weights;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use garde::Validate;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::run::metric::MetricKey;
use crate::spec::schema::augment::Augment;
use crate::spec::schema::cache::Cache;
use crate::spec::schema::data::Data;
use crate::spec::schema::model::Model;
use crate::spec::schema::monitor::Monitor;
use crate::spec::schema::optimizer::{LEARNING_RATES, Optimizer};
use crate::spec::schema::plan::PlanStep;
use crate::spec::schema::precision::Precision;
use crate::spec::schema::preprocess::Preprocess;
use crate::spec::schema::schedule::Schedule;
use crate::spec::schema::sweep::Sweep;
use crate::spec::short_forms::DeviceChoice;

/// One experiment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// The experiment; runs of one experiment are listed together.
    #[garde(length(min = 1, max = 80), custom(plain_name))]
    #[schemars(regex(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]*$"))]
    pub name: String,
    /// Every random draw is a function of this number and what is drawn.
    #[serde(default)]
    #[garde(skip)]
    #[schemars(range(max = u64::MAX))]
    pub seed: u64,
    /// `auto`, `cpu`, `cuda` or `cuda:1`.
    #[serde(default)]
    #[garde(skip)]
    pub device: DeviceChoice,
    /// The images.
    #[garde(dive)]
    pub data: Data,
    /// The network.
    #[garde(dive)]
    pub model: Model,
    /// What pixels go through before they enter the network; by default what its weights were trained with.
    #[serde(default)]
    #[garde(skip)]
    pub preprocess: Preprocess,
    /// Random changes to training images.
    #[serde(default)]
    #[garde(dive)]
    pub augment: Augment,
    /// Keeping what the frozen layers give for an image.
    #[serde(default)]
    #[garde(dive)]
    pub cache: Cache,
    /// The numbers that parts of the network compute with.
    #[serde(default, skip_serializing_if = "Precision::is_default")]
    #[garde(dive)]
    pub precision: Precision,
    /// How weights move; Adam with a learning rate of 1e-3 when left out.
    #[serde(default)]
    #[garde(dive)]
    pub optimizer: Optimizer,
    /// Learning rates of parts of the network, before the schedule, in place of the optimizer's: by row, by what several rows
    /// begin with, such as `block5` or `blocks.6`, and `head`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[garde(length(max = 1000), custom(rates_in_range))]
    #[schemars(schema_with = "rates_schema")]
    pub learning_rates: BTreeMap<String, f64>,
    /// Steps that unfreeze the network bit by bit, one after the other; the last goes on where `epochs` is more than theirs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[garde(length(max = 100), dive)]
    pub plan: Vec<PlanStep>,
    /// How the learning rate changes from step to step.
    #[serde(default)]
    #[garde(dive)]
    pub schedule: Schedule,
    /// Inferred from the head when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(skip)]
    pub loss: Option<Loss>,
    /// The part of a label's probability that is spread evenly over all classes while training; `valid.loss` and `test.loss`
    /// are without it. Source: Szegedy et al. 2016, section 7.
    #[serde(default)]
    #[garde(range(min = 0.0, max = 0.99))]
    pub label_smoothing: f64,
    /// Factors on the training loss, not on `valid.loss` and `test.loss`: `balanced`, or a number for each class, 1 for those
    /// left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(dive)]
    pub class_weights: Option<ClassWeights>,
    /// Also measures how often the label is among the k most probable classes: `[5]` for `top5_accuracy`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[garde(length(max = 8), inner(range(min = 2, max = 1000)))]
    pub top_k: Vec<u16>,
    /// Batches whose mean gradient makes one step of the optimizer.
    #[serde(default = "default_one")]
    #[garde(range(min = 1, max = 65_536))]
    pub gradient_accumulation_steps: u32,
    /// Scales all gradients of a step down together where their norm is larger than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(inner(range(min = 1e-12, max = 1e12)))]
    #[schemars(range(min = 1e-12, max = 1e12))]
    pub clip_global_norm: Option<f64>,
    /// Passes over the training images, or stretches of `steps_per_epoch` steps; those of `plan` where it is left out.
    #[garde(range(min = 1, max = 1_000_000))]
    pub epochs: u32,
    /// Batches an epoch; the next epoch goes on where this one ended. All images once when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(inner(range(min = 1, max = 100_000_000)))]
    #[schemars(range(min = 1, max = 100_000_000))]
    pub steps_per_epoch: Option<u32>,
    /// Batches that are measured after every epoch, the same every time; all valid images when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(inner(range(min = 1, max = 100_000_000)))]
    #[schemars(range(min = 1, max = 100_000_000))]
    pub validation_steps: Option<u32>,
    /// Which epochs' checkpoints stay.
    #[serde(default)]
    #[garde(dive)]
    pub checkpoint: Checkpoint,
    /// Ends the training before its last epoch when nothing improves any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(dive)]
    pub early_stopping: Option<EarlyStopping>,
    /// What to do when the training loss is no longer a finite number.
    #[serde(default)]
    #[garde(skip)]
    pub on_nan: OnNan,
    /// A point of `train.loss` every so many optimizer steps.
    #[serde(default = "default_log_every")]
    #[garde(range(min = 1, max = 1_000_000))]
    pub log_every: u32,
    /// Up to so many validation images, what the best epoch's network says of each is kept with the run, which is what a
    /// sweep's points are compared by; 0 for never. Changes nothing else.
    #[serde(default = "default_max_recorded_predictions", skip_serializing_if = "is_default_max_recorded_predictions")]
    #[garde(range(max = 10_000_000))]
    pub max_recorded_predictions: u32,
    /// What `xp sweep` tries of this spec; `xp run` runs the spec as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(dive)]
    pub sweep: Option<Sweep>,
}

impl Spec {
    /// The metrics that decide something: which checkpoint is best, when training ends, when the rate falls.
    pub fn monitored(&self) -> Vec<MetricKey> {
        let early = self.early_stopping.as_ref().map(|stopping| stopping.monitor.key());
        let plateau = match &self.schedule {
            Schedule::Plateau(plateau) => Some(plateau.monitor.key()),
            _ => None,
        };
        let mut keys: Vec<MetricKey> =
            std::iter::once(self.checkpoint.monitor.key()).chain(early).chain(plateau).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// For a softmax over the classes.
    CrossEntropy,
    /// For one sigmoid unit.
    BinaryCrossEntropy,
}

/// Factors on the training loss by class.
#[derive(Clone, Debug, PartialEq)]
pub enum ClassWeights {
    /// `n / (n_classes · n_of_class)`, so that every class weighs the same.
    Balanced,
    /// By class name; a class that is left out weighs 1.
    ByClass(BTreeMap<String, f64>),
}

impl Validate for ClassWeights {
    type Context = ();

    fn validate_into(&self, _: &(), parent: &mut dyn FnMut() -> garde::Path, report: &mut garde::Report) {
        let Self::ByClass(weights) = self else { return };
        for (class, _) in weights.iter().filter(|(_, weight)| !(0.0..=1e6).contains(*weight)) {
            report.append(parent().join(class.as_str()), garde::Error::new("not within 0 and 1e6"));
        }
    }
}

impl Serialize for ClassWeights {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Balanced => serializer.serialize_str("balanced"),
            Self::ByClass(weights) => weights.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for ClassWeights {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ClassWeightsVisitor)
    }
}

struct ClassWeightsVisitor;

impl<'de> Visitor<'de> for ClassWeightsVisitor {
    type Value = ClassWeights;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`balanced`, or a number for each class")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<ClassWeights, E> {
        match text {
            "balanced" => Ok(ClassWeights::Balanced),
            _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ClassWeights, A::Error> {
        BTreeMap::deserialize(MapAccessDeserializer::new(map)).map(ClassWeights::ByClass)
    }
}

impl JsonSchema for ClassWeights {
    fn schema_name() -> Cow<'static, str> {
        "ClassWeights".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                { "const": "balanced", "description": "Every class weighs the same." },
                {
                    "type": "object",
                    "description": "A factor for each class by its name; a class that is left out weighs 1.",
                    "additionalProperties": {
                        "type": "number",
                        "minimum": 0.0,
                        "maximum": 1e6,
                        "description": "What the loss of this class' images is multiplied by.",
                    }
                }
            ]
        })
    }
}

/// Stops once the monitored metric's best epoch lies `patience` epochs back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub struct EarlyStopping {
    /// The metric that should improve.
    #[serde(default)]
    #[garde(skip)]
    pub monitor: Monitor,
    /// Epochs without improvement after which the training ends.
    #[garde(range(min = 1, max = 1_000_000))]
    pub patience: u32,
    /// A smaller change for the better does not count as one.
    #[serde(default)]
    #[garde(range(min = 0.0, max = 1e6))]
    pub min_delta: f64,
}

/// Which epoch counts as the best, and which checkpoints stay.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// The metric whose best epoch is tested, evaluated and exported.
    #[serde(default)]
    #[garde(skip)]
    pub monitor: Monitor,
    /// How many checkpoints stay.
    #[serde(default)]
    #[garde(dive)]
    pub keep: Keep,
}

/// Checkpoints that are not removed when newer ones come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Keep {
    /// Those of so many best epochs by `monitor`.
    #[garde(range(min = 1, max = 1_000_000))]
    pub best: u32,
    /// Those of so many last epochs; training goes on from the last.
    #[garde(range(min = 1, max = 1_000_000))]
    pub last: u32,
    /// Those of every so many epochs, for as long as the run is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(inner(range(min = 1, max = 1_000_000)))]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub every: Option<u32>,
}

impl Default for Keep {
    fn default() -> Self {
        Self { best: 1, last: 1, every: None }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnNan {
    /// The run fails and names the step; finished epochs stay.
    #[default]
    Stop,
    /// Training goes on; a warning names the epoch.
    Continue,
}

/// Names become parts of run names, so they must be easy to type in a shell.
fn plain_name(name: &str, _: &()) -> garde::Result {
    if is_plain_name(name) { Ok(()) } else { Err(garde::Error::new(PLAIN_NAME)) }
}

/// What [`is_plain_name`] asks for, for people.
pub const PLAIN_NAME: &str = "may hold letters, digits, `.`, `_` and `-`, and starts with a letter or digit";

/// Whether a name of an experiment, a run or a tag is easy to type and cannot be taken for anything else.
pub fn is_plain_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    name.chars().all(plain) && !name.is_empty() && !name.starts_with(['.', '_', '-'])
}

fn rates_in_range(rates: &BTreeMap<String, f64>, _: &()) -> garde::Result {
    let outside = rates.iter().find(|(_, rate)| !LEARNING_RATES.contains(*rate));
    outside.map_or(Ok(()), |(name, rate)| Err(garde::Error::new(format!("{name}: {rate} is not within 1e-12 and 1e3"))))
}

fn rates_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "additionalProperties": {
            "type": "number",
            "minimum": LEARNING_RATES.start(),
            "maximum": LEARNING_RATES.end(),
            "description": "The size of this part's steps, before the schedule.",
        }
    })
}

fn default_log_every() -> u32 {
    10
}

fn default_max_recorded_predictions() -> u32 {
    100_000
}

fn is_default_max_recorded_predictions(max: &u32) -> bool {
    *max == default_max_recorded_predictions()
}

fn default_one() -> u32 {
    1
}
