//! The images of one split with their labels, wherever they come from, before any of them is read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::data::features::FeatureShape;
use crate::data::location::Location;

/// Most images that one file may list; ImageNet-21k has 14 million.
pub const MAX_IMAGES: usize = 1 << 24;

/// Names that a message shows.
const MAX_QUOTED: usize = 20;

/// The images of one split.
#[derive(Clone, Debug)]
pub struct Listing {
    /// The folder or the file that says which images there are.
    pub origin: PathBuf,
    /// Whether `origin` may hold the images of other splits, too.
    pub is_part: bool,
    /// The index is the label.
    pub classes: Vec<String>,
    /// In an order that only names and labels decide; an image's index is its place.
    pub images: Vec<ListedImage>,
    pub others: OtherFiles,
}

/// A file, or a part of one, that should be an image.
#[derive(Clone, Debug)]
pub struct ListedImage {
    pub location: Location,
    /// Index of its class.
    pub label: u32,
}

/// Files that are not images by their names, hidden ones aside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OtherFiles {
    pub n: u64,
    /// The first of them, relative to the listing's folder.
    pub example: Option<PathBuf>,
}

/// Two splits do not have the same classes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("match the classes of {} with those of the training images: {}", origin.display(), difference(missing, extra))]
pub struct ClassesDiffer {
    pub origin: PathBuf,
    /// Classes that only the training split has.
    pub missing: Vec<String>,
    /// Classes that only this split has.
    pub extra: Vec<String>,
}

impl OtherFiles {
    pub fn add(&mut self, relative: &Path) {
        self.n += 1;
        self.example.get_or_insert_with(|| relative.to_owned());
    }
}

impl Listing {
    /// The shape of its features, where it is no list of images.
    pub fn feature_shape(&self) -> Option<FeatureShape> {
        match &self.images.first()?.location {
            Location::Features { file, .. } => Some(file.shape()),
            Location::File { .. } | Location::Idx { .. } => None,
        }
    }

    /// Numbers the classes as the training split does; they must be the same, in any order.
    pub fn take_classes_of(&mut self, trained: &[String]) -> Result<(), ClassesDiffer> {
        let label_of: BTreeMap<&String, u32> = trained.iter().zip(0..).collect();
        let labels: Vec<Option<u32>> = self.classes.iter().map(|class| label_of.get(class).copied()).collect();
        let here: BTreeSet<&String> = self.classes.iter().collect();
        let missing: Vec<String> = trained.iter().filter(|class| !here.contains(class)).cloned().collect();
        let extra = self.classes.iter().zip(&labels).filter(|(_, label)| label.is_none());
        let extra: Vec<String> = extra.map(|(class, _)| class.clone()).collect();
        if !(missing.is_empty() && extra.is_empty()) {
            return Err(ClassesDiffer { origin: self.origin.clone(), missing, extra });
        }
        for image in &mut self.images {
            image.label = labels[image.label as usize].expect("every class is one of those");
        }
        self.classes = trained.to_vec();
        Ok(())
    }
}

fn difference(missing: &[String], extra: &[String]) -> String {
    let parts = [("missing", missing), ("extra", extra)];
    let parts = parts.iter().filter(|(_, names)| !names.is_empty());
    parts.map(|(what, names)| format!("{what} {}", quoted(names))).collect::<Vec<_>>().join("; ")
}

/// Names in quotes, with commas between; of very many the first.
pub(super) fn quoted(names: &[String]) -> String {
    let shown = names.iter().take(MAX_QUOTED).map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(MAX_QUOTED) {
        0 => shown,
        n_more => format!("{shown} and {n_more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_renumbered_as_the_training_split_numbers_them() {
        let at = |label| {
            let (root, path) = (Path::new("").into(), PathBuf::from("x"));
            ListedImage { location: Location::File { root, path }, label }
        };
        let classes = ["b", "c", "a"].map(str::to_owned);
        let mut listing = Listing {
            origin: PathBuf::from("data"),
            is_part: false,
            classes: ["a", "b", "c"].map(str::to_owned).to_vec(),
            images: [0, 1, 2, 1].map(at).to_vec(),
            others: OtherFiles::default(),
        };
        listing.take_classes_of(&classes).unwrap();
        assert_eq!(listing.classes, classes);
        assert_eq!(listing.images.iter().map(|image| image.label).collect::<Vec<_>>(), [2, 0, 1, 0]);

        let error = listing.take_classes_of(&["a", "b", "d", "e"].map(str::to_owned)).unwrap_err();
        assert!(error.to_string().ends_with(r#": missing "d", "e"; extra "c""#), "{error}");
        let many: Vec<String> = (0..100).map(|i| i.to_string()).collect();
        assert!(quoted(&many).ends_with(r#""19" and 80 more"#), "{}", quoted(&many));
    }
}
