//! What a data folder holds: a folder per class with images in it.
//!
//! Looks at names only; whether a file is an image is found out when it is read.

mod walk;

use std::path::{Path, PathBuf};

/// File name extensions of images, in any case.
pub const IMAGE_EXTENSIONS: [&str; 8] = ["jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff"];

/// The images of one split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    pub root: PathBuf,
    /// Sorted bytewise, as Keras and torchvision do; the index is the label.
    pub classes: Vec<String>,
    /// By class, then by path.
    pub files: Vec<ImageFile>,
    /// Files that are not images by their names, hidden ones aside.
    pub n_other_files: u64,
    /// The first of them, relative to the root.
    pub other_file_example: Option<PathBuf>,
}

/// A file that should be an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageFile {
    /// Relative to the root; UTF-8.
    pub path: PathBuf,
    /// Index of its class.
    pub label: u32,
}

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

/// Two splits do not have the same classes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("match the classes of {} with those of {}: {}", other.display(), train.display(), difference(missing, extra))]
pub struct ClassesDiffer {
    pub train: PathBuf,
    pub other: PathBuf,
    /// Classes that only the training split has.
    pub missing: Vec<String>,
    /// Classes that only the other split has.
    pub extra: Vec<String>,
}

/// Lists the classes and images under `root`.
///
/// Every folder in it is a class and is searched with all its subfolders, through symbolic links too, each real folder
/// once a class. Names that begin with a dot are ignored. A broken link named like an image counts as one.
///
/// Errors: all empty classes at once; whatever else is wrong alone.
pub fn scan(root: &Path) -> Result<Folder, FolderError> {
    let mut found = walk::classes(root)?;
    match found.classes.as_slice() {
        [] => return Err(FolderError::NoClasses { path: root.to_owned(), n_images: found.n_images_outside }),
        [class] => return Err(FolderError::OneClass { path: root.to_owned(), class: class.clone() }),
        _ => {}
    }
    let mut empty = Vec::new();
    for (label, class) in (0..).zip(&found.classes) {
        let n_before = found.files.len();
        walk::images(root, class, label, &mut found.files, &mut found.others)?;
        if found.files.len() == n_before {
            empty.push(class.clone());
        }
    }
    if !empty.is_empty() {
        return Err(FolderError::EmptyClasses { path: root.to_owned(), classes: empty });
    }
    if u32::try_from(found.files.len()).is_err() {
        return Err(FolderError::TooManyImages { path: root.to_owned(), n_images: found.files.len() });
    }
    Ok(Folder {
        root: root.to_owned(),
        classes: found.classes,
        files: found.files,
        n_other_files: found.others.n,
        other_file_example: found.others.example,
    })
}

/// Checks that another split has exactly the classes of the training split.
pub fn same_classes(train: &Folder, other: &Folder) -> Result<(), ClassesDiffer> {
    let only_in = |these: &Folder, those: &Folder| -> Vec<String> {
        these.classes.iter().filter(|class| those.classes.binary_search(class).is_err()).cloned().collect()
    };
    let (missing, extra) = (only_in(train, other), only_in(other, train));
    if missing.is_empty() && extra.is_empty() {
        Ok(())
    } else {
        Err(ClassesDiffer { train: train.root.clone(), other: other.root.clone(), missing, extra })
    }
}

fn difference(missing: &[String], extra: &[String]) -> String {
    let parts = [("missing", missing), ("extra", extra)];
    let parts = parts.iter().filter(|(_, names)| !names.is_empty());
    parts.map(|(what, names)| format!("{what} {}", quoted(names))).collect::<Vec<_>>().join("; ")
}

/// Names in quotes, with commas between.
pub(super) fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
