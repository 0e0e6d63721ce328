//! Holding out a part of the training images, the same part of every class.
//!
//! An image's place is drawn from its own name, so that images which come or go hardly move the others.

use crate::data::listing::Listing;
use crate::run::draw::{Address, Draws, Purpose};
use crate::run::metric::Split;

/// Which parts of the training images are held out, each above 0 and below 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Fractions {
    pub valid: Option<f64>,
    pub test: Option<f64>,
}

/// A class has too few images to be divided.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("hold out {n_held_out} of the {n_images} images of class {class:?}: none would be left to train on")]
pub struct TooFewImages {
    /// The split that asked for too much.
    pub split: Split,
    pub class: String,
    pub n_images: usize,
    /// In all splits together.
    pub n_held_out: usize,
}

/// Decides for every image of a listing in which split it is.
///
/// Of the n images of a class, `fraction · n` are held out, rounded, halves up, and at least one. Every class must keep
/// one. The images of a class stand in an order drawn from `seed`; valid takes from its beginning and test from its
/// end, so that neither depends on whether there is the other.
pub fn assign(listing: &Listing, fractions: Fractions, seed: u64) -> Result<Vec<Split>, TooFewImages> {
    let mut by_class: Vec<Vec<usize>> = vec![Vec::new(); listing.classes.len()];
    for (index, image) in listing.images.iter().enumerate() {
        by_class[image.label as usize].push(index);
    }
    let mut splits = vec![Split::Train; listing.images.len()];
    for (class, images) in listing.classes.iter().zip(by_class) {
        let n_valid = n_held_out(fractions.valid, images.len());
        let n_test = n_held_out(fractions.test, images.len());
        let n_all = n_valid.saturating_add(n_test);
        if n_all >= images.len() {
            let split = if n_test > 0 { Split::Test } else { Split::Valid };
            let (class, n_images) = (class.clone(), images.len());
            return Err(TooFewImages { split, class, n_images, n_held_out: n_all });
        }
        let drawn = drawn_order(listing, images, seed);
        let (valid, rest) = drawn.split_at(n_valid);
        valid.iter().for_each(|index| splits[*index] = Split::Valid);
        rest[rest.len() - n_test..].iter().for_each(|index| splits[*index] = Split::Test);
    }
    Ok(splits)
}

/// Divides a listing as [`assign`] has decided; the order of the images stays.
pub fn divide(listing: Listing, splits: &[Split]) -> Vec<(Split, Listing)> {
    let Listing { origin, classes, images, mut others, .. } = listing;
    let mut parts: Vec<(Split, Listing)> = Vec::new();
    for split in [Split::Train, Split::Valid, Split::Test].into_iter().filter(|split| splits.contains(split)) {
        // What is no image is told once, with the training images.
        let others = std::mem::take(&mut others);
        let (origin, classes) = (origin.clone(), classes.clone());
        parts.push((split, Listing { origin, is_part: true, classes, images: Vec::new(), others }));
    }
    for (image, split) in images.into_iter().zip(splits) {
        let part = parts.iter_mut().find(|(of, _)| of == split);
        part.expect("every split that occurs has a part").1.images.push(image);
    }
    parts
}

fn n_held_out(fraction: Option<f64>, n_images: usize) -> usize {
    fraction.map_or(0, |fraction| ((fraction * n_images as f64).round() as usize).max(1))
}

