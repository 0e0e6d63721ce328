//! Batches of pixels: which images, in which order, changed in which way.
//!
//! Everything is drawn from the seed and the pass, so that a resumed run sees what an unbroken one would have seen.

use std::sync::Arc;

use crate::data::augment::Transform;
use crate::data::batching::{Batching, Section};
use crate::data::images::{ImageError, Images, SampleShape};
use crate::data::prefetch::{Plan, Prefetch};
use crate::run::stop::StopFlag;
use crate::spec::schema::augment::Augment;

/// Images in the form a network takes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The pass over the images that it belongs to, 1-based.
    pub pass: u32,
    /// Index of every image in its split.
    pub samples: Vec<u32>,
    pub labels: Vec<u32>,
    /// Image by image, row by row, red or the first channel first.
    pub bytes_nhwc: Vec<u8>,
    pub shape: SampleShape,
}

/// How batches are made.
#[derive(Clone, Debug)]
pub struct LoaderSettings {
    pub batching: Batching,
    pub augment: Augment,
    /// Draws the changes to images.
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

    pub fn batching(&self) -> &Batching {
        &self.settings.batching
    }

    /// Starts to prepare the batches of an epoch, which counts from 1.
    pub fn epoch(&self, epoch: u32, stop: &StopFlag) -> Batches {
        let sections = self.settings.batching.sections(epoch);
        let mut batches =
            Batches { loader: self.clone(), sections: Box::new(sections), stop: stop.clone(), current: None };
        batches.start_next();
        batches
    }

    /// Starts to prepare the batches of a section.
    fn start(&self, section: &Section, stop: &StopFlag) -> Prefetch {
        let LoaderSettings { batching, augment, seed, threads } = &self.settings;
        let (images, augment, seed, pass) = (Arc::clone(&self.images), *augment, *seed, section.pass);
        let fill = move |index: u32, pixels: &mut [u8]| {
            images.pixels_into(index as usize, pixels)?;
            if let SampleShape::Pixels { height, width } = images.shape() {
                let transform = Transform::draw(&augment, seed, pass, u64::from(index));
                transform.apply(&augment, height, width, pixels);
            }
            Ok(())
        };
        let plan = Plan {
            order: batching.images(section),
            batch_size: batching.batch_size.max(1) as usize,
            n_batches: section.batches.clone().count(),
            image_bytes: self.images.image_bytes(),
            fill: Arc::new(fill),
            stop: stop.clone(),
        };
        Prefetch::start(plan, *threads)
    }
}

/// The batches of one epoch, prepared ahead; dropping it ends and joins its threads.
///
/// Ends early after an error, and when the stop flag is raised: whoever must know the difference looks at the flag.
pub struct Batches {
    loader: Loader,
    sections: Box<dyn Iterator<Item = Section> + Send>,
    stop: StopFlag,
    /// The pass that is being read.
    current: Option<(u32, Prefetch)>,
}

impl Batches {
    fn start_next(&mut self) {
        let section = self.sections.next();
        self.current = section.map(|section| (section.pass, self.loader.start(&section, &self.stop)));
    }
}

impl Iterator for Batches {
    type Item = Result<Batch, ImageError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (pass, prefetch) = self.current.as_mut()?;
            let pass = *pass;
            match prefetch.next() {
                Some(Ok((samples, bytes_nhwc))) => {
                    let images = &self.loader.images;
                    let labels = samples.iter().map(|sample| images.labels()[*sample as usize]).collect();
                    return Some(Ok(Batch { pass, samples, labels, bytes_nhwc, shape: images.shape() }));
                }
                Some(Err(error)) => {
                    self.current = None;
                    return Some(Err(error));
                }
                None if self.stop.is_raised() => return None,
                None => self.start_next(),
            }
        }
    }
}

#[cfg(test)]
mod tests;
