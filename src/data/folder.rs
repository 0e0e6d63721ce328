//! What a data folder holds: a folder per class with images in it.
//!
//! Looks at names only; whether a file is an image is found out when it is read.

mod walk;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::data::listing::{Listing, quoted};

/// File name extensions of images, in any case.
pub const IMAGE_EXTENSIONS: [&str; 8] = ["jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff"];

/// Why a folder cannot be used as data.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    #[error("find the folder {}", path.display())]
    Missing { path: PathBuf },

    #[error("use {} as a folder of images: it is not a folder", path.display())]
    NotAFolder { path: PathBuf },

    #[error("look into {}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },

    #[error("use the name of {}: it is not UTF-8", path.display())]
    NameNotUtf8 { path: PathBuf },

    #[error(
        "find classes in {}: it holds no folders, and {n_images} images that belong to none",
        path.display()
    )]
    NoClasses { path: PathBuf, n_images: u64 },

    #[error("find two classes in {}: it holds only the folder {class:?}", path.display())]
    OneClass { path: PathBuf, class: String },

    #[error(
        "find images of every class in {}: no .{} file in {}",
        path.display(),
        IMAGE_EXTENSIONS.join("/."),
        quoted(classes)
    )]
    EmptyClasses { path: PathBuf, classes: Vec<String> },

    #[error("number the images in {}: {n_images} are more than {}", path.display(), u32::MAX)]
    TooManyImages { path: PathBuf, n_images: usize },
}

/// Lists the classes and images under `root`.
///
/// Every folder in it is a class and is searched with all its subfolders, through symbolic links too, each real folder
/// once a class. Classes are sorted bytewise, as Keras and torchvision do; images by class, then by path. Names that
/// begin with a dot are ignored. A broken link named like an image counts as one.
///
/// Errors: all empty classes at once; whatever else is wrong alone.
pub fn scan(root: &Path) -> Result<Listing, FolderError> {
    let mut found = walk::classes(root)?;
    match found.classes.as_slice() {
        [] => return Err(FolderError::NoClasses { path: root.to_owned(), n_images: found.n_images_outside }),
        [class] => return Err(FolderError::OneClass { path: root.to_owned(), class: class.clone() }),
        _ => {}
    }
    let root: Arc<Path> = root.into();
    let (mut images, mut empty) = (Vec::new(), Vec::new());
    for (label, class) in (0..).zip(&found.classes) {
        let n_before = images.len();
        walk::images(&root, class, label, &mut images, &mut found.others)?;
        if images.len() == n_before {
            empty.push(class.clone());
        }
    }
    let path = root.to_path_buf();
    if !empty.is_empty() {
        return Err(FolderError::EmptyClasses { path, classes: empty });
    }
    if u32::try_from(images.len()).is_err() {
        return Err(FolderError::TooManyImages { path, n_images: images.len() });
    }
    Ok(Listing { origin: path, is_part: false, classes: found.classes, images, others: found.others })
}

/// Every image below a folder by its path, whatever its classes.
pub fn images_below(folder: &Path) -> Result<Vec<PathBuf>, FolderError> {
    walk::all_images(folder)
}

#[cfg(test)]
mod tests;
