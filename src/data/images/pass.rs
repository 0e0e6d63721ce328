//! The one pass over all files of a split that decides which are used.

use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;

use crate::data::features;
use crate::data::idx::IdxFault;
use crate::data::images::{
    BadImage, Fault, Images, MAX_LISTED_BAD_IMAGES, ReadError, ReadSettings, Readable, SampleShape, decoded, resized,
};
use crate::data::listing::{ListedImage, Listing};
use crate::data::location::Location;
use crate::run::event::SkippedInput;
use crate::run::metric::Split;
use crate::run::stop::StopFlag;
use crate::spec::schema::data::OnBadImage;

/// Images between two looks at how much room is left. A constant, so that threads do not decide what is cached.
const CHUNK_IMAGES: usize = 512;

/// An image: the hash of its content, and its resized pixels if there was room for them.
struct Usable {
    hash: blake3::Hash,
    is_turned: bool,
    pixels: Option<Box<[u8]>>,
}

impl Images {
    /// Reads, hashes and decodes every image of a listing.
    ///
    /// Memory: the cache's budget, IDX files as they are, and for each thread one image and its file. `progress` is
    /// told how many images are done, from any thread. The result does not depend on `settings.threads`.
    ///
    /// Errors: all bad files together; with `on_bad_image: skip`, those that could not be read at all (which says
    /// nothing about the image) and classes that lost every image; `Stopped` once `stop` is raised.
    pub fn read(
        split: Split,
        listing: &Listing,
        settings: &ReadSettings,
        stop: &StopFlag,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<Self, ReadError> {
        Self::read_knowing(split, listing, settings, stop, progress, &|_| None)
    }

    /// Reads as [`Images::read`] does, but decodes no image whose content is known: one that was read before in the same
    /// way and of which only the content matters. Of those `known` says whether they are turned.
    pub fn read_knowing(
        split: Split,
        listing: &Listing,
        settings: &ReadSettings,
        stop: &StopFlag,
        progress: &(dyn Fn(u64) + Sync),
        known: &(dyn Fn(&blake3::Hash) -> Option<bool> + Sync),
    ) -> Result<Self, ReadError> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(settings.threads.max(1))
            .thread_name(|i| format!("xp-read-{i}"))
            .build()
            .map_err(|source| ReadError::Threads { source })?;
        load(split, listing, stop)?;
        let n_done = AtomicU64::new(0);
        let mut pass = Pass::new(split, listing, settings);
        for images in listing.images.chunks(CHUNK_IMAGES) {
            let room = pass.room();
            let look = |(i, image): (usize, &ListedImage)| {
                let found = (!stop.is_raised()).then(|| look_at(&image.location, settings, i < room, known));
                progress(n_done.fetch_add(1, Ordering::Relaxed) + 1);
                found
            };
            let found: Vec<_> = pool.install(|| images.par_iter().enumerate().map(look).collect());
            for (image, found) in images.iter().zip(found) {
                pass.add(image, found.ok_or(ReadError::Stopped { split })?);
            }
        }
        pass.finish()
    }
}

/// What the pass has found so far.
struct Pass {
    images: Images,
    n_cached: usize,
    bad: Vec<BadImage>,
    n_bad: u64,
    n_images: u64,
}

impl Pass {
    fn new(split: Split, listing: &Listing, settings: &ReadSettings) -> Self {
        let n_images = listing.images.len();
        let images = Images {
            split,
            origin: listing.origin.clone(),
            classes: listing.classes.clone(),
            settings: *settings,
            shape: SampleShape::of(listing, settings),
            locations: Vec::with_capacity(n_images),
            labels: Vec::with_capacity(n_images),
            hashes: Vec::with_capacity(n_images),
            cached: Vec::with_capacity(n_images),
            skipped: Vec::new(),
            is_turned: Vec::with_capacity(n_images),
        };
        Self { images, n_cached: 0, bad: Vec::new(), n_bad: 0, n_images: n_images as u64 }
    }

    /// Images that the cache still has room for.
    fn room(&self) -> usize {
        let capacity = self.images.settings.cache_budget_bytes / (self.images.image_bytes() as u64).max(1);
        usize::try_from(capacity).unwrap_or(usize::MAX).saturating_sub(self.n_cached)
    }

    fn add(&mut self, image: &ListedImage, found: Result<Usable, Fault>) {
        let path = || image.location.name().into_owned();
        match (found, self.images.settings.on_bad_image) {
            (Ok(usable), _) => {
                self.images.is_turned.push(usable.is_turned);
                self.images.locations.push(image.location.clone());
                self.images.labels.push(image.label);
                self.images.hashes.push(usable.hash);
                self.n_cached += usize::from(usable.pixels.is_some());
                self.images.cached.push(usable.pixels);
            }
            (Err(fault @ Fault::Undecodable(_)), OnBadImage::Skip) => {
                let (split, reason) = (self.images.split, fault.to_string());
                self.images.skipped.push(SkippedInput { split, path: path(), reason });
            }
            (Err(fault), _) => {
                self.n_bad += 1;
                if self.bad.len() < MAX_LISTED_BAD_IMAGES {
                    self.bad.push(BadImage { path: path(), fault });
                }
            }
        }
    }

    fn finish(self) -> Result<Images, ReadError> {
        let Self { images, bad, n_bad, n_images, .. } = self;
        let (split, origin) = (images.split, images.origin.clone());
        if n_bad > 0 {
            return Err(ReadError::BadImages { split, origin, n_images, n_bad, bad });
        }
        let lost = classes_without_images(&images);
        if !lost.is_empty() {
            return Err(ReadError::ClassesLost { split, origin, classes: lost, skipped: images.skipped });
        }
        Ok(images)
    }
}

fn classes_without_images(images: &Images) -> Vec<String> {
    let mut is_lost = vec![true; images.classes.len()];
    for label in &images.labels {
        is_lost[*label as usize] = false;
    }
    images.classes.iter().zip(is_lost).filter(|(_, is_lost)| *is_lost).map(|(class, _)| class.clone()).collect()
}

/// Loads the files that hold many images, each once.
fn load(split: Split, listing: &Listing, stop: &StopFlag) -> Result<(), ReadError> {
    for image in &listing.images {
        if let Location::Idx { file, .. } = &image.location {
            file.load(stop).map_err(|source| match source.fault {
                IdxFault::Stopped => ReadError::Stopped { split },
                _ => ReadError::Idx { source },
            })?;
        }
    }
    Ok(())
}

fn look_at(
    location: &Location,
    settings: &ReadSettings,
    keep: bool,
    known: &(dyn Fn(&blake3::Hash) -> Option<bool> + Sync),
) -> Result<Usable, Fault> {
    let content = location.content()?;
    let hash = content.hash();
    if let Some(is_turned) = known(&hash) {
        return Ok(Usable { hash, is_turned, pixels: None });
    }
    match decoded(content, settings.decode)? {
        Readable::Image(decoded) => {
            let is_turned = decoded.is_turned();
            let pixels = keep.then(|| resized(decoded, settings).pixels_hwc.into_boxed_slice());
            Ok(Usable { hash, is_turned, pixels })
        }
        Readable::Features(row) => match features::not_finite(&row) {
            Some((index, value)) => Err(Fault::NotFinite { index, value }),
            // The kernel keeps what it has read of the file.
            None => Ok(Usable { hash, is_turned: false, pixels: None }),
        },
    }
}
