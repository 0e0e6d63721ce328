//! The images of a split read once, and the source of batches that is cheapest for them.

use std::sync::Arc;

use crate::data::batching::Batching;
use crate::data::duplicates::{self, Pairs, SharedImages};
use crate::data::feature_cache::FeatureCache;
use crate::data::feature_cache::rows::Rows;
use crate::data::images::{Images, ReadError, ReadSettings};
use crate::data::listing::Listing;
use crate::data::loader::{Loader, LoaderSettings};
use crate::run::bill::Keeping;
use crate::run::event::{DataFacts, Event, Phase, SkippedInput, SplitFacts};
use crate::run::metric::Split;
use crate::run::stop::StopFlag;
use crate::settings::Resources;
use crate::spec::schema::data::Exif;
use crate::train::batches;
use crate::train::channel::Events;
use crate::train::class_weights;
use crate::train::features::{FeatureError, FeatureTable, OnDisk, Task};
use crate::train::feed::{Origin, Source};
use crate::train::keeping;
use crate::train::plan::Plan;
use crate::train::step::Frame;
use crate::train::{Completion, TrainError};

/// What reading and feeding a split needs beside the split.
#[derive(Clone, Copy, Debug)]
pub struct Reading<'a> {
    pub plan: &'a Plan,
    pub resources: Resources,
    pub events: &'a Events,
    pub stop: &'a StopFlag,
    /// Where the frozen layers' output may be kept on disk.
    pub cache: Option<&'a FeatureCache>,
}

/// The images of every split.
pub type Splits = Vec<(Split, Arc<Images>)>;

/// What there is of a split, such as its listing or its images, where the plan has that split.
pub fn of_split<T>(splits: &[(Split, T)], wanted: Split) -> Option<&T> {
    splits.iter().find(|(split, _)| *split == wanted).map(|(_, found)| found)
}

/// How the images of every split are read.
pub fn read_settings(plan: &Plan, resources: &Resources) -> ReadSettings {
    let data = &plan.spec.data;
    let [_, height, width] = plan.input_chw.map(|side| u32::try_from(side).expect("a side was a u32 before"));
    ReadSettings {
        height,
        width,
        filter: plan.filter,
        on_bad_image: data.on_bad_image,
        exif: data.exif,
        decode: data.decode,
        cache_budget_bytes: resources.pixel_budget_bytes,
        threads: resources.loader_threads,
    }
}

/// What the images of a plan turned out to be.
pub fn data_facts(plan: &Plan, splits: &[(Split, Arc<Images>)]) -> DataFacts {
    let facts = splits.iter().map(|(split, images)| SplitFacts {
        split: *split,
        n_images: images.len() as u64,
        hash: images.hash(),
    });
    DataFacts { classes: plan.classes().to_vec(), splits: facts.collect() }
}

