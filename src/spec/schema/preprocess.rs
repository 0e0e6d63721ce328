//! `preprocess`: what pixels go through before they enter the network.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is done to pixels, named as Keras names its modes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Preprocess {
    /// What the weights were trained with.
    #[default]
    Backbone,
    /// Red, green and blue from 0 to 255, as they are.
    Raw,
    /// Red, green and blue from 0 to 1.
    Rescale,
    /// Blue, green and red from 0 to 255, less ImageNet's mean of each.
    Caffe,
    /// Red, green and blue from -1 to 1.
    Tf,
    /// Red, green and blue less ImageNet's mean, over its standard deviation.
    Torch,
}

impl Preprocess {
    /// The name as a spec writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Backbone => "backbone",
            Self::Raw => "raw",
            Self::Rescale => "rescale",
            Self::Caffe => "caffe",
            Self::Tf => "tf",
            Self::Torch => "torch",
        }
    }
}
