//! The walk through a data folder, in an order that only names decide.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::data::folder::{FolderError, IMAGE_EXTENSIONS};
use crate::data::listing::{ListedImage, OtherFiles};
use crate::data::location::Location;

/// What stands directly in the root.
pub struct Found {
    pub classes: Vec<String>,
    pub others: OtherFiles,
    /// Images in the root itself; they count as other files.
    pub n_images_outside: u64,
}

/// Lists the folders in the root, which are the classes.
pub fn classes(root: &Path) -> Result<Found, FolderError> {
    match std::fs::metadata(root) {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => return Err(FolderError::NotAFolder { path: root.to_owned() }),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(FolderError::Missing { path: root.to_owned() }),
        Err(source) => return Err(FolderError::Io { path: root.to_owned(), source }),
    }
    let mut found = Found { classes: Vec::new(), others: OtherFiles::default(), n_images_outside: 0 };
    for name in entries(root)? {
        match kind(root, Path::new(&name))? {
            Kind::Folder => found.classes.push(name),
            Kind::Image => {
                found.n_images_outside += 1;
                found.others.add(Path::new(&name));
            }
            Kind::Other => found.others.add(Path::new(&name)),
        }
    }
    Ok(found)
}

/// Collects the images of one class, depth first, names sorted bytewise.
pub fn images(
    root: &Arc<Path>,
    class: &str,
    label: u32,
    images: &mut Vec<ListedImage>,
    others: &mut OtherFiles,
) -> Result<(), FolderError> {
    // The root counts as seen, so that a class that links to it is empty and not a copy of the others.
    let mut seen = HashSet::from([canonical(root)?]);
    let mut pending = vec![PathBuf::from(class)];
    while let Some(relative) = pending.pop() {
        match kind(root, &relative)? {
            Kind::Image => {
                let location = Location::File { root: Arc::clone(root), path: relative };
                images.push(ListedImage { location, label });
            }
            Kind::Other => others.add(&relative),
            Kind::Folder => {
                let folder = root.join(&relative);
                if seen.insert(canonical(&folder)?) {
                    pending.extend(entries(&folder)?.iter().rev().map(|name| relative.join(name)));
                }
            }
        }
    }
    Ok(())
}

/// Every image below a folder, those that stand in it directly too, names sorted bytewise.
pub fn all_images(root: &Path) -> Result<Vec<PathBuf>, FolderError> {
    let root: Arc<Path> = root.into();
    let (mut found, mut others) = (Vec::new(), OtherFiles::default());
    for name in entries(&root)? {
        images(&root, &name, 0, &mut found, &mut others)?;
    }
    Ok(found.iter().map(|image| image.location.path()).collect())
}

enum Kind {
    Folder,
    Image,
    Other,
}

fn kind(root: &Path, relative: &Path) -> Result<Kind, FolderError> {
    let path = root.join(relative);
    let regular = match std::fs::metadata(&path) {
        Ok(metadata) if metadata.is_dir() => return Ok(Kind::Folder),
        Ok(metadata) => metadata.is_file(),
        // A link to nothing or to itself: reading it later says what is wrong with it.
        Err(_) if path.is_symlink() => true,
        Err(source) => return Err(FolderError::Io { path, source }),
    };
    let extension = relative.extension().and_then(OsStr::to_str).unwrap_or_default();
    let is_image = regular && IMAGE_EXTENSIONS.iter().any(|known| known.eq_ignore_ascii_case(extension));
    Ok(if is_image { Kind::Image } else { Kind::Other })
}

/// The names in a folder, hidden ones aside, sorted bytewise.
fn entries(folder: &Path) -> Result<Vec<String>, FolderError> {
    let io = |source| FolderError::Io { path: folder.to_owned(), source };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let name = entry.map_err(io)?.file_name();
        if name.as_encoded_bytes().starts_with(b".") {
            continue;
        }
        names.push(name.into_string().map_err(|name| FolderError::NameNotUtf8 { path: folder.join(name) })?);
    }
    names.sort_unstable();
    Ok(names)
}

fn canonical(folder: &Path) -> Result<PathBuf, FolderError> {
    folder.canonicalize().map_err(|source| FolderError::Io { path: folder.to_owned(), source })
}
