//! The images of a split read once, and the source of batches that is cheapest for them.

use std::sync::Arc;

use crate::data::augment::Augmentation;
use crate::data::folder::Folder;
use crate::data::images::{Images, ReadError, ReadSettings};
use crate::data::loader::{Loader, LoaderSettings, Order};
use crate::run::event::{Event, Phase, SkippedInput};
use crate::run::metric::Split;
use crate::run::stop::StopFlag;
use crate::settings::Resources;
use crate::train::channel::Events;
use crate::train::features::{FeatureError, FeatureTable};
use crate::train::feed::Source;
use crate::train::plan::Plan;
use crate::train::step::Frame;
use crate::train::{Completion, TrainError};

/// Images that go through a network at once where nothing depends on their number but memory.
const MAX_INFERENCE_BATCH: u32 = 32;

/// What reading and feeding a split needs beside the split.
#[derive(Clone, Copy, Debug)]
pub struct Reading<'a> {
    pub plan: &'a Plan,
    pub resources: Resources,
    pub events: &'a Events,
    pub stop: &'a StopFlag,
}

impl Reading<'_> {
    /// Reads, hashes and decodes every image of a split, and tells which were left out.
    pub fn images(&self, split: Split, folder: &Folder) -> Result<Completion<Images>, TrainError> {
        let data = &self.plan.spec.data;
        let settings = ReadSettings {
            height: data.image_size.height,
            width: data.image_size.width,
            filter: self.plan.filter,
            on_bad_image: data.on_bad_image,
            cache_budget_bytes: self.resources.pixel_budget_bytes,
            threads: self.resources.loader_threads,
        };
        self.warn_of_other_files(split, folder);
        let read = self.events.phase(Phase::Index(split), folder.files.len() as u64, || {
            Images::read(split, folder, &settings, self.stop, &|n_done| self.events.progress(n_done))
        });
        match read {
            Ok(images) => {
                for skipped in images.skipped() {
                    self.events.send(Event::Skipped(skipped.clone()));
                }
                Ok(Completion::Done(images))
            }
            Err(ReadError::Stopped { .. }) => Ok(Completion::Stopped),
            Err(source) => {
                self.tell_bad_images(&source);
                Err(TrainError::Data { split, source })
            }
        }
    }

    /// The error's text names one file; the record names them all.
    fn tell_bad_images(&self, error: &ReadError) {
        if let ReadError::BadImages { split, bad, .. } = error {
            for image in bad {
                let (path, reason) = (image.path.clone(), image.fault.to_string());
                self.events.send(Event::Skipped(SkippedInput { split: *split, path, reason }));
            }
        }
    }

    fn warn_of_other_files(&self, split: Split, folder: &Folder) {
        if let Some(example) = &folder.other_file_example {
            let (n, example) = (folder.n_other_files, example.display());
            let text = format!(
                "the {split} folder holds {n} files that are no images by their names or lie in no class, such as {example}"
            );
            self.events.send(Event::Warning(text));
        }
    }

    /// Whether the prefix's output for a split may stay in memory; tells when it may not.
    fn fits(&self, split: Split, n_images: usize, chw: [usize; 3]) -> bool {
        let (needed, budget) = (FeatureTable::n_bytes(n_images, chw), self.resources.feature_budget_bytes);
        if needed > budget {
            let mib = |n_bytes: u64| n_bytes >> 20;
            let text = format!(
                "the frozen layers' output for the {split} images takes {} MiB, more than the {} MiB that are kept: \
                 they run again in every epoch",
                mib(needed),
                mib(budget)
            );
            self.events.send(Event::Warning(text));
        }
        needed <= budget
    }

    /// Runs the frozen prefix once where its output stays the same and fits in memory; else feeds pixels.
    pub fn source(&self, images: Images, split: Split, frame: &Frame) -> Result<Completion<Source>, TrainError> {
        let spec = &self.plan.spec;
        let (order, augmentation) = match split {
            Split::Train => (Order::Shuffled, Augmentation { horizontal_flip: spec.augment.horizontal_flip }),
            Split::Valid | Split::Test => (Order::Sequential, Augmentation { horizontal_flip: false }),
        };
        let batch_size = match split {
            Split::Train => spec.data.batch_size,
            Split::Valid | Split::Test => spec.data.batch_size.min(MAX_INFERENCE_BATCH),
        };
        let settings =
            LoaderSettings { batch_size, order, augmentation, seed: spec.seed, threads: self.resources.loader_threads };
        let images = Arc::new(images);
        let chw = self.plan.prefix_chw();
        if frame.prefix.is_empty() || augmentation.draws() || !self.fits(split, images.len(), chw) {
            return Ok(Completion::Done(Source::Pixels(Loader::new(images, settings))));
        }
        let batch_size_inference = batch_size.min(MAX_INFERENCE_BATCH);
        let sequential = LoaderSettings { order: Order::Sequential, batch_size: batch_size_inference, ..settings };
        let loader = Loader::new(images, sequential);
        let computed = self.events.phase(Phase::Prefix(split), loader.len() as u64, || {
            FeatureTable::compute(frame, &loader, chw, self.stop, |n_done| self.events.progress(n_done))
        });
        match computed {
            Ok(table) => {
                let shuffle_seed = (order == Order::Shuffled).then_some(spec.seed);
                Ok(Completion::Done(Source::Features { table, batch_size: settings.batch_size as usize, shuffle_seed }))
            }
            Err(FeatureError::Stopped) => Ok(Completion::Stopped),
            Err(error) => Err(error.into()),
        }
    }
}
