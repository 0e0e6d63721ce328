//! From what a spec says about a split's images to their list.

use std::path::{Path, PathBuf};

use crate::data::features::{self, FeaturesError, FeaturesFault};
use crate::data::folder::{self, FolderError};
use crate::data::idx::{self, IdxError};
use crate::data::listing::Listing;
use crate::data::manifest::{self, ManifestError};
use crate::data::npy::NpyFault;
use crate::data::partition::TooFewImages;
use crate::run::metric::Split;
use crate::spec::schema::source::ImageSource;

/// Why the images of a split cannot be listed.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error(transparent)]
    Idx(#[from] IdxError),
    #[error(transparent)]
    Features(#[from] FeaturesError),
    #[error(transparent)]
    TooFewImages(#[from] TooFewImages),
}

/// Lists the images of a source; `resolve` says where a path of the spec leads.
pub fn list(source: &ImageSource, split: Split, resolve: impl Fn(&Path) -> PathBuf) -> Result<Listing, SourceError> {
    Ok(match source {
        ImageSource::Folder(folder) => folder::scan(&resolve(folder))?,
        ImageSource::Csv(source) => manifest::list(&resolve(&source.csv), split)?,
        ImageSource::Idx(source) => {
            idx::list(&resolve(&source.idx), &resolve(&source.labels), source.classes.as_deref())?
        }
        ImageSource::Features(source) => {
            features::list(&resolve(&source.features), &resolve(&source.labels), source.classes.as_deref())?
        }
    })
}

impl SourceError {
    /// The key below the split's own that it is about; empty for the split itself.
    pub fn key(&self) -> &'static str {
        match self {
            Self::Folder(_) => "",
            Self::Manifest(_) => "csv",
            Self::Idx(error) => error.key,
            Self::Features(error) => error.key,
            Self::TooFewImages(_) => "fraction",
        }
    }

    pub fn hint(&self) -> &'static str {
        match self {
            Self::Folder(FolderError::NotAFolder { .. }) => {
                "a file of paths and labels is named by `{ csv: FILE }`, IDX files by `{ idx: FILE, labels: FILE }`"
            }
            Self::Folder(_) => "name a folder that holds a folder of images for each class, relative to the spec file",
            Self::Manifest(_) => {
                "a CSV file names the columns path and label, and split where it holds several, in its first line; \
                 paths are relative to the file"
            }
            Self::Idx(_) => "`idx` names a file of images as MNIST has them, `labels` that of their labels",
            Self::Features(error) => features_hint(error),
            Self::TooFewImages(_) => "hold out less, add images to the class, or move the class elsewhere",
        }
    }
}

/// What to do in NumPy about a file that cannot be used.
fn features_hint(error: &FeaturesError) -> &'static str {
    match (&error.fault, error.key) {
        (FeaturesFault::Npy(NpyFault::FortranOrder), _) => "save it again with `numpy.ascontiguousarray(array)`",
        (FeaturesFault::ValueType { .. }, "features") => "save it again with `array.astype(\"float32\")`",
        (FeaturesFault::ValueType { .. }, _) => "save it again with `labels.astype(\"int64\")`",
        (FeaturesFault::Shape { .. }, "labels") => "one-hot labels become numbers with `labels.argmax(axis=1)`",
        _ => {
            "`features` names an array of float32, (n, height, width, channels) or (n, features), `labels` one of n \
             numbers from 0, as `xp features` and `numpy.save` write them"
        }
    }
}
