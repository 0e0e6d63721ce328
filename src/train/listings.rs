//! The images of every split, listed from where the spec says, divided as it says, and held against each other.

use crate::data::features::FeatureShape;
use crate::data::listing::Listing;
use crate::data::partition::{self, Fractions};
use crate::data::source::{self, SourceError};
use crate::run::metric::Split;
use crate::spec::LoadedSpec;
use crate::spec::problem::Problem;
use crate::spec::schema::data::Data;
use crate::spec::schema::source::{HeldOutSource, ImageSource};

/// Lists the images of all splits, those for training first; whatever is wrong is added to `problems`.
pub(super) fn of_spec(loaded: &LoadedSpec, problems: &mut Vec<Problem>) -> Vec<(Split, Listing)> {
    let data = &loaded.spec.data;
    let mut listings = Vec::new();
    for (split, source) in image_sources(data) {
        match source::list(source, split, |path| loaded.resolve(path)) {
            Ok(listing) => listings.push((split, listing)),
            Err(error) => problems.push(source_problem(split, &error)),
        }
    }
    problems.extend(same_source_problems(data, &listings));
    if !matches!(listings.first(), Some((Split::Train, _))) {
        return listings;
    }
    let (_, train) = listings.remove(0);
    if matches!(data.train, ImageSource::Folder(_)) {
        problems.extend(split_names_problem(&train));
    }
    let shape = train.feature_shape();
    for (split, listing) in &mut listings {
        problems.extend(shape_problem(*split, listing.feature_shape(), shape));
        if let Err(error) = listing.take_classes_of(&train.classes) {
            let hint = "every split needs the same classes; rename, move or relabel what differs";
            problems.push(Problem::new(&format!("data.{split}"), format!("cannot {error}"), hint));
        }
    }
    listings.extend(divided(train, data, problems));
    listings.sort_by_key(|(split, _)| *split);
    listings
}

/// Lists the images of one held-out split alone, the same as `of_spec` does.
pub fn of_split(loaded: &LoadedSpec, split: Split, source: &HeldOutSource) -> Result<Listing, SourceError> {
    let data = &loaded.spec.data;
    let images = |source, split| source::list(source, split, |path| loaded.resolve(path));
    match source {
        HeldOutSource::Images(source) => images(source, split),
        HeldOutSource::Fraction(_) => {
            let train = images(&data.train, Split::Train)?;
            let assigned = partition::assign(&train, fractions(data), data.split_seed)?;
            let mut parts = partition::divide(train, &assigned);
            let place =
                parts.iter().position(|(of, _)| *of == split).expect("a fraction takes an image of every class");
            Ok(parts.swap_remove(place).1)
        }
    }
}

/// The splits whose images are their own.
fn image_sources(data: &Data) -> impl Iterator<Item = (Split, &ImageSource)> {
    let held_out = [(Split::Valid, Some(&data.valid)), (Split::Test, data.test.as_ref())];
    let held_out = held_out.into_iter().filter_map(|(split, source)| match source {
        Some(HeldOutSource::Images(images)) => Some((split, images)),
        _ => None,
    });
    std::iter::once((Split::Train, &data.train)).chain(held_out)
}

fn fractions(data: &Data) -> Fractions {
    Fractions { valid: data.valid.fraction(), test: data.test.as_ref().and_then(HeldOutSource::fraction) }
}

/// The training images with what is held out of them; all of them for training where that cannot be.
fn divided(train: Listing, data: &Data, problems: &mut Vec<Problem>) -> Vec<(Split, Listing)> {
    let fractions = fractions(data);
    if fractions == Fractions::default() {
        return vec![(Split::Train, train)];
    }
    match partition::assign(&train, fractions, data.split_seed) {
        Ok(assigned) => partition::divide(train, &assigned),
        Err(error) => {
            problems.push(source_problem(error.split, &error.into()));
            vec![(Split::Train, train)]
        }
    }
}

fn source_problem(split: Split, error: &SourceError) -> Problem {
    Problem::new(&key(split, error.key()), format!("cannot {error}"), error.hint())
}

fn key(split: Split, below: &str) -> String {
    if below.is_empty() { format!("data.{split}") } else { format!("data.{split}.{below}") }
}

/// A split measured on the images of another says nothing.
fn same_source_problems(data: &Data, listings: &[(Split, Listing)]) -> Vec<Problem> {
    let is_same = |a: &Listing, b: &Listing| {
        !(a.is_part && b.is_part) && a.origin.canonicalize().ok() == b.origin.canonicalize().ok()
    };
    let mut problems = Vec::new();
    for (i, (split, listing)) in listings.iter().enumerate() {
        let Some((other, _)) = listings[..i].iter().find(|(_, other)| is_same(other, listing)) else { continue };
        let source = image_sources(data).find(|(of, _)| of == split).map(|(_, source)| source);
        let (below, what, hint) = match source {
            Some(ImageSource::Csv(_)) => ("csv", "file", "a file for several splits needs the column `split`"),
            Some(ImageSource::Idx(_)) => ("idx", "file", "every split needs images of its own"),
            Some(ImageSource::Features(_)) => ("features", "file", "every split needs features of its own"),
            _ => ("", "folder", "every split needs images of its own"),
        };
        problems.push(Problem::new(&key(*split, below), format!("is the same {what} as data.{other}"), hint));
    }
    problems
}

/// Features of one split that are shaped unlike the training split's.
pub(super) fn shape_problem(
    split: Split,
    found: Option<FeatureShape>,
    trained: Option<FeatureShape>,
) -> Option<Problem> {
    let (found, trained) = found.zip(trained).filter(|(found, trained)| found != trained)?;
    let message = format!("rows of the {split} split are {found}, and those of data.train {trained}");
    Some(Problem::new(&key(split, "features"), message, "all splits need features of the same layer and image size"))
}

/// One folder too high, the splits themselves look like classes.
fn split_names_problem(train: &Listing) -> Option<Problem> {
    const SPLITS: [&str; 5] = ["train", "valid", "val", "validation", "test"];
    train.classes.iter().all(|class| SPLITS.contains(&class.to_lowercase().as_str())).then(|| {
        let message = format!("its folders are splits, not classes: {}", train.classes.join(", "));
        Problem::new("data.train", message, "name the folder of one split, such as `photos/train`")
    })
}
