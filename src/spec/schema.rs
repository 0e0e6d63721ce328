//! Every key of a spec, its default and its range.

use std::path::PathBuf;

use garde::Validate;
use serde::{Deserialize, Serialize};

use crate::run::metric::{Measure, MetricKey, Split};
use crate::spec::short_forms::{DeviceChoice, FrozenLayers, ImageSize};

/// One experiment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// The experiment; runs of one experiment are listed together.
    #[garde(length(min = 1, max = 80), custom(plain_name))]
    pub name: String,
    /// Every random draw is a function of this number and what is drawn.
    #[serde(default)]
    #[garde(skip)]
    pub seed: u64,
    /// `auto`, `cpu`, `cuda` or `cuda:1`.
    #[serde(default)]
    #[garde(skip)]
    pub device: DeviceChoice,
    #[garde(dive)]
    pub data: Data,
    #[garde(dive)]
    pub model: Model,
    /// Random changes to training images.
    #[serde(default)]
    #[garde(skip)]
    pub augment: Augment,
    #[serde(default)]
    #[garde(dive)]
    pub optimizer: Optimizer,
    /// How the learning rate changes from step to step.
    #[serde(default)]
    #[garde(dive)]
    pub schedule: Schedule,
    /// Inferred from the head when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(skip)]
    pub loss: Option<Loss>,
    /// Passes over the training images.
    #[garde(range(min = 1, max = 1_000_000))]
    pub epochs: u32,
    #[serde(default)]
    #[garde(skip)]
    pub checkpoint: Checkpoint,
    /// Ends the training before its last epoch when nothing improves any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(dive)]
    pub early_stopping: Option<EarlyStopping>,
    /// A point of `train.loss` every so many optimizer steps.
    #[serde(default = "default_log_every")]
    #[garde(range(min = 1, max = 1_000_000))]
    pub log_every: u32,
}

/// The images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// A folder with one folder a class, relative to the spec file.
    #[garde(skip)]
    pub train: PathBuf,
    /// Measured after every epoch; chooses the best checkpoint.
    #[garde(skip)]
    pub valid: PathBuf,
    /// Measured once, at the end, with the best checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(skip)]
    pub test: Option<PathBuf>,
    /// Pixels, `96` or `[height, width]`; images are squashed to it.
    #[garde(dive)]
    pub image_size: ImageSize,
    /// How images are resized; by default as the weights were trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(skip)]
    pub resize: Option<Resize>,
    /// Images a step.
    #[serde(default = "default_batch_size")]
    #[garde(range(min = 1, max = 65_536))]
    pub batch_size: u32,
    /// What to do with a file that cannot be decoded.
    #[serde(default)]
    #[garde(skip)]
    pub on_bad_image: OnBadImage,
}

/// Resampling filters; bilinear and bicubic are antialiased as Pillow's are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resize {
    Nearest,
    Bilinear,
    Bicubic,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnBadImage {
    /// Stop before training and name every bad file.
    #[default]
    Error,
    /// Leave it out; it is named, counted and stored.
    Skip,
}

