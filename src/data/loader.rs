//! Epochs of batches: which images, in which order, mirrored or not.
//!
//! Everything is drawn from the seed and the epoch, so that a resumed run sees what an unbroken one would have seen.

use std::sync::Arc;

use crate::data::augment::Augmentation;
use crate::data::images::{ImageError, Images};
use crate::data::prefetch::{Plan, Prefetch};
use crate::run::draw::permutation;
use crate::run::stop::StopFlag;

/// Images in the form a network takes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Index of every image in its split.
    pub samples: Vec<u32>,
    pub labels: Vec<u32>,
    /// `samples.len() * height * width * 3` bytes: image by image, row by row, red first.
    pub pixels_nhwc: Vec<u8>,
    pub height: u32,
    pub width: u32,
}

/// The order of the images in an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Another one every epoch, drawn from the seed.
    Shuffled,
    /// By index.
    Sequential,
}

/// How batches are made.
#[derive(Clone, Copy, Debug)]
pub struct LoaderSettings {
    /// At least 1; the last batch of an epoch may be smaller.
    pub batch_size: u32,
    pub order: Order,
    pub augmentation: Augmentation,
    pub seed: u64,
    /// Threads that prepare images; 0 counts as 1. They do not change what comes out.
    pub threads: usize,
}

/// Makes the batches of one split.
#[derive(Clone, Debug)]
pub struct Loader {
    images: Arc<Images>,
    settings: LoaderSettings,
}

impl Loader {
    pub fn new(images: Arc<Images>, settings: LoaderSettings) -> Self {
        Self { images, settings }
    }

    /// Images in an epoch.
    pub fn len(&self) -> usize {
        self.images.len()
    }

    pub fn is_empty(&self) -> bool {
        self.images.is_empty()
    }

    /// Batches in an epoch.
    pub fn n_batches(&self) -> usize {
        self.len().div_ceil(self.batch_size())
    }

    pub fn images(&self) -> &Arc<Images> {
        &self.images
    }

    /// Starts to prepare the batches of an epoch, which counts from 1.
    pub fn epoch(&self, epoch: u32, stop: &StopFlag) -> Batches {
        let LoaderSettings { order, augmentation, seed, threads, .. } = self.settings;
        let n = u32::try_from(self.len()).expect("a folder has fewer images");
        let order = match order {
            Order::Shuffled => permutation(seed, epoch, n),
            Order::Sequential => (0..n).collect(),
        };
        let images = Arc::clone(&self.images);
        let fill = move |index: u32, pixels: &mut [u8]| {
            images.pixels_into(index as usize, pixels)?;
            augmentation.apply(seed, epoch, u64::from(index), images.height(), images.width(), pixels);
            Ok(())
        };
        let plan = Plan {
            order,
            batch_size: self.batch_size(),
            image_bytes: self.images.image_bytes(),
            fill: Arc::new(fill),
            stop: stop.clone(),
        };
        Batches { images: Arc::clone(&self.images), prefetch: Prefetch::start(plan, threads) }
    }

    fn batch_size(&self) -> usize {
        self.settings.batch_size.max(1) as usize
    }
}

/// The batches of one epoch, prepared ahead; dropping it ends and joins its threads.
///
/// Ends early after an error, and when the stop flag is raised: whoever must know the difference looks at the flag.
pub struct Batches {
    images: Arc<Images>,
    prefetch: Prefetch,
}

impl Iterator for Batches {
    type Item = Result<Batch, ImageError>;

    fn next(&mut self) -> Option<Self::Item> {
        let prepared = self.prefetch.next()?;
        Some(prepared.map(|(samples, pixels_nhwc)| {
            let labels = samples.iter().map(|sample| self.images.labels()[*sample as usize]).collect();
            Batch { samples, labels, pixels_nhwc, height: self.images.height(), width: self.images.width() }
        }))
    }
}

#[cfg(test)]
mod tests;
