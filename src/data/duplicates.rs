//! The same image more than once: in two splits, where measuring says nothing about new images, or in one.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;

use crate::data::images::Images;
use crate::run::metric::Split;

/// Pairs that an error shows; the record has them all.
const MAX_SHOWN: usize = 20;

/// Columns that a pair may take on one line.
const LINE_WIDTH: usize = 80;

/// What was found more than once.
#[derive(Debug, Default)]
pub struct Duplicates {
    /// Images that an earlier split has too, by split and index.
    pub shared: Vec<Pair>,
    /// How many images of a split it already has; only splits with some.
    pub repeated: Vec<(Split, u64)>,
}

/// An image and the first one of an earlier split that is the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    pub image: (Split, PathBuf),
    pub first: (Split, PathBuf),
}

/// Two splits share images.
#[derive(Debug, thiserror::Error)]
#[error("keep the splits apart: {} images are in two of them, byte for byte", pairs.0.len())]
pub struct SharedImages {
    #[source]
    pub pairs: Pairs,
}

/// Images that are in two splits, as a list for people: the first, and how many more.
#[derive(Debug, thiserror::Error)]
pub struct Pairs(pub Vec<Pair>);

/// Compares all images of all splits by their hashes.
pub fn find<'a>(splits: impl Iterator<Item = &'a Images>) -> Duplicates {
    let mut first_by_hash: HashMap<&blake3::Hash, (&Images, usize)> = HashMap::new();
    let mut found = Duplicates::default();
    for images in splits {
        let mut n_repeated = 0;
        for (index, hash) in images.hashes().iter().enumerate() {
            match first_by_hash.get(hash) {
                None => {
                    first_by_hash.insert(hash, (images, index));
                }
                Some((first, _)) if first.split() == images.split() => n_repeated += 1,
                Some((first, first_index)) => {
                    let named = |images: &Images, index| (images.split(), images.name(index).into_owned());
                    found.shared.push(Pair { image: named(images, index), first: named(first, *first_index) });
                }
            }
        }
        if n_repeated > 0 {
            found.repeated.push((images.split(), n_repeated));
        }
    }
    found
}

impl fmt::Display for Pairs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for pair in self.0.iter().take(MAX_SHOWN) {
            let [image, first] = [&pair.image, &pair.first].map(|(split, path)| format!("{split} {}", path.display()));
            let line = format!("  {image} = {first}");
            if line.chars().count() <= LINE_WIDTH {
                writeln!(f, "{line}")?;
            } else {
                writeln!(f, "  {image}\n    = {first}")?;
            }
        }
        if let n_more @ 1.. = self.0.len().saturating_sub(MAX_SHOWN) {
            writeln!(f, "  and {n_more} more; `xp show --json` names them all")?;
        }
        f.write_str("remove them from one split, or accept them with `data.allow_duplicates: true`")
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::data::folder::scan;
    use crate::data::sample::{self, SETTINGS};
    use crate::run::stop::StopFlag;

    /// A split whose images are those of these numbers.
    fn images(split: Split, numbers: &[u32]) -> Images {
        let root = tempfile::tempdir().unwrap();
        for (i, number) in numbers.iter().enumerate() {
            let class = root.path().join(["a", "b"][i % 2]);
            std::fs::create_dir_all(&class).unwrap();
            sample::write_image(&class.join(format!("{i}.png")), *number);
        }
        Images::read(split, &scan(root.path()).unwrap(), &SETTINGS, &StopFlag::default(), &|_| ()).unwrap()
    }

    #[test]
    fn shared_images_are_paired_with_the_first_and_repeated_ones_counted() {
        let train = images(Split::Train, &[0, 1, 2, 0]);
        let valid = images(Split::Valid, &[5, 1, 6, 6]);
        let test = images(Split::Test, &[7, 8, 6, 1]);
        let found = find([&train, &valid, &test].into_iter());
        let pair = |image: (Split, &str), first: (Split, &str)| {
            let owned = |(split, path): (Split, &str)| (split, Path::new(path).to_owned());
            Pair { image: owned(image), first: owned(first) }
        };
        assert_eq!(
            found.shared,
            [
                pair((Split::Valid, "b/1.png"), (Split::Train, "b/1.png")),
                pair((Split::Test, "a/2.png"), (Split::Valid, "a/2.png")),
                pair((Split::Test, "b/3.png"), (Split::Train, "b/1.png")),
            ]
        );
        assert_eq!(found.repeated, [(Split::Train, 1), (Split::Valid, 1)]);
        let alone = find([&train].into_iter());
        assert!(alone.shared.is_empty());
    }

    #[test]
    fn a_list_of_pairs_fits_a_terminal() {
        let pair = |name: &str| Pair {
            image: (Split::Valid, PathBuf::from(format!("{name}.jpg"))),
            first: (Split::Train, PathBuf::from(format!("{name}.jpg"))),
        };
        let mut pairs = vec![pair(&"long".repeat(15))];
        pairs.extend((0..24).map(|i| pair(&format!("cats/{i}"))));
        let text = Pairs(pairs).to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[2], "  valid cats/0.jpg = train cats/0.jpg");
        assert_eq!(lines[21], "  and 5 more; `xp show --json` names them all");
        assert!(lines.len() == 23 && lines.iter().all(|line| line.chars().count() <= 80), "{text}");
    }
}
