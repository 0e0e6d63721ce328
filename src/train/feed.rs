//! Batches as burn-train wants them, from pixels or from features kept in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use burn::data::dataloader::{DataLoader, DataLoaderIterator, Progress};
use burn::data::dataset::DatasetError;
use burn::tensor::Device;
use burn::train::Interrupter;

use crate::data::loader::{Batch, Batches, Loader};
use crate::run::stop::StopFlag;
use crate::train::features::FeatureTable;
use crate::train::step::{Input, Values};

/// Where the batches of a split come from.
#[derive(Debug)]
pub enum Source {
    Pixels(Loader),
    Features {
        table: FeatureTable,
        batch_size: usize,
        /// Shuffled by this seed, or in the split's order.
        shuffle_seed: Option<u64>,
    },
}

impl Source {
    pub fn len(&self) -> usize {
        match self {
            Self::Pixels(loader) => loader.len(),
            Self::Features { table, .. } => table.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The batches of an epoch, in an order that its number decides.
    pub fn epoch(&self, epoch: u32, stop: &StopFlag) -> Inputs<'_> {
        let batches = match self {
            Self::Pixels(loader) => InputBatches::Pixels(loader.epoch(epoch, stop)),
            Self::Features { table, batch_size, shuffle_seed } => InputBatches::Features {
                table,
                order: table.order(*shuffle_seed, epoch),
                batch_size: *batch_size,
                next: 0,
            },
        };
        Inputs { batches, epoch, n_done: 0, n_items: self.len(), stop: stop.clone() }
    }
}

/// The batches of one epoch; ends early when the stop flag is raised.
pub struct Inputs<'a> {
    batches: InputBatches<'a>,
    epoch: u32,
    n_done: usize,
    n_items: usize,
    stop: StopFlag,
}

enum InputBatches<'a> {
    Pixels(Batches),
    Features { table: &'a FeatureTable, order: Vec<u32>, batch_size: usize, next: usize },
}

impl Iterator for Inputs<'_> {
    type Item = Result<Input, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.stop.is_raised() {
            return None;
        }
        let input = match &mut self.batches {
            InputBatches::Pixels(batches) => match batches.next()? {
                Ok(batch) => input(batch, self.epoch),
                Err(error) => return Some(Err(DatasetError::new(error))),
            },
            InputBatches::Features { table, order, batch_size, next } => {
                let samples = order[*next..].chunks(*batch_size).next()?;
                *next += samples.len();
                table.input(samples, self.epoch)
            }
        };
        self.n_done += input.labels.len();
        Some(Ok(input))
    }
}

fn input(batch: Batch, epoch: u32) -> Input {
    Input {
        values: Values::PixelsNhwc(batch.pixels_nhwc),
        chw: [3, batch.height as usize, batch.width as usize],
        labels: batch.labels,
        samples: batch.samples,
        epoch,
    }
}

impl DataLoaderIterator<Input> for Inputs<'_> {
    fn progress(&self) -> Progress {
        Progress { items_processed: self.n_done, items_total: self.n_items, unit: Some("images".to_owned()) }
    }
}

/// A source whose epochs burn-train starts one after another.
#[derive(Clone)]
pub struct Feed {
    source: Arc<Source>,
    epoch: Arc<AtomicU32>,
    stop: StopFlag,
    interrupter: Interrupter,
}

impl Feed {
    /// `epoch` is the last one that was done before.
    pub fn new(source: Arc<Source>, epoch: u32, stop: StopFlag, interrupter: Interrupter) -> Self {
        Self { source, epoch: Arc::new(AtomicU32::new(epoch)), stop, interrupter }
    }
}

impl DataLoader<Input> for Feed {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<Input> + 'a> {
        let epoch = 1 + self.epoch.fetch_add(1, Ordering::SeqCst);
        let inputs = self.source.epoch(epoch, &self.stop);
        Box::new(Interruptible { inputs, stop: &self.stop, interrupter: &self.interrupter })
    }

    fn num_items(&self) -> usize {
        self.source.len()
    }

    /// Batches stay in host memory until their step.
    fn to_device(&self, _: &Device) -> Arc<dyn DataLoader<Input>> {
        Arc::new(self.clone())
    }

    fn slice(&self, _: usize, _: usize) -> Arc<dyn DataLoader<Input>> {
        unreachable!("only training on several devices slices a loader, and training here is on one")
    }
}

/// Tells burn-train of a raised stop flag, which it then treats as a request and not as the end of the data.
struct Interruptible<'a> {
    inputs: Inputs<'a>,
    stop: &'a StopFlag,
    interrupter: &'a Interrupter,
}

impl Iterator for Interruptible<'_> {
    type Item = Result<Input, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        let input = self.inputs.next();
        if self.stop.is_raised() {
            self.interrupter.stop(Some("asked to stop"));
        }
        input
    }
}

impl DataLoaderIterator<Input> for Interruptible<'_> {
    fn progress(&self) -> Progress {
        self.inputs.progress()
    }
}
