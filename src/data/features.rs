//! Features saved as .npy, as `xp features`, NumPy and Keras write them: one array of them, another of their labels.
//!
//! Owns which row has which class and how a row is read; how such a file is laid out is for [`npy`].

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::data::listing::{ListedImage, Listing, MAX_IMAGES, OtherFiles, quoted};
use crate::data::location::{Location, open_regular, read_exact_at};
use crate::data::npy::{self, Header, NpyFault};

/// Largest row, bytes: four times what VGG16 gives at block1 for 224 × 224 pixels.
const MAX_ROW_BYTES: u64 = 64 << 20;

/// Largest label; the names of so many classes still fit on a screen's worth of scrolling.
const MAX_LABEL: u32 = 65_535;

/// Largest file of class names, bytes.
const MAX_NAMES_BYTES: u64 = 1 << 20;

/// Channels that are turned together: what a pixel's values are spread over stays in the nearest cache until it is full.
const TURNED_CHANNELS: usize = 16;

const F32_BYTES: u64 = size_of::<f32>() as u64;

/// Why saved features cannot be used as data.
#[derive(Debug, thiserror::Error)]
#[error("use {}: {fault}", path.display())]
pub struct FeaturesError {
    /// The key of the spec that is about it: `features`, `labels` or `classes`.
    pub key: &'static str,
    pub path: PathBuf,
    pub fault: FeaturesFault,
}

/// What is wrong with a file of features, of labels or of class names.
#[derive(Debug, thiserror::Error)]
pub enum FeaturesFault {
    #[error(transparent)]
    Npy(#[from] NpyFault),

    #[error("its values are of the type {descr}, and {expected} is needed")]
    ValueType { descr: String, expected: &'static str },

    #[error("its shape is {shape:?}, and {expected} is needed")]
    Shape { shape: Vec<u64>, expected: &'static str },

    #[error("its rows of {n_bytes} bytes are larger than {MAX_ROW_BYTES}")]
    LargeRows { n_bytes: u64 },

    #[error("its {n_rows} rows are more than {MAX_IMAGES}")]
    TooManyRows { n_rows: u64 },

    #[error("it has {n_labels} labels for {n_rows} rows of features")]
    Count { n_labels: u64, n_rows: u32 },

    #[error("label {index} is {value}, and labels are whole numbers from 0 to {MAX_LABEL}")]
    Label { index: usize, value: f64 },

    #[error("label {index} is {label}, and there are only {n_classes} classes, counted from 0")]
    LabelOutside { index: usize, label: u32, n_classes: usize },

    #[error("no row has the label of {}", quoted(classes))]
    EmptyClasses { classes: Vec<String> },

    #[error("all of its labels are {label}, and two classes are needed")]
    OneClass { label: u32 },

    #[error("the class {name:?} is named twice")]
    RepeatedClass { name: String },

    #[error("a class has an empty name")]
    UnnamedClass,

    #[error("its class names cannot be read: {reason}")]
    Names { reason: String },
}

/// A file of features: its shape, and the open file that rows are read from by their place.
///
/// It is not mapped into memory: that needs `unsafe`, and a file that is cut short under its mapping ends the process.
/// The kernel's page cache does the same work.
pub struct FeatureFile {
    path: PathBuf,
    file: File,
    start: u64,
    n_rows: u32,
    shape: FeatureShape,
}

/// The shape of one image's features. A vector has height and width 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeatureShape {
    pub height: u32,
    pub width: u32,
    pub channels: u32,
}

impl FeatureShape {
    pub fn n_values(self) -> usize {
        self.height as usize * self.width as usize * self.channels as usize
    }

    pub fn n_bytes(self) -> usize {
        self.n_values() * size_of::<f32>()
    }
}

impl std::fmt::Display for FeatureShape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "({}, {}, {})", self.height, self.width, self.channels)
    }
}

/// Lists the rows of a file of features with the labels of another; the features are not read yet.
///
/// Without `classes` their names are those of `classes.json` or `classes.txt` beside the labels, and without such a
/// file the labels that occur. Rows keep the file's order.
pub fn list(features: &Path, labels: &Path, classes: Option<&[String]>) -> Result<Listing, FeaturesError> {
    let file = Arc::new(FeatureFile::open(features)?);
    let values = read_labels(labels, file.n_rows).map_err(at("labels", labels))?;
    let beside;
    let names = match classes {
        Some(names) => Some((names, "classes", labels)),
        None => {
            beside = names_beside(labels)?;
            beside.as_ref().map(|(path, names)| (names.as_slice(), "labels", path.as_path()))
        }
    };
    let (classes, labels) = match names {
        Some((names, key, path)) => {
            check_names(names, &values).map_err(at(key, path))?;
            (names.to_vec(), values)
        }
        None => numbered(&values).map_err(at("labels", labels))?,
    };
    let image = |(index, label): (u32, u32)| ListedImage {
        location: Location::Features { file: Arc::clone(&file), index },
        label,
    };
    Ok(Listing {
        origin: features.to_owned(),
        is_part: false,
        images: (0..).zip(labels).map(image).collect(),
        classes,
        others: OtherFiles::default(),
    })
}