impl Reading<'_> {
    /// Reads every split of the plan, and refuses those that share images.
    pub fn all(&self, frame: Option<&Frame>) -> Result<Completion<Splits>, TrainError> {
        let mut splits = Vec::new();
        for (split, listing) in &self.plan.listings {
            match self.images(*split, listing, frame)? {
                Completion::Done(images) => splits.push((*split, Arc::new(images))),
                Completion::Stopped => return Ok(Completion::Stopped),
            }
        }
        self.keep_apart(&splits)?;
        Ok(Completion::Done(splits))
    }

    /// Reads, hashes and decodes every image of a split, and tells which were left out. With a network, images are not
    /// decoded whose features are on disk.
    pub fn images(
        &self,
        split: Split,
        listing: &Listing,
        frame: Option<&Frame>,
    ) -> Result<Completion<Images>, TrainError> {
        let settings = read_settings(self.plan, &self.resources);
        self.warn_of_other_files(split, listing);
        let read = self.events.phase(Phase::Index(split), listing.images.len() as u64, || {
            let kept = frame.and_then(|frame| self.kept_rows(split, listing, frame));
            let known = |hash: &blake3::Hash| {
                let rows = kept.as_ref()?;
                rows.find(hash.as_bytes()).map(|place| rows.is_turned(place))
            };
            let progress = |n_done| self.events.progress(n_done);
            Images::read_knowing(split, listing, &settings, self.stop, &progress, &known)
        });
        match read {
            Ok(images) => {
                for skipped in images.skipped() {
                    self.events.send(Event::Skipped(skipped.clone()));
                }
                self.warn_of_turned_images(&images);
                Ok(Completion::Done(images))
            }
            Err(ReadError::Stopped { .. }) => Ok(Completion::Stopped),
            Err(source) => {
                self.tell_bad_images(&source);
                Err(TrainError::Data { split, source })
            }
        }
    }

    /// The rows on disk that are found by an image's content alone. What is wrong with them is told when they are used.
    fn kept_rows(&self, split: Split, listing: &Listing, frame: &Frame) -> Option<Rows> {
        let n_images = listing.images.len() as u64;
        let keeping = keeping::decide(self.plan, split, n_images, self.resources, self.cache);
        let is_for_content =
            matches!(keeping, Keeping::OnDisk { .. }) && !keeping::augment_of(&self.plan.spec, split).draws();
        let cache = self.cache.filter(|_| is_for_content)?;
        Rows::open(cache, &keeping::facts(self.plan, split, frame)).ok()
    }

    /// The error's text names one file; the record names the first thousand.
    fn tell_bad_images(&self, error: &ReadError) {
        if let ReadError::BadImages { split, bad, .. } = error {
            for image in bad {
                let (path, reason) = (image.path.clone(), image.fault.to_string());
                self.events.send(Event::Skipped(SkippedInput { split: *split, path, reason }));
            }
        }
    }

    fn warn_of_other_files(&self, split: Split, listing: &Listing) {
        if let Some(example) = &listing.others.example {
            let (n, example) = (listing.others.n, example.display());
            let text = format!(
                "the {split} folder holds {n} files that are no images by their names or lie in no class, such as {example}"
            );
            self.events.send(Event::Warning(text));
        }
    }

    fn warn_of_turned_images(&self, images: &Images) {
        if let (Exif::Ignore, Some(example)) = (self.plan.spec.data.exif, images.turned_example()) {
            let (n, split, example) = (images.n_turned(), images.split(), example.display());
            let text = format!(
                "{n} {split} images, such as {example}, are stored on their side or mirrored by their EXIF \
                 orientation, and used as stored; `data.exif: apply` turns them"
            );
            self.events.send(Event::Warning(text));
        }
    }

    /// Refuses splits that share images unless the spec accepts it; the record names every pair.
    fn keep_apart(&self, splits: &[(Split, Arc<Images>)]) -> Result<(), TrainError> {
        let found = duplicates::find(splits.iter().map(|(_, images)| &**images));
        for (split, n) in found.repeated {
            let text = format!("{n} of the {split} images are copies of other {split} images, byte for byte");
            self.events.send(Event::Warning(text));
        }
        let n_shared = found.shared.len();
        if n_shared == 0 {
            return Ok(());
        }
        if self.plan.spec.data.allow_duplicates {
            let text =
                format!("{n_shared} images are in two splits, byte for byte: what is measured on them is too good");
            self.events.send(Event::Warning(text));
            return Ok(());
        }
        for pair in &found.shared {
            let ((split, path), (first_split, first)) = (pair.image.clone(), &pair.first);
            let reason = format!("the same bytes as the {first_split} image {}", first.display());
            self.events.send(Event::Shared(SkippedInput { split, path, reason }));
        }
        Err(SharedImages { pairs: Pairs(found.shared) }.into())
    }

    /// Runs the frozen prefix once for each image where that is worth it; else feeds pixels.
    pub fn source(&self, images: Arc<Images>, split: Split, frame: &Frame) -> Result<Completion<Source>, TrainError> {
        let spec = &self.plan.spec;
        let class_weights = spec.class_weights.as_ref().filter(|_| split == Split::Train);
        let class_weights =
            class_weights.map(|weights| class_weights::by_class(weights, images.classes(), images.labels()));
        let source = |origin, batching| {
            let accumulation = if split == Split::Train { spec.gradient_accumulation_steps } else { 1 };
            Ok(Completion::Done(Source {
                origin,
                batching,
                accumulation,
                class_weights: class_weights.clone(),
                device: frame.device.clone(),
                is_padded: frame.is_tuned() && !(split == Split::Train && self.plan.network.trains_norms()),
            }))
        };
        let batching = batches::of_split(self.plan, split, images.labels());
        let augment = keeping::augment_of(spec, split);
        match self.table(&images, split, &batching, frame) {
            Ok(Some(table)) => source(Origin::Features(table), batches::of_table(batching)),
            Ok(None) => {
                let (seed, threads) = (spec.seed, self.resources.loader_threads);
                let settings = LoaderSettings { batching: batching.clone(), augment, seed, threads };
                source(Origin::Pixels(Loader::new(images, settings)), batching)
            }
            Err(FeatureError::Stopped) => Ok(Completion::Stopped),
            Err(error) => Err(error.into()),
        }
    }

    /// The frozen layers' output for a split, kept as [`keeping::decide`] says; `None` where it is not.
    fn table(
        &self,
        images: &Arc<Images>,
        split: Split,
        batching: &Batching,
        frame: &Frame,
    ) -> Result<Option<FeatureTable>, FeatureError> {
        let (plan, spec) = (self.plan, &self.plan.spec);
        let n_images = u64::from(batching.n_members());
        let mut keeping = keeping::decide(plan, split, n_images, self.resources, self.cache);
        if let Keeping::EveryTime { reason: Some(reason) } = &keeping {
            let text = format!("the frozen layers run over the {split} images in every epoch: {reason}");
            self.events.send(Event::Warning(text));
        }
        let once = batches::once(plan, batching);
        let task = Task {
            frame,
            images,
            members: once.sections(1).flat_map(|section| once.images(&section)).collect(),
            chw: plan.prefix_chw(),
            batch_size: once.batch_size,
            augment: keeping::augment_of(spec, split),
            seed: spec.seed,
            threads: self.resources.loader_threads,
            precision: spec.cache.precision,
            events: self.events,
            stop: self.stop,
        };
        if let Keeping::OnDisk { into_memory } = keeping {
            let cache = self.cache.expect("only with a cache rows go to disk");
            let on_disk = OnDisk { cache, facts: keeping::facts(plan, split, frame) };
            let table = self.events.phase(Phase::Prefix(split), task.n_rows(), || task.on_disk(&on_disk, into_memory));
            match table {
                // A full disk or a broken one is no reason not to train.
                Err(FeatureError::Cache(error)) => {
                    let text = format!("the frozen layers' output is not kept on disk: cannot {error}");
                    self.events.send(Event::Warning(text));
                    keeping = if into_memory { Keeping::InMemory } else { Keeping::EveryTime { reason: None } };
                }
                table => return table.map(Some),
            }
        }
        match keeping {
            Keeping::InMemory => self.events.phase(Phase::Prefix(split), task.n_rows(), || task.in_memory()).map(Some),
            _ => Ok(None),
        }
    }
}
