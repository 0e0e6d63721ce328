//! `data`: which images, how they are read, and how many make a step.

use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::spec::schema::source::{HeldOutSource, ImageSource};
use crate::spec::short_forms::ImageSize;

/// The images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// A folder with one folder a class, `{ csv: FILE }`, `{ idx: FILE, labels: FILE }` or, for a head alone,
    /// `{ features: FILE, labels: FILE }`, relative to the spec file.
    #[garde(dive)]
    pub train: ImageSource,
    /// Measured after every epoch; chooses the best checkpoint. Also `{ fraction: 0.2 }` of the training images.
    #[garde(dive)]
    pub valid: HeldOutSource,
    /// Measured once, at the end, with the best checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(dive)]
    pub test: Option<HeldOutSource>,
    /// Draws which images a `fraction` takes; apart from `seed`, so that seeds can be compared on the same split.
    #[serde(default)]
    #[garde(skip)]
    #[schemars(range(max = u64::MAX))]
    pub split_seed: u64,
    /// Pixels, `96` or `[height, width]`; images are squashed to it. Left out where the data are features.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(dive)]
    pub image_size: Option<ImageSize>,
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
    /// What to do with a camera's note that a photo lies on its side.
    #[serde(default)]
    #[garde(skip)]
    pub exif: Exif,
    /// How JPEG images become pixels.
    #[serde(default)]
    #[garde(skip)]
    pub decode: Decode,
    /// Accept that the same image, byte for byte, is in two splits.
    #[serde(default)]
    #[garde(skip)]
    pub allow_duplicates: bool,
}

/// Resampling filters; bilinear and bicubic are antialiased as Pillow's are.
impl Data {
    /// Where the images that are not trained on come from: valid and, where there is one, test.
    pub fn held_out(&self) -> impl Iterator<Item = &HeldOutSource> {
        std::iter::once(&self.valid).chain(&self.test)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Resize {
    /// The pixel that lies nearest.
    Nearest,
    /// A triangle over the pixels around.
    Bilinear,
    /// Piecewise cubic over the pixels around, with a = −0.5.
    Bicubic,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnBadImage {
    /// Stop before training and name every bad file.
    #[default]
    Error,
    /// Leave it out; it is named, counted and stored.
    Skip,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Exif {
    /// Take pixels as they are stored, as Keras and torchvision do; images with such a note are counted and warned about.
    #[default]
    Ignore,
    /// Turn and mirror the image as the note says.
    Apply,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Decode {
    /// As libjpeg-turbo does by default, and so Pillow, Keras and torchvision: colours that were stored at half their size
    /// are interpolated.
    #[default]
    LibjpegTurbo,
    /// As xp 0.1 did before it had this key: colours differ by up to some dozen levels at sharp edges. For runs of that
    /// time.
    Plain,
}

fn default_batch_size() -> u32 {
    32
}