fn at(key: &'static str, path: &Path) -> impl Fn(FeaturesFault) -> FeaturesError {
    move |fault| FeaturesError { key, path: path.to_owned(), fault }
}

impl FeatureFile {
    /// Reads the header and holds it against the file's length.
    pub fn open(path: &Path) -> Result<Self, FeaturesError> {
        Self::opened(path).map_err(at("features", path))
    }

    fn opened(path: &Path) -> Result<Self, FeaturesFault> {
        let (file, header, n_bytes) = npy::open(path)?;
        if header.descr != "<f4" {
            return Err(FeaturesFault::ValueType { descr: header.descr, expected: "float32 (<f4)" });
        }
        let (n_rows, shape) = row_shape(&header)?;
        header.check_length(F32_BYTES, n_bytes)?;
        Ok(Self { path: path.to_owned(), file, start: header.start, n_rows, shape })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn shape(&self) -> FeatureShape {
        self.shape
    }

    /// Reads a row's bytes: float32, little-endian, `[height, width, channels]`.
    pub fn row(&self, index: u32) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; self.shape.n_bytes()];
        let place = self.start + u64::from(index) * self.shape.n_bytes() as u64;
        read_exact_at(&self.file, &mut bytes, place)?;
        Ok(bytes)
    }
}

/// Debug output that does not depend on a descriptor's number.
impl std::fmt::Debug for FeatureFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FeatureFile").field("path", &self.path).field("n_rows", &self.n_rows).finish_non_exhaustive()
    }
}

/// The first value that is no finite number, with its place in the row.
pub fn not_finite(row: &[u8]) -> Option<(usize, f32)> {
    values(row).enumerate().find(|(_, value)| !value.is_finite())
}

/// Brings rows of float32 from `[n, h, w, c]`, as they are stored, into `[n, c, h, w]`, as networks take them.
pub fn nchw_from_nhwc(rows: &[u8], shape: FeatureShape) -> Vec<f32> {
    let (n_pixels, n_channels) = (shape.height as usize * shape.width as usize, shape.channels as usize);
    if n_pixels == 1 {
        return values(rows).collect();
    }
    let mut nchw = vec![0.0; rows.len() / size_of::<f32>()];
    let images = nchw.chunks_exact_mut(shape.n_values()).zip(rows.chunks_exact(shape.n_bytes()));
    for (image_chw, row) in images {
        for (block, planes) in image_chw.chunks_mut(TURNED_CHANNELS * n_pixels).enumerate() {
            for (pixel, row) in row.chunks_exact(n_channels * size_of::<f32>()).enumerate() {
                let channels = values(&row[block * TURNED_CHANNELS * size_of::<f32>()..]);
                let places = planes[pixel..].iter_mut().step_by(n_pixels);
                places.zip(channels).for_each(|(place, value)| *place = value);
            }
        }
    }
    nchw
}

fn values(row: &[u8]) -> impl Iterator<Item = f32> {
    row.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes))
}

fn row_shape(header: &Header) -> Result<(u32, FeatureShape), FeaturesFault> {
    let wrong = || FeaturesFault::Shape {
        shape: header.shape.clone(),
        expected: "(n, height, width, channels) or (n, features), without a 0,",
    };
    let side = |side: u64| u32::try_from(side).ok().filter(|side| *side > 0).ok_or_else(wrong);
    let (n_rows, shape) = match *header.shape.as_slice() {
        [n, h, w, c] => (n, FeatureShape { height: side(h)?, width: side(w)?, channels: side(c)? }),
        [n, f] => (n, FeatureShape { height: 1, width: 1, channels: side(f)? }),
        _ => return Err(wrong()),
    };
    let sides = [shape.height, shape.width, shape.channels];
    let n_bytes = sides.iter().fold(F32_BYTES, |n, side| n.saturating_mul(u64::from(*side)));
    if n_bytes > MAX_ROW_BYTES {
        return Err(FeaturesFault::LargeRows { n_bytes });
    }
    if n_rows > MAX_IMAGES as u64 {
        return Err(FeaturesFault::TooManyRows { n_rows });
    }
    Ok((side(n_rows)?, shape))
}

