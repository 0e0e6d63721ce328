//! Measuring a trained network on a split.

use std::path::Path;
use std::sync::Arc;

use burn::module::Module;
use burn::train::InferenceStep;

use crate::data::feature_cache::FeatureCache;
use crate::run::event::{Event, Phase, SavedCheckpoint, SplitFacts};
use crate::run::metric::{Measure, MetricKey, Point, Split};
use crate::run::stop::StopFlag;
use crate::settings::Resources;
use crate::train::channel::Events;
use crate::train::checkpoint::Checkpoint;
use crate::train::device::TrainDevice;
use crate::train::feed::Source;
use crate::train::network;
use crate::train::plan::Plan;
use crate::train::splits::Reading;
use crate::train::step::Trainee;
use crate::train::{Completion, TrainError};

/// Means over the images of a split.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// The loss in nats, then accuracies from 0 to 1.
    pub means: Vec<(Measure, f64)>,
    pub n_images: u64,
}

impl Measured {
    /// As points of the epoch whose checkpoint was measured.
    pub fn points(&self, split: Split, epoch: u32, step: u64) -> Vec<(MetricKey, Point)> {
        let at_ms = jiff::Timestamp::now().as_millisecond();
        let point = |value| Point { epoch, step, at_ms, value, n_samples: self.n_images };
        self.means.iter().map(|(measure, value)| (MetricKey::new(split, *measure), point(*value))).collect()
    }
}

/// Puts a checkpoint into a network, which the plan of its epoch has built, in inference mode.
pub fn load(trainee: Trainee, plan: &Plan, checkpoint: &Checkpoint) -> Result<Trainee, TrainError> {
    let record = checkpoint.module_record(&plan.network)?;
    let unreadable = |reason: String| TrainError::Record { epoch: checkpoint.manifest().epoch, reason };
    trainee.valid().try_load_record(record).map_err(|error| unreadable(error.to_string()))
}

/// Measures a network in inference mode on all images of a source.
pub fn measure(
    trainee: &Trainee,
    source: &Source,
    stop: &StopFlag,
    progress: impl Fn(u64),
) -> Result<Completion<Measured>, TrainError> {
    let mut totals: Vec<(Measure, f64)> = trainee.frame().measures.iter().map(|measure| (*measure, 0.0)).collect();
    let mut n_images = 0;
    let unreadable = |reason: String| TrainError::Measure(reason);
    for input in source.epoch(1, stop) {
        let input = input.map_err(|e| unreadable(e.to_string()))?;
        let n_in_batch = input.labels.len() as u64;
        let stats = trainee.step(input);
        for ((_, total), (_, values)) in totals.iter_mut().zip(stats.values) {
            let values = values.try_into_vec_as::<f32>().map_err(|e| unreadable(e.to_string()))?;
            *total += values.iter().map(|&value| f64::from(value)).sum::<f64>();
        }
        n_images += n_in_batch;
        progress(n_images);
    }
    if stop.is_raised() {
        return Ok(Completion::Stopped);
    }
    let n = n_images as f64;
    let means = totals.into_iter().map(|(measure, total)| (measure, total / n)).collect();
    Ok(Completion::Done(Measured { means, n_images }))
}

/// What to measure, and with which checkpoint.
#[derive(Clone, Debug)]
pub struct Evaluation<'a> {
    /// Made by [`crate::train::plan::plan_evaluation`]: its one listing is measured.
    pub plan: &'a Plan,
    pub device: &'a TrainDevice,
    pub run_dir: &'a Path,
    pub checkpoint: &'a SavedCheckpoint,
    /// The weights that the run began with, whose frozen part is not in its checkpoints.
    pub weights_hash: Option<&'a str>,
    /// The images that the run itself used, where these should be the same.
    pub split: Option<&'a SplitFacts>,
    pub resources: Resources,
    /// Where the frozen layers' output may be kept on disk.
    pub cache: Option<FeatureCache>,
    pub events: Events,
    pub stop: StopFlag,
}

impl Evaluation<'_> {
    /// Reads the images and measures them, or a part, with the checkpoint; tells which there are.
    pub fn measure(&self) -> Result<Completion<(Measured, SplitFacts)>, TrainError> {
        let reading = Reading {
            plan: self.plan,
            resources: self.resources,
            events: &self.events,
            stop: &self.stop,
            cache: self.cache.as_ref(),
        };
        let network = network::build(self.plan, self.device)?;
        if let Some(trained_with) = self.weights_hash.filter(|hash| *hash != network.weights_hash) {
            return Err(TrainError::OtherWeights { trained_with: trained_with.to_owned(), here: network.weights_hash });
        }
        let (split, listing) = &self.plan.listings[0];
        let Completion::Done(images) = reading.images(*split, listing, Some(network.trainee.frame()))? else {
            return Ok(Completion::Stopped);
        };
        let facts = SplitFacts { split: *split, n_images: images.len() as u64, hash: images.hash() };
        if self.split.is_some_and(|recorded| recorded.hash != images.hash()) {
            let text = format!("the {split} images are not those that the run used: some of them have changed since");
            self.events.send(Event::Warning(text));
        }
        let trainee = load(network.trainee, self.plan, &Checkpoint::open(self.run_dir, self.checkpoint)?)?;
        let Completion::Done(source) = reading.source(Arc::new(images), *split, trainee.frame())? else {
            return Ok(Completion::Stopped);
        };
        let n_images = source.len() as u64;
        let measured = self.events.phase(Phase::Test, n_images, || {
            measure(&trainee, &source, &self.stop, |n_done| self.events.progress(n_done))
        })?;
        Ok(match measured {
            Completion::Done(measured) => Completion::Done((measured, facts)),
            Completion::Stopped => Completion::Stopped,
        })
    }
}
