//! The images of one split: read once, hashed, and kept in memory as far as they fit.
//!
//! Owns which files are used and what their bytes were; the order in which a network sees them is for the loader.

mod pass;

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};

use crate::data::decode::{DecodeError, Decoded, RgbImage, decode_as};
use crate::data::features::FeatureShape;
use crate::data::idx::IdxError;
use crate::data::listing::{Listing, quoted};
use crate::data::location::{Content, Location};
use crate::data::resize::resize;
use crate::run::event::SkippedInput;
use crate::run::metric::Split;
use crate::spec::schema::data::{Decode, Exif, OnBadImage, Resize};

/// Bad files that an error lists; more are only counted.
pub const MAX_LISTED_BAD_IMAGES: usize = 1000;

/// How the images of a split are read.
#[derive(Clone, Copy, Debug)]
pub struct ReadSettings {
    /// Pixels, at least 1.
    pub height: u32,
    /// Pixels, at least 1.
    pub width: u32,
    pub filter: Resize,
    pub on_bad_image: OnBadImage,
    pub exif: Exif,
    pub decode: Decode,
    /// Memory for resized pixels; images that do not fit are decoded whenever they are asked for.
    pub cache_budget_bytes: u64,
    /// Threads that read and decode; 0 counts as 1.
    pub threads: usize,
}

/// Why a split could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// With `on_bad_image: skip` these are only files that could not be read at all.
    #[error("read {n_bad} of {n_images} {split} images in {}, first {}{}", origin.display(), first_of(bad), advice(bad))]
    BadImages {
        split: Split,
        origin: PathBuf,
        n_images: u64,
        n_bad: u64,
        /// The first [`MAX_LISTED_BAD_IMAGES`], in the listing's order.
        bad: Vec<BadImage>,
    },

    #[error("read any {split} image of {} in {}: every one was skipped", quoted(classes), origin.display())]
    ClassesLost { split: Split, origin: PathBuf, classes: Vec<String>, skipped: Vec<SkippedInput> },

    #[error("{source}")]
    Idx { source: IdxError },

    #[error("read the {split} images: stopped")]
    Stopped { split: Split },

    #[error("start threads that read images: {source}")]
    Threads { source: rayon::ThreadPoolBuildError },
}

/// A file that is no usable image.
#[derive(Debug)]
pub struct BadImage {
    /// Its name, as [`Location::name`] gives it.
    pub path: PathBuf,
    pub fault: Fault,
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error("read the file: {0}")]
    Unreadable(#[from] io::Error),

    #[error(transparent)]
    Undecodable(#[from] DecodeError),

    #[error("use it: value {index} of its features is {value}")]
    NotFinite { index: usize, value: f32 },
}

/// Why the pixels of an image that was read before could not be had again.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error("use {}: it has changed since the run began", path.display())]
    Changed { path: PathBuf },

    #[error("use {}, which was fine when the run began: {fault}", path.display())]
    Bad { path: PathBuf, fault: Fault },

    #[error("prepare image {index}: panicked: {reason}")]
    Panicked { index: u32, reason: String },

    #[error("start a thread that loads images: {source}")]
    Threads { source: io::Error },

    #[error("load images: the threads that do it have ended")]
    ThreadsLost,
}

/// What the network is given of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SampleShape {
    /// Three bytes a pixel.
    Pixels { height: u32, width: u32 },
    /// float32 as it is stored.
    Features(FeatureShape),
}

impl SampleShape {
    /// What a listing's images are once they are read.
    fn of(listing: &Listing, settings: &ReadSettings) -> Self {
        let pixels = Self::Pixels { height: settings.height, width: settings.width };
        listing.feature_shape().map_or(pixels, Self::Features)
    }

    pub fn n_bytes(self) -> usize {
        match self {
            Self::Pixels { height, width } => height as usize * width as usize * 3,
            Self::Features(shape) => shape.n_bytes(),
        }
    }
}

/// The usable images of one split; an image's index is its place in the listing's order.
#[derive(Debug)]
pub struct Images {
    split: Split,
    origin: PathBuf,
    classes: Vec<String>,
    settings: ReadSettings,
    shape: SampleShape,
    locations: Vec<Location>,
    labels: Vec<u32>,
    hashes: Vec<blake3::Hash>,
    /// Resized pixels of the images that fit in memory.
    cached: Vec<Option<Box<[u8]>>>,
    skipped: Vec<SkippedInput>,
    is_turned: Vec<bool>,
}

