//! `model`: the backbone, what of it is frozen, and the head on it.

use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::spec::schema::weights::Weights;
use crate::spec::short_forms::FrozenLayers;

/// The network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// The pretrained network that the head stands on; `xp summary NAME` lists its rows. Left out where the data are
    /// features.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(skip)]
    pub backbone: Option<BackboneName>,
    /// What the backbone's weights are before training: `imagenet`, `random`, a source, or `{ file: FILE, as: SOURCE }`.
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
    /// VGG11, 9.2 million parameters: Simonyan and Zisserman 2015, column A.
    Vgg11,
    /// VGG13, 9.4 million parameters: the same, column B.
    Vgg13,
    /// VGG16, 14.7 million parameters: the same, column D.
    Vgg16,
    /// VGG19, 20.0 million parameters: the same, column E.
    Vgg19,
    /// VGG11 with a batch norm after every convolution.
    Vgg11Bn,
    /// VGG13 with a batch norm after every convolution.
    Vgg13Bn,
    /// VGG16 with a batch norm after every convolution.
    Vgg16Bn,
    /// VGG19 with a batch norm after every convolution.
    Vgg19Bn,
    /// ResNet18, 11.2 million parameters: He et al. 2015, table 1.
    Resnet18,
    /// ResNet34, 21.3 million parameters: the same.
    Resnet34,
    /// ResNet50, 23.5 million parameters: the same, of bottleneck blocks.
    Resnet50,
    /// ResNet101, 42.5 million parameters: the same, of bottleneck blocks.
    Resnet101,
    /// ResNet152, 58.1 million parameters: the same, of bottleneck blocks.
    Resnet152,
    /// MobileNetV2, 2.2 million parameters: Sandler et al. 2018, table 2.
    MobilenetV2,
    /// EfficientNet-Lite0, 3.4 million parameters: Tan and Le 2019, without squeeze-and-excitation.
    EfficientnetLite0,
    /// EfficientNet-Lite1, 4.1 million parameters.
    EfficientnetLite1,
    /// EfficientNet-Lite2, 4.8 million parameters.
    EfficientnetLite2,
    /// EfficientNet-Lite3, 6.9 million parameters.
    EfficientnetLite3,
    /// EfficientNet-Lite4, 11.7 million parameters.
    EfficientnetLite4,
    /// Two small blocks in the manner of VGG, for tests; there are no trained weights for it.
    VggTiny,
}

impl BackboneName {
    pub const ALL: [Self; 20] = [
        Self::Vgg11,
        Self::Vgg13,
        Self::Vgg16,
        Self::Vgg19,
        Self::Vgg11Bn,
        Self::Vgg13Bn,
        Self::Vgg16Bn,
        Self::Vgg19Bn,
        Self::Resnet18,
        Self::Resnet34,
        Self::Resnet50,
        Self::Resnet101,
        Self::Resnet152,
        Self::MobilenetV2,
        Self::EfficientnetLite0,
        Self::EfficientnetLite1,
        Self::EfficientnetLite2,
        Self::EfficientnetLite3,
        Self::EfficientnetLite4,
        Self::VggTiny,
    ];

    /// The name as a spec writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Vgg11 => "vgg11",
            Self::Vgg13 => "vgg13",
            Self::Vgg16 => "vgg16",
            Self::Vgg19 => "vgg19",
            Self::Vgg11Bn => "vgg11_bn",
            Self::Vgg13Bn => "vgg13_bn",
            Self::Vgg16Bn => "vgg16_bn",
            Self::Vgg19Bn => "vgg19_bn",
            Self::Resnet18 => "resnet18",
            Self::Resnet34 => "resnet34",
            Self::Resnet50 => "resnet50",
            Self::Resnet101 => "resnet101",
            Self::Resnet152 => "resnet152",
            Self::MobilenetV2 => "mobilenet_v2",
            Self::EfficientnetLite0 => "efficientnet_lite0",
            Self::EfficientnetLite1 => "efficientnet_lite1",
            Self::EfficientnetLite2 => "efficientnet_lite2",
            Self::EfficientnetLite3 => "efficientnet_lite3",
            Self::EfficientnetLite4 => "efficientnet_lite4",
            Self::VggTiny => "vgg_tiny",
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backbone_is_called_as_it_is_written() {
        for name in BackboneName::ALL {
            assert_eq!(serde_json::to_value(name).unwrap(), name.as_str());
        }
    }
}
