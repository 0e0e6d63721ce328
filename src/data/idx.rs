//! Images in IDX files, as MNIST comes: all images in one file, their labels in another, gzipped or not.
//!
//! Owns which image has which class and where its pixels are; how such a file is laid out is for [`file`].

mod file;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use crate::data::decode::{MAX_PIXELS, RgbImage};
use crate::data::listing::{ListedImage, Listing, MAX_IMAGES, OtherFiles, quoted};
use crate::data::location::Location;
use crate::run::stop::StopFlag;

/// Most bytes of pixels in one file: they are kept in memory.
const MAX_PIXEL_BYTES: u64 = 4 << 30;

/// Why IDX files cannot be used as data.
#[derive(Debug, thiserror::Error)]
#[error("use the IDX file {}: {fault}", path.display())]
pub struct IdxError {
    /// The key of the spec that is about it: `idx`, `labels` or `classes`.
    pub key: &'static str,
    pub path: PathBuf,
    pub fault: IdxFault,
}

/// What is wrong with an IDX file.
#[derive(Debug, thiserror::Error)]
pub enum IdxFault {
    #[error("{0}")]
    Io(#[from] io::Error),

    #[error("it does not begin as IDX files do")]
    NotIdx,

    #[error("its values are of the type {kind:#04x}, and only bytes (0x08) are read")]
    ValueType { kind: u8 },

    #[error("its shape is {found:?}, and {expected} is needed")]
    Shape { found: Vec<u32>, expected: &'static str },

    #[error("its shape is {shape:?}, so there are no pixels in it")]
    NoPixels { shape: Vec<u32> },

    #[error("its images of {height} x {width} pixels are larger than {MAX_PIXELS}")]
    LargeImages { height: u32, width: u32 },

    #[error("its header promises {promised} bytes, and its {n_bytes} bytes are fewer")]
    Short { promised: u64, n_bytes: u64 },

    #[error("its header promises {promised} bytes, more than {n_bytes} gzipped bytes can unpack to")]
    ShortGzip { promised: u64, n_bytes: u64 },

    #[error("it ends after {found} of the {promised} values that its header promises")]
    Truncated { promised: u64, found: u64 },

    #[error("it goes on after the {promised} values that its header promises")]
    Longer { promised: u64 },

    #[error("its {n_bytes} bytes of pixels are more than {MAX_PIXEL_BYTES}, which must fit in memory")]
    TooLarge { n_bytes: u64 },

    #[error("there is no memory for its {n_bytes} bytes")]
    Memory { n_bytes: u64 },

    #[error("its {n_images} images are more than {MAX_IMAGES}")]
    TooManyImages { n_images: u32 },

    #[error("it has {n_labels} labels for {n_images} images")]
    Count { n_labels: u32, n_images: u32 },

    #[error("label {index} is {label}, and there are only {n_classes} classes, counted from 0")]
    LabelOutside { index: usize, label: u8, n_classes: usize },

    #[error("no image has the label of {}", quoted(classes))]
    EmptyClasses { classes: Vec<String> },

    #[error("all of its labels are {label}, and two classes are needed")]
    OneClass { label: u8 },

    #[error("the class {name:?} is named twice")]
    RepeatedClass { name: String },

    #[error("a class has an empty name")]
    UnnamedClass,

    #[error("it has changed since it was looked at")]
    Changed,

    #[error("stopped")]
    Stopped,
}

/// A file of images: its shape, and its pixels once they are loaded.
pub struct IdxImages {
    path: PathBuf,
    n_images: u32,
    height: u32,
    width: u32,
    /// 1 or 3.
    channels: u32,
    pixels: OnceLock<Vec<u8>>,
}

/// The pixels of one image.
#[derive(Clone, Copy, Debug)]
pub struct Pixels<'a> {
    height: u32,
    width: u32,
    /// Row by row, gray or red first; `height * width` or three times as many.
    bytes: &'a [u8],
}

/// Lists the images of one file with the labels of another; the pixels are not read yet.
///
/// Without `classes`, the labels that occur name the classes. Images keep the file's order.
pub fn list(images: &Path, labels: &Path, classes: Option<&[String]>) -> Result<Listing, IdxError> {
    let file = Arc::new(IdxImages::open(images).map_err(at("idx", images))?);
    let values = read_labels(labels, file.n_images).map_err(at("labels", labels))?;
    let classes = match classes {
        Some(names) => named(names, &values).map_err(|(key, fault)| at(key, labels)(fault))?,
        None => numbered(&values).map_err(at("labels", labels))?,
    };
    let image = |(index, value): (u32, &u8)| {
        let location = Location::Idx { file: Arc::clone(&file), index };
        ListedImage { location, label: classes.label_by_value[usize::from(*value)] }
    };
    Ok(Listing {
        origin: images.to_owned(),
        is_part: false,
        images: (0..).zip(&values).map(image).collect(),
        classes: classes.names,
        others: OtherFiles::default(),
    })
}

/// Makes an error of a fault.
fn at(key: &'static str, path: &Path) -> impl Fn(IdxFault) -> IdxError {
    move |fault| IdxError { key, path: path.to_owned(), fault }
}

/// The classes of a file, and which of them each value of a label means.
struct Classes {
    names: Vec<String>,
    label_by_value: [u32; 256],
}

/// Classes that the spec names, by label.
fn named(names: &[String], values: &[u8]) -> Result<Classes, (&'static str, IdxFault)> {
    let mut seen = BTreeSet::new();
    if let Some(name) = names.iter().find(|name| !seen.insert(*name)) {
        return Err(("classes", IdxFault::RepeatedClass { name: name.clone() }));
    }
    if names.iter().any(String::is_empty) {
        return Err(("classes", IdxFault::UnnamedClass));
    }
    if let Some((index, &label)) = values.iter().enumerate().find(|(_, value)| usize::from(**value) >= names.len()) {
        return Err(("labels", IdxFault::LabelOutside { index, label, n_classes: names.len() }));
    }
    let occurs = occurring(values);
    let empty: Vec<String> =
        names.iter().zip(occurs).filter(|(_, occurs)| !occurs).map(|(name, _)| name.clone()).collect();
    if !empty.is_empty() {
        return Err(("classes", IdxFault::EmptyClasses { classes: empty }));
    }
    Ok(Classes { names: names.to_vec(), label_by_value: std::array::from_fn(|value| value as u32) })
}

/// Classes named after the labels that occur, in their order.
fn numbered(values: &[u8]) -> Result<Classes, IdxFault> {
    let occurs = occurring(values);
    let mut classes = Classes { names: Vec::new(), label_by_value: [0; 256] };
    for value in (0..256).filter(|value| occurs[*value]) {
        classes.label_by_value[value] = classes.names.len() as u32;
        classes.names.push(value.to_string());
    }
    match (classes.names.len(), values.first()) {
        (1, Some(&label)) => Err(IdxFault::OneClass { label }),
        _ => Ok(classes),
    }
}

fn occurring(values: &[u8]) -> [bool; 256] {
    let mut occurs = [false; 256];
    for value in values {
        occurs[usize::from(*value)] = true;
    }
    occurs
}

fn read_labels(path: &Path, n_images: u32) -> Result<Vec<u8>, IdxFault> {
    let opened = file::open(path)?;
    match *opened.shape.as_slice() {
        [n_labels] if n_labels == n_images => opened.values(&StopFlag::default()),
        [n_labels] => Err(IdxFault::Count { n_labels, n_images }),
        _ => Err(IdxFault::Shape { found: opened.shape, expected: "[n]" }),
    }
}

impl IdxImages {
    /// Reads the header.
    fn open(path: &Path) -> Result<Self, IdxFault> {
        let opened = file::open(path)?;
        let (n_images, height, width, channels) = match *opened.shape.as_slice() {
            [n, height, width] => (n, height, width, 1),
            [n, height, width, 3] => (n, height, width, 3),
            _ => return Err(IdxFault::Shape { found: opened.shape, expected: "[n, height, width]" }),
        };
        if opened.n_values == 0 {
            return Err(IdxFault::NoPixels { shape: opened.shape });
        }
        if u64::from(height) * u64::from(width) > MAX_PIXELS {
            return Err(IdxFault::LargeImages { height, width });
        }
        if n_images as usize > MAX_IMAGES {
            return Err(IdxFault::TooManyImages { n_images });
        }
        if opened.n_values > MAX_PIXEL_BYTES {
            return Err(IdxFault::TooLarge { n_bytes: opened.n_values });
        }
        Ok(Self { path: path.to_owned(), n_images, height, width, channels, pixels: OnceLock::new() })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads all pixels into memory, once.
    pub fn load(&self, stop: &StopFlag) -> Result<(), IdxError> {
        if self.pixels.get().is_some() {
            return Ok(());
        }
        let read = || {
            let opened = file::open(&self.path)?;
            let n_values = u64::from(self.n_images) * self.image_len() as u64;
            if opened.n_values == n_values { opened.values(stop) } else { Err(IdxFault::Changed) }
        };
        let pixels = read().map_err(at("idx", &self.path))?;
        // Whoever else has loaded them meanwhile has loaded the same.
        let _ = self.pixels.set(pixels);
        Ok(())
    }

    /// The pixels of an image; `index` is below the number of images, and they were loaded.
    pub fn image(&self, index: u32) -> Pixels<'_> {
        let pixels = self.pixels.get().expect("a file is loaded before its images are read");
        let bytes = &pixels[index as usize * self.image_len()..][..self.image_len()];
        Pixels { height: self.height, width: self.width, bytes }
    }

    fn image_len(&self) -> usize {
        self.height as usize * self.width as usize * self.channels as usize
    }
}

/// The pixels would be millions of lines.
impl std::fmt::Debug for IdxImages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IdxImages").field("path", &self.path).field("n_images", &self.n_images).finish_non_exhaustive()
    }
}

impl Pixels<'_> {
    /// blake3 of the size and the pixels.
    pub fn hash(&self) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.height.to_le_bytes()).update(&self.width.to_le_bytes()).update(self.bytes).finalize()
    }

    /// Gray becomes red, green and blue of the same level.
    pub fn rgb(&self) -> RgbImage {
        let Self { height, width, bytes } = *self;
        let is_gray = bytes.len() == height as usize * width as usize;
        let pixels_hwc = if is_gray { bytes.iter().flat_map(|level| [*level; 3]).collect() } else { bytes.to_vec() };
        RgbImage { height, width, pixels_hwc }
    }
}

#[cfg(test)]
mod tests;
