//! A backbone's output for every image of a spec, written as NumPy and Keras take it, one split after the other.
//!
//! Owns the order of the work; what lies in the folder, and how an interrupted file goes on, is for [`folder`].

pub mod folder;

use std::path::Path;
use std::sync::Arc;

use burn::tensor::TensorReadError;
use serde_json::{Value, json};

use crate::data::batching::{Batching, LastSingle, Order};
use crate::data::features::FeatureShape;
use crate::data::images::{ImageError, Images};
use crate::data::loader::{Loader, LoaderSettings};
use crate::run::event::{DataFacts, Event, Phase};
use crate::run::metric::Split;
use crate::run::stop::StopFlag;
use crate::settings::Resources;
use crate::spec::schema::augment::Augment;
use crate::spec::schema::weights::Weights;
use crate::train::batches;
use crate::train::channel::Events;
use crate::train::device::TrainDevice;
use crate::train::extract::folder::{Folder, FolderError, MadeOf, Overwrite, Record, Rows};
use crate::train::network;
use crate::train::plan::Plan;
use crate::train::splits::{Reading, data_facts};
use crate::train::step::Frame;
use crate::train::values::Values;
use crate::train::{Completion, TrainError};

/// Bytes that a layer's output may take for the images that go through the network at once.
const MAX_BATCH_BYTES: usize = 24 << 20;

/// Why features could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ExtractError {
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error("read the network's output: {0}")]
    Read(#[from] TensorReadError),
    #[error("use the network's output for {image}: value {index} is {value}")]
    NotFinite { image: String, index: usize, value: f32 },
}

/// What to compute and where it goes.
#[derive(Clone, Debug)]
pub struct Extraction<'a> {
    /// Its frozen prefix is what runs.
    pub plan: &'a Plan,
    pub spec_path: &'a Path,
    pub device: &'a TrainDevice,
    pub output: &'a Path,
    pub overwrite: Overwrite,
    pub resources: Resources,
    pub events: Events,
    pub stop: StopFlag,
}

/// What there is when it is done.
#[derive(Debug)]
pub struct Extracted {
    pub record: Record,
    /// Rows that this process computed; the others were there.
    pub n_computed: u64,
}

impl Extraction<'_> {
    /// Runs the backbone over every split that is not done yet, without augmentation and dropout.
    ///
    /// Memory does not grow with the number of images but for their names and hashes. A raised stop flag ends it after
    /// a batch; called again, it goes on there.
    pub fn run(&self) -> Result<Completion<Extracted>, TrainError> {
        let mut folder = Folder::claim(self.output, self.overwrite).map_err(ExtractError::from)?;
        // Every image is used once, so that its pixels are not worth keeping.
        let resources = Resources { pixel_budget_bytes: 0, ..self.resources };
        let reading = Reading { plan: self.plan, resources, events: &self.events, stop: &self.stop, cache: None };
        let Completion::Done(splits) = reading.all(None)? else { return Ok(Completion::Stopped) };
        let network = network::build(self.plan, self.device)?;
        let data = data_facts(self.plan, &splits);
        let made_of = self.made_of(&data, network.weights_hash);
        self.events.send(Event::Data(data));
        folder.begin(made_of, self.plan, self.spec_path).map_err(ExtractError::from)?;
        let mut n_computed = 0;
        for (split, images) in splits {
            match self.split(&mut folder, network.trainee.frame(), split, images)? {
                Completion::Done(n) => n_computed += n,
                Completion::Stopped => return Ok(Completion::Stopped),
            }
        }
        let record = folder.complete().map_err(ExtractError::from)?;
        Ok(Completion::Done(Extracted { record, n_computed }))
    }

    fn shape(&self) -> FeatureShape {
        let [channels, height, width] =
            self.plan.prefix_chw().map(|side| u32::try_from(side).expect("no map is larger than its image"));
        FeatureShape { height, width, channels }
    }

    fn made_of(&self, data: &DataFacts, weights_hash: String) -> MadeOf {
        let (spec, shape) = (&self.plan.spec, self.shape());
        MadeOf {
            xp: env!("CARGO_PKG_VERSION").to_owned(),
            device: self.device.class.to_owned(),
            backbone: self.plan.network.layout.name.to_owned(),
            layer: self.plan.cut().to_owned(),
            weights_hash: match spec.model.weights {
                Weights::Random => format!("{weights_hash}, seed {}", spec.seed),
                _ => weights_hash,
            },
            selection: self.plan.weights.as_ref().map_or(Value::Null, |weights| json!(weights.selection)),
            preprocessing: json!(self.plan.preprocessing),
            images: self.plan.images_json(),
            shape: [shape.height, shape.width, shape.channels],
            classes: data.classes.clone(),
            data: data.splits.clone(),
        }
    }

    /// Writes a split's files, from where an earlier process got to; tells how many rows it computed.
    fn split(
        &self,
        folder: &mut Folder,
        frame: &Frame,
        split: Split,
        images: Arc<Images>,
    ) -> Result<Completion<u64>, ExtractError> {
        if folder.has(split)? {
            return Ok(Completion::Done(0));
        }
        let (n_images, batch_size) = (images.len() as u64, self.batch_size());
        let mut rows = folder.rows(split, n_images, self.shape(), u64::from(batch_size))?;
        let n_before = rows.n_done();
        let batching = Batching {
            n_images: n_images as u32,
            batch_size,
            order: Order::Members((n_before as u32..n_images as u32).collect()),
            last_single: LastSingle::Stays,
            steps_per_epoch: None,
        };
        let (seed, threads) = (self.plan.spec.seed, self.resources.loader_threads);
        let loader =
            Loader::new(Arc::clone(&images), LoaderSettings { batching, augment: Augment::NONE, seed, threads });
        self.events.phase(Phase::Prefix(split), n_images, || self.compute(frame, &loader, &images, &mut rows))?;
        if self.stop.is_raised() {
            return Ok(Completion::Stopped);
        }
        let n_computed = rows.n_done() - n_before;
        folder.finish(rows, &images)?;
        Ok(Completion::Done(n_computed))
    }

    fn compute(&self, frame: &Frame, loader: &Loader, images: &Images, rows: &mut Rows) -> Result<(), ExtractError> {
        for batch in loader.epoch(1, &self.stop) {
            let batch = batch?;
            let (values, chw) = Values::of(batch.bytes_nhwc, batch.shape);
            let values = frame.of_one_size(values, self.batch_size() as usize, chw);
            let features = frame.features(values, chw);
            let mut nhwc = features.permute([0, 2, 3, 1]).try_into_vec_as::<f32>()?;
            nhwc.truncate(batch.labels.len() * self.shape().n_values());
            if let Some(place) = nhwc.iter().position(|value| !value.is_finite()) {
                let (row, index) = (place / self.shape().n_values(), place % self.shape().n_values());
                let image = images.name(batch.samples[row] as usize).display().to_string();
                return Err(ExtractError::NotFinite { image, index, value: nhwc[place] });
            }
            rows.append(&nhwc)?;
            self.events.progress(rows.n_done());
        }
        Ok(())
    }

    fn batch_size(&self) -> u32 {
        batches::fitting(self.plan, MAX_BATCH_BYTES)
    }
}
