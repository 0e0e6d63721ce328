//! `model`: the backbone, what of it is frozen, and the head on it.

use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::spec::short_forms::FrozenLayers;

/// The network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// The pretrained network that the head stands on; `xp summary NAME` lists its rows.
    #[garde(skip)]
    pub backbone: BackboneName,
    /// What the backbone's weights are before training.
    #[serde(default)]
    #[garde(skip)]
    pub weights: Weights,
    /// `15`, `all`, `none`, `{ through: NAME }` or `{ stages: 5 }`, counted as `xp summary` lists them.
    #[serde(default)]
    #[garde(skip)]
    pub frozen_layers: FrozenLayers,
    /// What the batch norms of the layers that train do.
    #[serde(default)]
    #[garde(skip)]
    pub batch_norm: BatchNormMode,
    /// What stands on the backbone; the last layer decides the loss.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(length(min = 1, max = 32), dive)]
    pub head: Option<Vec<HeadLayer>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BackboneName {
    /// EfficientNet-Lite0, 3.4 million parameters: Tan and Le 2019, without squeeze-and-excitation.
    EfficientnetLite0,
    /// VGG16 without its classifier, 14.7 million parameters: Simonyan and Zisserman 2015, column D.
    Vgg16,
}

impl BackboneName {
    pub const ALL: [Self; 2] = [Self::EfficientnetLite0, Self::Vgg16];
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Weights {
    /// The registry's default source.
    #[default]
    Imagenet,
    /// The family's published initialisation.
    Random,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BatchNormMode {
    /// Inference mode everywhere; scale and shift do not train either, as Keras' `trainable = False`.
    #[default]
    Frozen,
    /// Batch statistics and trained scale and shift in the layers that train.
    Train,
}

/// One layer of the head.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum HeadLayer {
    /// The mean of every channel over height and width.
    GlobalAveragePool,
    /// All values of the map in a row.
    Flatten,
    /// The fraction of activations dropped while training.
    Dropout(#[garde(range(min = 0.0, max = 0.99))] f64),
    /// A fully connected layer.
    Dense(#[garde(dive)] Dense),
}

/// A fully connected layer: glorot-uniform kernel, zero bias.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub struct Dense {
    /// Outputs; in the last layer the number of classes, or 1 for a sigmoid.
    #[garde(range(min = 1, max = 1_000_000))]
    pub units: u32,
    /// What follows the product; the last layer's decides the loss.
    #[garde(skip)]
    pub activation: Activation,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `max(x, 0)`; for layers that are not the last.
    Relu,
    /// Probabilities over the classes.
    Softmax,
    /// The probability of the second of two classes.
    Sigmoid,
}