/// Labels as whole numbers, whatever type they have in the file.
fn read_labels(path: &Path, n_rows: u32) -> Result<Vec<u32>, FeaturesFault> {
    let (file, header, n_bytes) = npy::open(path)?;
    let n_labels = match *header.shape.as_slice() {
        [n] | [n, 1] => n,
        _ => return Err(FeaturesFault::Shape { shape: header.shape, expected: "(n) or (n, 1)" }),
    };
    let Some(number) = number(&header.descr) else {
        let expected = "integers, or float32 of whole numbers,";
        return Err(FeaturesFault::ValueType { descr: header.descr, expected });
    };
    header.check_length(number.n_bytes as u64, n_bytes)?;
    if n_labels != u64::from(n_rows) {
        return Err(FeaturesFault::Count { n_labels, n_rows });
    }
    let mut file = BufReader::new(file);
    let mut label = |index: usize| {
        let mut bytes = [0; 8];
        file.read_exact(&mut bytes[..number.n_bytes]).map_err(NpyFault::Io)?;
        let value = (number.value)(bytes);
        let is_label = (0.0..=f64::from(MAX_LABEL)).contains(&value) && value.fract() == 0.0;
        if is_label { Ok(value as u32) } else { Err(FeaturesFault::Label { index, value }) }
    };
    (0..n_rows as usize).map(&mut label).collect()
}

/// How a label is stored, little-endian and padded with zeros to 8 bytes.
struct Number {
    n_bytes: usize,
    value: fn([u8; 8]) -> f64,
}

fn number(descr: &str) -> Option<Number> {
    /// The first bytes.
    fn first<const N: usize>(bytes: [u8; 8]) -> [u8; N] {
        *bytes.first_chunk().expect("no label is longer than 8 bytes")
    }
    let (n_bytes, value): (usize, fn([u8; 8]) -> f64) = match descr {
        "|b1" | "|u1" => (1, |bytes| f64::from(bytes[0])),
        "|i1" => (1, |bytes| f64::from(i8::from_le_bytes(first(bytes)))),
        "<u2" => (2, |bytes| f64::from(u16::from_le_bytes(first(bytes)))),
        "<i2" => (2, |bytes| f64::from(i16::from_le_bytes(first(bytes)))),
        "<u4" => (4, |bytes| f64::from(u32::from_le_bytes(first(bytes)))),
        "<i4" => (4, |bytes| f64::from(i32::from_le_bytes(first(bytes)))),
        "<u8" => (8, |bytes| u64::from_le_bytes(bytes) as f64),
        "<i8" => (8, |bytes| i64::from_le_bytes(bytes) as f64),
        "<f4" => (4, |bytes| f64::from(f32::from_le_bytes(first(bytes)))),
        "<f8" => (8, f64::from_le_bytes),
        _ => return None,
    };
    Some(Number { n_bytes, value })
}

/// Class names that lie beside a file of labels, as `xp features` leaves them or people write them.
fn names_beside(labels: &Path) -> Result<Option<(PathBuf, Vec<String>)>, FeaturesError> {
    let Some(path) = names_file(labels) else { return Ok(None) };
    let unreadable = |reason: String| at("labels", &path)(FeaturesFault::Names { reason });
    let text = read_text(&path).map_err(|error| unreadable(error.to_string()))?;
    let names = if path.extension().is_some_and(|extension| extension == "json") {
        serde_json::from_str(&text).map_err(|error| unreadable(error.to_string()))?
    } else {
        text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
    };
    Ok(Some((path, names)))
}

/// The file of class names beside a file of labels, if there is one.
pub fn names_file(labels: &Path) -> Option<PathBuf> {
    ["classes.json", "classes.txt"].map(|name| labels.with_file_name(name)).into_iter().find(|path| path.exists())
}

fn read_text(path: &Path) -> io::Result<String> {
    let (file, _) = open_regular(path)?;
    let mut text = String::new();
    file.take(MAX_NAMES_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

/// Holds names against the labels that occur: every label has a name, and every name a label.
fn check_names(names: &[String], labels: &[u32]) -> Result<(), FeaturesFault> {
    let mut seen = BTreeSet::new();
    if let Some(name) = names.iter().find(|name| !seen.insert(*name)) {
        return Err(FeaturesFault::RepeatedClass { name: name.clone() });
    }
    if names.iter().any(String::is_empty) {
        return Err(FeaturesFault::UnnamedClass);
    }
    let mut occurs = vec![false; names.len()];
    for (index, &label) in labels.iter().enumerate() {
        match occurs.get_mut(label as usize) {
            Some(occurs) => *occurs = true,
            None => return Err(FeaturesFault::LabelOutside { index, label, n_classes: names.len() }),
        }
    }
    let empty = names.iter().zip(occurs).filter(|(_, occurs)| !occurs).map(|(name, _)| name.clone());
    let empty: Vec<String> = empty.collect();
    if empty.is_empty() { Ok(()) } else { Err(FeaturesFault::EmptyClasses { classes: empty }) }
}

/// Classes named after the labels that occur, in their order, and every row's class.
fn numbered(labels: &[u32]) -> Result<(Vec<String>, Vec<u32>), FeaturesFault> {
    let occurring: Vec<u32> = labels.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
    if let [label] = *occurring {
        return Err(FeaturesFault::OneClass { label });
    }
    let class = |label: &u32| occurring.binary_search(label).expect("it occurs") as u32;
    Ok((occurring.iter().map(u32::to_string).collect(), labels.iter().map(class).collect()))
}

#[cfg(test)]
mod tests;
