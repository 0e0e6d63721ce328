//! CSV manifests: files that list images with their labels, and with their splits where they hold several.
//!
//! A hostile file costs bounded memory: its length, its rows and their length have limits.

mod rows;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::data::listing::{ListedImage, Listing, MAX_IMAGES, OtherFiles, quoted};
use crate::data::location::Location;
use crate::data::manifest::rows::Rows;
use crate::run::metric::Split;

/// Why a CSV file cannot be used as data.
#[derive(Debug, thiserror::Error)]
#[error("use the CSV file {}{}: {fault}", path.display(), line_text(*line))]
pub struct ManifestError {
    pub path: PathBuf,
    /// Counts from 1; `None` where it is about the whole file.
    pub line: Option<u64>,
    pub fault: ManifestFault,
}

/// What is wrong with a CSV file.
#[derive(Debug, thiserror::Error)]
pub enum ManifestFault {
    #[error("{0}")]
    Io(#[from] io::Error),

    #[error("it is empty; its first line must name the columns path and label")]
    Empty,

    #[error("there is no column {missing:?}; the columns are {}", quoted(found))]
    MissingColumn { missing: &'static str, found: Vec<String> },

    #[error("two columns are named {name:?}")]
    RepeatedColumn { name: &'static str },

    #[error("{what} is not UTF-8")]
    NotUtf8 { what: &'static str },

    #[error("there are {found} fields for {expected} columns; a name with a comma needs a quotation mark at both ends")]
    FieldCount { found: usize, expected: usize },

    #[error("the {column} is empty")]
    EmptyField { column: &'static str },

    #[error("the {column} has {n_bytes} bytes, more than {most}")]
    LongField { column: &'static str, n_bytes: usize, most: usize },

    #[error("{name:?} is no split; splits are train, valid and test")]
    UnknownSplit { name: String },

    #[error("cannot find the image {}: {error}", path.display())]
    MissingImage { path: PathBuf, error: io::Error },

    #[error("{} is no file", path.display())]
    NotAFile { path: PathBuf },

    #[error("{} is listed twice for this split, first in line {first_line}", path.display())]
    RepeatedPath { path: PathBuf, first_line: u64 },

    #[error("it has no {split} images in its {n_rows} rows")]
    NoImages { split: Split, n_rows: u64 },

    #[error("all of its {split} images are of the class {class:?}, and two classes are needed")]
    OneClass { split: Split, class: String },

    #[error("there are more than {MAX_IMAGES} rows")]
    TooManyRows,
}

fn line_text(line: Option<u64>) -> String {
    line.map_or_else(String::new, |line| format!(", line {line}"))
}

/// Lists the images of a split; where there is no column `split`, all images.
///
/// The first line names the columns `path` and `label`; columns of other names are passed over. Paths are relative to
/// the file's folder. Classes are sorted bytewise, images by class, then by path: the order of the rows means nothing.
pub fn list(file: &Path, split: Split) -> Result<Listing, ManifestError> {
    let at = |line, fault| ManifestError { path: file.to_owned(), line, fault };
    let mut rows = Rows::open(file)?;
    let mut label_by_class = BTreeMap::new();
    let mut images = Vec::new();
    let mut n_rows = 0;
    while let Some(line) = rows.next()? {
        let row = rows.row().map_err(|fault| at(Some(line), fault))?;
        n_rows += 1;
        if row.split.is_some_and(|other| other != split) {
            continue;
        }
        find_image(&rows.root.join(row.path)).map_err(|fault| at(Some(line), fault))?;
        let next_label = label_by_class.len() as u32;
        let label = match label_by_class.get(row.label) {
            Some(label) => *label,
            None => *label_by_class.entry(row.label.to_owned()).or_insert(next_label),
        };
        images.push(Image { path: PathBuf::from(row.path), label, line });
        if images.len() > MAX_IMAGES {
            return Err(at(Some(line), ManifestFault::TooManyRows));
        }
    }
    refuse_repeated_paths(&mut images).map_err(|(line, fault)| at(Some(line), fault))?;
    let mut classes = label_by_class.keys();
    match (classes.next(), classes.next()) {
        (None, _) => return Err(at(None, ManifestFault::NoImages { split, n_rows })),
        (Some(class), None) => return Err(at(None, ManifestFault::OneClass { split, class: class.clone() })),
        _ => {}
    }
    Ok(listing(file, &rows, label_by_class, images))
}

/// A row of the split that was asked for.
struct Image {
    path: PathBuf,
    /// By the classes' first occurrence.
    label: u32,
    line: u64,
}

fn listing(file: &Path, rows: &Rows, label_by_class: BTreeMap<String, u32>, images: Vec<Image>) -> Listing {
    let mut sorted_label = vec![0; label_by_class.len()];
    for (sorted, label) in (0..).zip(label_by_class.values()) {
        sorted_label[*label as usize] = sorted;
    }
    let image = |Image { path, label, .. }: Image| {
        let location = Location::File { root: Arc::clone(&rows.root), path };
        ListedImage { location, label: sorted_label[label as usize] }
    };
    let mut images: Vec<ListedImage> = images.into_iter().map(image).collect();
    // They are sorted by path already.
    images.sort_by_key(|image| image.label);
    Listing {
        origin: file.to_owned(),
        is_part: rows.name_splits(),
        classes: label_by_class.into_keys().collect(),
        images,
        others: OtherFiles::default(),
    }
}

/// A file that is not there would only be missed in the middle of reading all others.
fn find_image(path: &Path) -> Result<(), ManifestFault> {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => Ok(()),
        Ok(_) => Err(ManifestFault::NotAFile { path: path.to_owned() }),
        Err(error) => Err(ManifestFault::MissingImage { path: path.to_owned(), error }),
    }
}

/// Sorts images by path; the error is that of the first line that repeats one.
fn refuse_repeated_paths(images: &mut [Image]) -> Result<(), (u64, ManifestFault)> {
    images.sort_by(|a, b| a.path.cmp(&b.path).then(a.line.cmp(&b.line)));
    let pairs = images.windows(2).filter(|pair| pair[0].path == pair[1].path);
    match pairs.min_by_key(|pair| pair[1].line) {
        Some([first, again]) => {
            let (path, first_line) = (again.path.clone(), first.line);
            Err((again.line, ManifestFault::RepeatedPath { path, first_line }))
        }
        _ => Ok(()),
    }
}

/// Writes the images of all splits as a manifest that works wherever it lies: its paths are absolute.
///
/// What is in an IDX file is named as `images.gz#17`, which tells which image it is but is no file.
pub fn write(file: &Path, splits: &[(Split, Listing)]) -> io::Result<()> {
    let mut writer = csv::Writer::from_writer(BufWriter::new(File::create(file)?));
    writer.write_record(["path", "label", "split"])?;
    for (split, listing) in splits {
        for image in &listing.images {
            let path = std::path::absolute(image.location.path())?;
            let label = &listing.classes[image.label as usize];
            writer.write_record([path.as_os_str().as_encoded_bytes(), label.as_bytes(), split.as_str().as_bytes()])?;
        }
    }
    writer.flush()
}

#[cfg(test)]
mod tests;