/// The network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct Model {
    #[garde(skip)]
    pub backbone: BackboneName,
    #[serde(default)]
    #[garde(skip)]
    pub weights: Weights,
    /// `15`, `all`, `none`, `{ through: NAME }` or `{ stages: 5 }`, counted as `xp summary` lists them.
    #[serde(default)]
    #[garde(skip)]
    pub frozen_layers: FrozenLayers,
    #[serde(default)]
    #[garde(skip)]
    pub batch_norm: BatchNormMode,
    /// What stands on the backbone; the last layer decides the loss.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(length(min = 1, max = 32), dive)]
    pub head: Option<Vec<HeadLayer>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackboneName {
    EfficientnetLite0,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Weights {
    /// The registry's default source.
    #[default]
    Imagenet,
    /// The family's published initialisation.
    Random,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BatchNormMode {
    /// Inference mode everywhere; scale and shift do not train either, as Keras' `trainable = False`.
    #[default]
    Frozen,
    /// Batch statistics and trained scale and shift in the layers that train.
    Train,
}

/// One layer of the head.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Validate)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum HeadLayer {
    GlobalAveragePool,
    Flatten,
    /// The fraction of activations dropped while training.
    Dropout(#[garde(range(min = 0.0, max = 0.99))] f64),
    Dense(#[garde(dive)] Dense),
}

/// A fully connected layer: glorot-uniform kernel, zero bias.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct Dense {
    #[garde(range(min = 1, max = 1_000_000))]
    pub units: u32,
    #[garde(skip)]
    pub activation: Activation,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    Relu,
    Softmax,
    Sigmoid,
}

/// Random changes to training images, drawn anew for every epoch and image.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Augment {
    /// Mirror left and right with probability one half.
    #[serde(default)]
    pub horizontal_flip: bool,
}

impl Augment {
    /// Whether anything is drawn at all.
    pub fn draws(&self) -> bool {
        self.horizontal_flip
    }
}

/// The optimizer, by Keras' formulas.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Validate)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Optimizer {
    Sgd(#[garde(dive)] Sgd),
    Adam(#[garde(dive)] Adam),
    Adamw(#[garde(dive)] AdamW),
    Rmsprop(#[garde(dive)] RmsProp),
}

impl Default for Optimizer {
    fn default() -> Self {
        Self::Adam(Adam { learning_rate: 1e-3, beta_1: 0.9, beta_2: 0.999, epsilon: 1e-7 })
    }
}

impl Optimizer {
    pub fn learning_rate(&self) -> f64 {
        match self {
            Self::Sgd(sgd) => sgd.learning_rate,
            Self::Adam(adam) => adam.learning_rate,
            Self::Adamw(adamw) => adamw.learning_rate,
            Self::Rmsprop(rmsprop) => rmsprop.learning_rate,
        }
    }
}

/// `v = momentum · v − learning_rate · g; w += v`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct Sgd {
    #[garde(range(min = 1e-12, max = 1e3))]
    pub learning_rate: f64,
    #[serde(default)]
    #[garde(range(min = 0.0, max = 0.9999))]
    pub momentum: f64,
    /// Nesterov's form: `w += momentum · v − learning_rate · g`.
    #[serde(default)]
    #[garde(skip)]
    pub nesterov: bool,
}

/// Adam with Keras' placement of epsilon: outside the bias correction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct Adam {
    #[garde(range(min = 1e-12, max = 1e3))]
    pub learning_rate: f64,
    #[serde(default = "default_beta_1")]
    #[garde(range(min = 0.0, max = 0.999_999))]
    pub beta_1: f64,
    #[serde(default = "default_beta_2")]
    #[garde(range(min = 0.0, max = 0.999_999_9))]
    pub beta_2: f64,
    #[serde(default = "default_epsilon")]
    #[garde(range(min = 1e-16, max = 1.0))]
    pub epsilon: f64,
}

/// Adam after `w −= learning_rate · weight_decay · w`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct AdamW {
    #[garde(range(min = 1e-12, max = 1e3))]
    pub learning_rate: f64,
    #[serde(default = "default_weight_decay")]
    #[garde(range(min = 0.0, max = 1.0))]
    pub weight_decay: f64,
    #[serde(default = "default_beta_1")]
    #[garde(range(min = 0.0, max = 0.999_999))]
    pub beta_1: f64,
    #[serde(default = "default_beta_2")]
    #[garde(range(min = 0.0, max = 0.999_999_9))]
    pub beta_2: f64,
    #[serde(default = "default_epsilon")]
    #[garde(range(min = 1e-16, max = 1.0))]
    pub epsilon: f64,
}

/// `a = rho · a + (1 − rho) · g²; w −= learning_rate · g / √(a + epsilon)`, with momentum when asked for.
///
/// Keras 2.0.8's form: `epsilon: 1e-8, epsilon_inside_sqrt: false`. TensorFlow 1's: `epsilon: 1e-10, initial_accumulator: 1`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct RmsProp {
    #[garde(range(min = 1e-12, max = 1e3))]
    pub learning_rate: f64,
    #[serde(default = "default_rho")]
    #[garde(range(min = 0.0, max = 0.999_999))]
    pub rho: f64,
    #[serde(default)]
    #[garde(range(min = 0.0, max = 0.9999))]
    pub momentum: f64,
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    CrossEntropy,
    BinaryCrossEntropy,
}

/// How the learning rate changes; each begins with the optimizer's `learning_rate`, after a warm-up if there is one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Validate)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Schedule {
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
}

impl Schedule {
    /// Epochs in which the learning rate rises linearly from 0.
    pub fn warmup_epochs(&self) -> u32 {
        match self {
            Self::Constant => 0,
            Self::Linear(warmup) | Self::Cosine(warmup) => warmup.warmup_epochs,
            Self::Exponential(decay) => decay.warmup_epochs,
            Self::Step(decay) => decay.warmup_epochs,
        }
    }
}

/// A schedule whose only setting is its warm-up.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct Warmup {
    #[serde(default)]
    #[garde(range(max = 1_000_000))]
    pub warmup_epochs: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct ExponentialDecay {
    #[garde(range(min = 1e-6, max = 1.0))]
    pub rate: f64,
    #[serde(default)]
    #[garde(range(max = 1_000_000))]
    pub warmup_epochs: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct StepDecay {
    #[garde(range(min = 1, max = 1_000_000))]
    pub every_epochs: u32,
    #[garde(range(min = 1e-6, max = 1.0))]
    pub factor: f64,
    #[serde(default)]
    #[garde(range(max = 1_000_000))]
    pub warmup_epochs: u32,
}

/// Stops once the monitored metric's best epoch lies `patience` epochs back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct EarlyStopping {
    #[serde(default)]
    #[garde(skip)]
    pub monitor: Monitor,
    #[garde(range(min = 1, max = 1_000_000))]
    pub patience: u32,
}

/// Which epoch counts as the best; the best and the last checkpoint are kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    #[serde(default)]
    pub monitor: Monitor,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Monitor {
    #[default]
    #[serde(rename = "valid.loss")]
    ValidLoss,
    #[serde(rename = "valid.accuracy")]
    ValidAccuracy,
}

impl Monitor {
    pub fn key(self) -> MetricKey {
        match self {
            Self::ValidLoss => MetricKey::new(Split::Valid, Measure::Loss),
            Self::ValidAccuracy => MetricKey::new(Split::Valid, Measure::Accuracy),
        }
    }
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

fn default_batch_size() -> u32 {
    32
}

fn default_log_every() -> u32 {
    10
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