impl Images {
    pub fn split(&self) -> Split {
        self.split
    }

    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Never true of images that were read: every class has one.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Class names; the index is the label.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// By image index.
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// How an image is called, as [`Location::name`] gives it.
    pub fn name(&self, index: usize) -> Cow<'_, Path> {
        self.locations[index].name()
    }

    /// blake3 of every image's content, by image index.
    pub fn hashes(&self) -> &[blake3::Hash] {
        &self.hashes
    }

    /// Images that were left out, in the listing's order.
    pub fn skipped(&self) -> &[SkippedInput] {
        &self.skipped
    }

    /// Used images that are stored turned or mirrored and say so, whether or not that was heeded.
    pub fn n_turned(&self) -> u64 {
        self.is_turned.iter().filter(|is_turned| **is_turned).count() as u64
    }

    /// Whether an image is one of them.
    pub fn is_turned(&self, index: usize) -> bool {
        self.is_turned[index]
    }

    /// The first of them, relative to the split's folder.
    pub fn turned_example(&self) -> Option<Cow<'_, Path>> {
        self.is_turned.iter().position(|is_turned| *is_turned).map(|index| self.name(index))
    }

    pub fn shape(&self) -> SampleShape {
        self.shape
    }

    /// Bytes of one image: `height * width * 3`, or those of its features.
    pub fn image_bytes(&self) -> usize {
        self.shape.n_bytes()
    }

    /// Images whose pixels are in memory.
    pub fn n_cached(&self) -> usize {
        self.cached.iter().flatten().count()
    }

    /// Hash over the class names and every used image's label, name and bytes: blake3, 64 hex digits.
    ///
    /// Neither the folder's place nor the size images are resized to is part of it.
    pub fn hash(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"xp images 1\n").update(&(self.classes.len() as u64).to_le_bytes());
        for class in &self.classes {
            add_name(&mut hasher, class.as_bytes());
        }
        for ((label, location), hash) in self.labels.iter().zip(&self.locations).zip(&self.hashes) {
            hasher.update(&label.to_le_bytes());
            add_name(&mut hasher, location.name().as_os_str().as_encoded_bytes());
            hasher.update(hash.as_bytes());
        }
        hasher.finalize().to_hex().to_string()
    }

    /// Writes the resized pixels of an image, from memory or decoded again, or its features.
    ///
    /// Layout: `[height, width, channels]`, row by row. `index` is below `len()` and `out` has `image_bytes()` bytes.
    /// Errors: the file is gone, or no longer the one that was read.
    pub fn pixels_into(&self, index: usize, out: &mut [u8]) -> Result<(), ImageError> {
        if let Some(pixels) = &self.cached[index] {
            out.copy_from_slice(pixels);
            return Ok(());
        }
        let location = &self.locations[index];
        let bad = |fault: Fault| ImageError::Bad { path: location.path(), fault };
        let content = location.content().map_err(|error| bad(error.into()))?;
        if content.hash() != self.hashes[index] {
            return Err(ImageError::Changed { path: location.path() });
        }
        match decoded(content, self.settings.decode).map_err(|error| bad(error.into()))? {
            Readable::Image(decoded) => out.copy_from_slice(&resized(decoded, &self.settings).pixels_hwc),
            Readable::Features(row) => out.copy_from_slice(&row),
        }
        Ok(())
    }
}

/// Adds a name so that where it ends is part of the hash.
fn add_name(hasher: &mut blake3::Hasher, name: &[u8]) {
    hasher.update(&(name.len() as u64).to_le_bytes()).update(name);
}

/// Content as it is used; whether features are numbers is looked at once, when a split is read.
enum Readable {
    Image(Decoded),
    Features(Vec<u8>),
}

fn decoded(content: Content<'_>, how: Decode) -> Result<Readable, DecodeError> {
    match content {
        Content::File(bytes) => decode_as(&bytes, how).map(Readable::Image),
        Content::Pixels(pixels) => Ok(Readable::Image(pixels.rgb().into())),
        Content::Features(row) => Ok(Readable::Features(row)),
    }
}

/// What a network sees of an image.
fn resized(decoded: Decoded, settings: &ReadSettings) -> RgbImage {
    let image = match settings.exif {
        Exif::Ignore => decoded.image,
        Exif::Apply => decoded.upright(),
    };
    resize(&image, settings.height, settings.width, settings.filter)
}

/// What to do where what cannot be decoded is an error.
fn advice(bad: &[BadImage]) -> &'static str {
    let is_undecodable = |image: &BadImage| matches!(image.fault, Fault::Undecodable(_));
    if bad.iter().all(is_undecodable) { "; `data.on_bad_image: skip` leaves such images out" } else { "" }
}

fn first_of(bad: &[BadImage]) -> String {
    let path = |bad: &BadImage| bad.path.display().to_string().replace(char::is_control, " ");
    bad.first().map_or_else(String::new, |bad| format!("{}: {}", path(bad), bad.fault))
}

#[cfg(test)]
mod tests;