/// The images of one class in the order of what was drawn for each.
fn drawn_order(listing: &Listing, images: Vec<usize>, seed: u64) -> Vec<usize> {
    let draw = |index: usize| {
        let name = &listing.images[index].location.address();
        Draws::at(Address { seed, epoch: 0, sample: 0, purpose: Purpose::Partition, name }).next_u64()
    };
    let mut drawn: Vec<(u64, usize)> = images.into_iter().map(|index| (draw(index), index)).collect();
    drawn.sort_unstable();
    drawn.into_iter().map(|(_, index)| index).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::data::listing::{ListedImage, OtherFiles};
    use crate::data::location::Location;

    /// So many images of each class.
    fn listing(n_images: &[usize]) -> Listing {
        let image = |label: usize, i: usize| {
            let location =
                Location::File { root: Path::new("data").into(), path: PathBuf::from(format!("{label}/{i:03}.png")) };
            ListedImage { location, label: label as u32 }
        };
        let images = (0..).zip(n_images).flat_map(|(label, n)| (0..*n).map(move |i| image(label, i)));
        Listing {
            origin: PathBuf::from("data"),
            is_part: false,
            classes: (0..n_images.len()).map(|class| class.to_string()).collect(),
            images: images.collect(),
            others: OtherFiles { n: 1, example: Some(PathBuf::from("notes.txt")) },
        }
    }

    fn names(listing: &Listing, splits: &[Split], wanted: Split) -> BTreeSet<PathBuf> {
        let images = listing.images.iter().zip(splits).filter(|(_, split)| **split == wanted);
        images.map(|(image, _)| image.location.name().into_owned()).collect()
    }

    fn counts(n_images: usize, valid: f64, test: Option<f64>) -> [usize; 3] {
        let (listing, fractions) = (listing(&[n_images, n_images]), Fractions { valid: Some(valid), test });
        let splits = assign(&listing, fractions, 0).unwrap();
        [Split::Train, Split::Valid, Split::Test].map(|wanted| names(&listing, &splits, wanted).len() / 2)
    }

    #[test]
    fn every_class_gives_the_rounded_part_and_at_least_one() {
        assert_eq!(counts(10, 0.2, None), [8, 2, 0]);
        assert_eq!(counts(12, 0.2, None), [10, 2, 0]);
        assert_eq!(counts(13, 0.2, None), [10, 3, 0]);
        assert_eq!(counts(10, 0.25, None), [7, 3, 0]);
        assert_eq!(counts(2, 0.001, None), [1, 1, 0]);
        assert_eq!(counts(10, 0.2, Some(0.3)), [5, 2, 3]);
        assert_eq!(counts(3, 0.001, Some(0.001)), [1, 1, 1]);
    }

    #[test]
    fn a_class_that_would_keep_nothing_is_an_error() {
        let few = |n_images, valid, test| assign(&listing(&[9, n_images]), Fractions { valid, test }, 0).unwrap_err();
        let error = few(1, Some(0.2), None);
        assert_eq!((error.split, error.class.as_str(), error.n_images, error.n_held_out), (Split::Valid, "1", 1, 1));
        assert_eq!(few(3, Some(0.9), None).n_held_out, 3);
        let error = few(2, Some(0.1), Some(0.1));
        assert_eq!((error.split, error.n_held_out), (Split::Test, 2));
    }

    #[test]
    fn seeds_draw_different_images_and_the_same_seed_the_same() {
        let listing = listing(&[50, 50]);
        let valid = |seed| {
            let splits = assign(&listing, Fractions { valid: Some(0.2), test: None }, seed).unwrap();
            names(&listing, &splits, Split::Valid)
        };
        assert_eq!(valid(3), valid(3));
        let shared = valid(3).intersection(&valid(4)).count();
        assert!(shared < 15, "{shared} of 20");
    }

    #[test]
    fn neither_held_out_split_depends_on_the_other() {
        let listing = listing(&[50, 30]);
        let drawn =
            |valid, test, wanted| names(&listing, &assign(&listing, Fractions { valid, test }, 7).unwrap(), wanted);
        let both = |wanted| drawn(Some(0.2), Some(0.3), wanted);
        assert_eq!(both(Split::Valid), drawn(Some(0.2), None, Split::Valid));
        assert_eq!(both(Split::Test), drawn(None, Some(0.3), Split::Test));
        assert!(both(Split::Valid).is_disjoint(&both(Split::Test)));
    }

    #[test]
    fn an_image_more_hardly_moves_the_others() {
        let valid = |n_images| {
            let listing = listing(&[n_images, 20]);
            let splits = assign(&listing, Fractions { valid: Some(0.2), test: None }, 0).unwrap();
            names(&listing, &splits, Split::Valid)
        };
        let moved = valid(100).symmetric_difference(&valid(101)).count();
        assert!(moved <= 2, "{moved}");
    }

    #[test]
    fn parts_keep_their_order_and_other_files_are_told_once() {
        let listing = listing(&[10, 10]);
        let splits = assign(&listing, Fractions { valid: Some(0.2), test: None }, 0).unwrap();
        let parts = divide(listing, &splits);
        let [(Split::Train, train), (Split::Valid, valid)] = parts.as_slice() else { panic!("{parts:?}") };
        assert_eq!((train.images.len(), valid.images.len()), (16, 4));
        assert_eq!((train.others.n, valid.others.n), (1, 0));
        assert!(train.images.is_sorted_by_key(|image| image.location.name().into_owned()));
        assert!(train.is_part && valid.is_part);
    }

    #[test]
    fn draws_stay_what_they_were() {
        let listing = listing(&[10, 10]);
        let splits = assign(&listing, Fractions { valid: Some(0.2), test: None }, 0).unwrap();
        // Computed with Python's xxhash 4.1.0; who changes the draw changes the split of every run.
        let valid: Vec<String> =
            names(&listing, &splits, Split::Valid).iter().map(|name| name.display().to_string()).collect();
        assert_eq!(valid, ["0/007.png", "0/009.png", "1/008.png", "1/009.png"]);
    }
}
