//! Batches as burn-train wants them, from pixels or from features kept in memory.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use burn::data::dataloader::{DataLoader, DataLoaderIterator, Progress};
use burn::data::dataset::DatasetError;
use burn::tensor::Device;
use burn::train::Interrupter;

use crate::data::batching::{Batching, Section};
use crate::data::loader::{Batch, Batches, Loader};
use crate::run::stop::StopFlag;
use crate::train::ahead::{Epoch, Maker};
use crate::train::features::FeatureTable;
use crate::train::step::Input;
use crate::train::values::Values;

/// What the batches of a split are made from.
#[derive(Debug)]
pub enum Origin {
    Pixels(Loader),
    Features(FeatureTable),
}

/// Where the batches of a split come from, and how they are cut.
#[derive(Debug)]
pub struct Source {
    pub origin: Origin,
    pub batching: Batching,
    /// Batches whose mean gradient makes a step of the optimizer; at least 1.
    pub accumulation: u32,
    /// A factor on the loss of each class' images.
    pub class_weights: Option<Vec<f32>>,
    /// Where batches go; without autodiff.
    pub device: Device,
    /// Whether a smaller batch is filled up with rows that do not count.
    pub is_padded: bool,
}

impl Source {
    /// Images of the first epoch; others may differ by a part of a batch.
    pub fn len(&self) -> usize {
        self.batching.images_per_epoch(1) as usize
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The optimizer's steps in an epoch.
    pub fn steps_per_epoch(&self) -> u64 {
        self.batching.batches_per_epoch().div_ceil(u64::from(self.accumulation))
    }

    /// The batches of an epoch, in an order that its number decides.
    pub fn epoch(&self, epoch: u32, stop: &StopFlag) -> Inputs<'_> {
        let sections = self.batching.sections(epoch);
        let batches = match &self.origin {
            Origin::Pixels(loader) => InputBatches::Pixels(Box::new(loader.epoch(epoch, stop))),
            Origin::Features(table) => {
                let of = |section: Section| {
                    let batches = self.batching.batches(&section).into_iter();
                    batches.map(move |samples| (section.pass, samples))
                };
                InputBatches::Features { table, batches: Box::new(sections.flat_map(of)) }
            }
        };
        let lens = self.batching.sections(epoch).flat_map(|section| section.batches);
        let lens = lens.map(|batch| u64::from(self.batching.batch_len(batch)));
        Inputs { source: self, batches, lens: Box::new(lens), n_left_in_step: 0, n_step_images: 0, stop: stop.clone() }
    }
}

/// The batches of one epoch; ends early when the stop flag is raised.
pub struct Inputs<'a> {
    source: &'a Source,
    batches: InputBatches<'a>,
    /// Images of the batches that no step has begun with.
    lens: Box<dyn Iterator<Item = u64> + 'a>,
    /// Images of the current step that are to come.
    n_left_in_step: u64,
    n_step_images: u64,
    stop: StopFlag,
}

enum InputBatches<'a> {
    Pixels(Box<Batches>),
    Features { table: &'a FeatureTable, batches: Box<dyn Iterator<Item = (u32, Vec<u32>)> + 'a> },
}

impl Inputs<'_> {
    /// Says which step a batch is part of, and what its images weigh; brings it to its device.
    fn placed(&mut self, mut input: Input) -> Input {
        let n_images = input.labels.len();
        if self.n_left_in_step == 0 {
            self.n_step_images = self.lens.by_ref().take(self.source.accumulation as usize).sum();
            self.n_left_in_step = self.n_step_images;
        }
        self.n_left_in_step -= n_images as u64;
        input.n_step_images = self.n_step_images;
        let weights = self.source.class_weights.as_ref();
        input.weights = weights.map(|weights| input.labels.iter().map(|&label| weights[label as usize]).collect());
        if self.source.is_padded {
            input.values = input.values.padded(self.source.batching.batch_size as usize, input.chw);
        }
        input.values = input.values.uploaded(input.chw, &self.source.device);
        input
    }
}

impl Iterator for Inputs<'_> {
    type Item = Result<Input, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.stop.is_raised() {
            return None;
        }
        let input = match &mut self.batches {
            InputBatches::Pixels(batches) => match batches.next()? {
                Ok(batch) => input(batch),
                Err(error) => return Some(Err(DatasetError::new(error))),
            },
            InputBatches::Features { table, batches } => {
                let (pass, samples) = batches.next()?;
                match table.input(&samples, pass) {
                    Ok(input) => input,
                    Err(error) => return Some(Err(DatasetError::new(error))),
                }
            }
        };
        Some(Ok(self.placed(input)))
    }
}

fn input(batch: Batch) -> Input {
    let (values, chw) = Values::of(batch.bytes_nhwc, batch.shape);
    Input {
        values,
        chw,
        n_step_images: batch.labels.len() as u64,
        labels: batch.labels,
        samples: batch.samples,
        pass: batch.pass,
        weights: None,
    }
}

/// A source whose epochs burn-train starts one after another.
#[derive(Clone)]
pub struct Feed {
    source: Arc<Source>,
    maker: Arc<Maker>,
    epoch: Arc<AtomicU32>,
    stop: StopFlag,
    interrupter: Interrupter,
}

impl Feed {
    /// `epoch` is the last one that was done before.
    ///
    /// Errors: the thread that makes batches could not be started.
    pub fn new(source: Arc<Source>, epoch: u32, stop: StopFlag, interrupter: Interrupter) -> io::Result<Self> {
        let maker = Maker::new(Arc::clone(&source), stop.clone())?;
        Ok(Self { source, maker: Arc::new(maker), epoch: Arc::new(AtomicU32::new(epoch)), stop, interrupter })
    }
}

impl DataLoader<Input> for Feed {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<Input> + 'a> {
        let epoch = 1 + self.epoch.fetch_add(1, Ordering::SeqCst);
        Box::new(Interruptible {
            batches: self.maker.epoch(epoch),
            n_done: 0,
            n_items: self.source.batching.images_per_epoch(epoch) as usize,
            stop: &self.stop,
            interrupter: &self.interrupter,
        })
    }

    fn num_items(&self) -> usize {
        self.source.len()
    }

    /// Batches come on their device.
    fn to_device(&self, _: &Device) -> Arc<dyn DataLoader<Input>> {
        Arc::new(self.clone())
    }

    fn slice(&self, _: usize, _: usize) -> Arc<dyn DataLoader<Input>> {
        unreachable!("only training on several devices slices a loader, and training here is on one")
    }
}

/// Tells burn-train of a raised stop flag, which it then treats as a request and not as the end of the data.
struct Interruptible<'a> {
    batches: Epoch,
    n_done: usize,
    n_items: usize,
    stop: &'a StopFlag,
    interrupter: &'a Interrupter,
}

impl Iterator for Interruptible<'_> {
    type Item = Result<Input, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        let input = if self.stop.is_raised() { None } else { self.batches.next() };
        if self.stop.is_raised() {
            self.interrupter.stop(Some("asked to stop"));
        }
        if let Some(Ok(input)) = &input {
            self.n_done += input.labels.len();
        }
        input
    }
}

impl DataLoaderIterator<Input> for Interruptible<'_> {
    fn progress(&self) -> Progress {
        Progress { items_processed: self.n_done, items_total: self.n_items, unit: Some("images".to_owned()) }
    }
}
