//! What pixels go through before they enter a network, and what belongs to the weights of how images were made.

use std::fmt;

use serde::Serialize;

use crate::spec::schema::data::Resize;
use crate::spec::schema::preprocess::Preprocess;

/// The order of an image's planes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ChannelOrder {
    Rgb,
    Bgr,
}

impl ChannelOrder {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rgb => "RGB",
            Self::Bgr => "BGR",
        }
    }

    /// Which of a pixel's bytes, stored red, green, blue, a plane takes.
    pub const fn rgb_index(self, plane: usize) -> usize {
        match self {
            Self::Rgb => plane,
            Self::Bgr => 2 - plane,
        }
    }
}

/// `(x − mean) / deviation` for each plane of an image, x from 0 to 255.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PixelTransform {
    pub order: ChannelOrder,
    /// In the order of the planes, in pixel values 0 to 255.
    pub mean: [f32; 3],
    pub deviation: [f32; 3],
}

/// How the images were made that a set of weights was trained with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Preprocessing {
    pub pixels: PixelTransform,
    /// Height and width in pixels.
    pub image_size: u32,
    /// The part of the height and width that was left after cutting, where images were cut.
    pub crop_fraction: Option<f32>,
    /// The filter that images were resized with; `None` where it is not known.
    pub resize: Option<Resize>,
}

/// ImageNet's mean and standard deviation of each channel, red first, as torchvision has them, in pixel values.
const IMAGENET_MEAN: [f32; 3] = [0.485 * 255.0, 0.456 * 255.0, 0.406 * 255.0];
const IMAGENET_DEVIATION: [f32; 3] = [0.229 * 255.0, 0.224 * 255.0, 0.225 * 255.0];

impl PixelTransform {
    pub const RAW: Self = Self { order: ChannelOrder::Rgb, mean: [0.0; 3], deviation: [1.0; 3] };
    pub const RESCALE: Self = Self { order: ChannelOrder::Rgb, mean: [0.0; 3], deviation: [255.0; 3] };
    /// Source: Keras' `preprocess_input`, mode `caffe`.
    pub const CAFFE: Self = Self { order: ChannelOrder::Bgr, mean: [103.939, 116.779, 123.68], deviation: [1.0; 3] };
    /// Source: Keras' `preprocess_input`, mode `tf`: x / 127.5 − 1.
    pub const TF: Self = Self { order: ChannelOrder::Rgb, mean: [127.5; 3], deviation: [127.5; 3] };
    /// Source: torchvision's transforms of its weights; Keras' mode `torch` is the same.
    pub const TORCH: Self = Self { order: ChannelOrder::Rgb, mean: IMAGENET_MEAN, deviation: IMAGENET_DEVIATION };

    /// What a mode does, where it does not depend on the weights.
    pub const fn of(mode: Preprocess) -> Option<Self> {
        match mode {
            Preprocess::Backbone => None,
            Preprocess::Raw => Some(Self::RAW),
            Preprocess::Rescale => Some(Self::RESCALE),
            Preprocess::Caffe => Some(Self::CAFFE),
            Preprocess::Tf => Some(Self::TF),
            Preprocess::Torch => Some(Self::TORCH),
        }
    }

    /// Writes an image as planes.
    ///
    /// Shape: bytes `[h, w, 3]` → `[3, h, w]`.
    pub fn planes_from_pixels(&self, image_hwc: &[u8], image_chw: &mut [f32]) {
        let n_pixels = image_hwc.len() / 3;
        for (plane, values) in image_chw.chunks_exact_mut(n_pixels.max(1)).enumerate() {
            let (mean, deviation) = (self.mean[plane], self.deviation[plane]);
            let bytes = image_hwc.iter().skip(self.order.rgb_index(plane)).step_by(3);
            for (value, pixel) in values.iter_mut().zip(bytes) {
                *value = (f32::from(*pixel) - mean) / deviation;
            }
        }
    }
}

impl fmt::Display for PixelTransform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |values: [f32; 3]| match values {
            [a, b, c] if a == b && b == c => a.to_string(),
            values => format!("[{}]", values.map(|value| value.to_string()).join(", ")),
        };
        write!(f, "{}, ", self.order.as_str())?;
        match (self.mean == [0.0; 3], self.deviation == [1.0; 3]) {
            (true, true) => f.write_str("x as it is"),
            (true, false) => write!(f, "x / {}", list(self.deviation)),
            (false, true) => write!(f, "x − {}", list(self.mean)),
            (false, false) => write!(f, "(x − {}) / {}", list(self.mean), list(self.deviation)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keras 3.15's `imagenet_utils.preprocess_input` of the two pixels (10, 20, 30) and (0, 128, 255), by hand.
    #[test]
    fn modes_are_keras() {
        let planes = |mode| {
            let mut planes = [0.0; 6];
            let transform = PixelTransform::of(mode).unwrap();
            transform.planes_from_pixels(&[10, 20, 30, 0, 128, 255], &mut planes);
            planes
        };
        let close = |mode, expected: [f32; 6]| {
            let found = planes(mode);
            assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-4), "{mode:?}: {found:?}");
        };
        close(Preprocess::Raw, [10.0, 0.0, 20.0, 128.0, 30.0, 255.0]);
        close(Preprocess::Rescale, [0.039_215_7, 0.0, 0.078_431_4, 0.501_960_8, 0.117_647_06, 1.0]);
        close(Preprocess::Caffe, [-73.939, 151.061, -96.779, 11.221, -113.68, -123.68]);
        close(Preprocess::Tf, [-0.921_568_6, -1.0, -0.843_137_3, 0.003_921_57, -0.764_705_9, 1.0]);
        close(Preprocess::Torch, [-1.946_656_4, -2.117_904, -1.685_574_3, 0.205_182_1, -1.281_568_6, 2.64]);
    }

    #[test]
    fn a_transform_is_told_as_a_formula() {
        assert_eq!(PixelTransform::RAW.to_string(), "RGB, x as it is");
        assert_eq!(PixelTransform::RESCALE.to_string(), "RGB, x / 255");
        assert_eq!(PixelTransform::CAFFE.to_string(), "BGR, x − [103.939, 116.779, 123.68]");
        assert_eq!(PixelTransform::TF.to_string(), "RGB, (x − 127.5) / 127.5");
    }
}
