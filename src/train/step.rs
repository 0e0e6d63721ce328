//! One step of training or measuring on a batch, as burn-train calls it.

use std::sync::Arc;

use burn::module::Module;
use burn::optim::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Tensor, TensorData};
use burn::train::{InferenceStep, TrainOutput, TrainStep};

use crate::models::classifier::{Prefix, Tail};
use crate::models::dropout::DropoutAddress;
use crate::run::metric::Measure;
use crate::spec::schema::Loss;
use crate::train::clip;
use crate::train::loss;
use crate::train::metric::BatchStats;
use crate::train::values::{self, Values};
use crate::weights::preprocessing::PixelTransform;

/// A batch in host memory.
#[derive(Clone, Debug)]
pub struct Input {
    /// Rows of the images, and after them any number of rows that do not count.
    pub values: Values,
    /// Channels, height and width of one image's values.
    pub chw: [usize; 3],
    pub labels: Vec<u32>,
    /// Each row's image, by its index in the split.
    pub samples: Vec<u32>,
    /// The pass over the images, 1-based.
    pub pass: u32,
    /// Images of the optimizer's step that this batch is part of; without accumulation its own.
    pub n_step_images: u64,
    /// A factor on each image's loss; `None` for 1.
    pub weights: Option<Vec<f32>>,
}

/// All of a step that does not train.
#[derive(Debug)]
pub struct Frame {
    pub prefix: Prefix,
    pub preprocessing: PixelTransform,
    pub loss: Loss,
    /// Of the loss that trains; what is measured on held-out images is without.
    pub label_smoothing: f64,
    pub clip_global_norm: Option<f64>,
    /// What is measured of every batch.
    pub measures: Vec<Measure>,
    pub seed: u64,
    /// Without autodiff.
    pub device: Device,
}

impl Frame {
    /// The prefix's output on the plain device, a row for each of the values'.
    ///
    /// Shape: `[n, c, h, w]`.
    pub fn features(&self, values: Values, chw: [usize; 3]) -> Tensor<4> {
        match values {
            Values::Features(values) => values::features(values, chw, &self.device),
            Values::PixelsNhwc(pixels) => {
                self.prefix.forward(values::images(&self.preprocessing, pixels, chw, &self.device))
            }
            Values::DevicePixels(pixels) => self.prefix.forward(values::planes(&self.preprocessing, pixels)),
            Values::DeviceFeatures(features) => features,
        }
    }

    /// Whether kernels are tuned to a batch's size, so that one of another size costs more than rows that do not count.
    pub fn is_tuned(&self) -> bool {
        self.device != Device::flex()
    }

    /// Where kernels are tuned, with rows that do not count up to `n_rows`.
    pub fn of_one_size(&self, values: Values, n_rows: usize, chw: [usize; 3]) -> Values {
        if self.is_tuned() { values.padded(n_rows, chw) } else { values }
    }

    /// What is measured of a batch: of a training step its loss with `label_smoothing` and weights, of held-out images
    /// the cross entropy alone, which other values of these keys are comparable by.
    fn stats(
        &self,
        logits: &Tensor<2>,
        labels: &[u32],
        (label_smoothing, weights): (f64, Option<Vec<f32>>),
    ) -> BatchStats {
        let weighted = |losses: Tensor<1>| match weights.clone() {
            Some(weights) => losses * Tensor::from_data(TensorData::new(weights, [labels.len()]), &self.device),
            None => losses,
        };
        let values = |measure: &Measure| match measure {
            Measure::Loss => weighted(loss::per_image(self.loss, logits.clone(), labels, label_smoothing)),
            Measure::Accuracy => loss::correct(self.loss, logits, labels),
            Measure::TopK(k) => loss::in_top_k(logits, labels, *k),
        };
        BatchStats { values: self.measures.iter().map(|measure| (*measure, values(measure))).collect() }
    }
}

/// The part of the network that trains, with all it needs to take a step.
#[derive(Module, Debug)]
pub struct Trainee {
    pub tail: Tail,
    #[module(skip)]
    frame: Arc<Frame>,
}

impl Trainee {
    pub fn new(tail: Tail, frame: Arc<Frame>) -> Self {
        Self { tail, frame }
    }

    pub fn frame(&self) -> &Frame {
        &self.frame
    }
}

impl TrainStep for Trainee {
    type Input = Input;
    type Output = BatchStats;

    fn step(&self, input: Input) -> TrainOutput<BatchStats> {
        let n = input.labels.len();
        let features = self.frame.features(input.values, input.chw);
        // Rows after the images have masks too, and no part in what follows.
        let mut samples = input.samples;
        samples.resize(features.dims()[0], 0);
        let dropout = DropoutAddress { seed: self.frame.seed, epoch: input.pass, samples: &samples };
        let logits = first(self.tail.forward(features.autodiff(), Some(dropout)), n);
        let stats = self.frame.stats(&logits, &input.labels, (self.frame.label_smoothing, input.weights));
        // The gradients of a step's batches are added up, so together they are those of the mean over its images.
        let share = stats.of(Measure::Loss).clone().sum().div_scalar(input.n_step_images as f64);
        let gradients = share.backward();
        TrainOutput::new(self, gradients, stats)
    }

    fn optimize(self, optimizer: &mut ModuleOptimizer, rate: ModuleLearningRate, gradients: GradientsParams) -> Self {
        let gradients = match self.frame.clip_global_norm {
            Some(max_norm) => clip::by_global_norm(&self, gradients, max_norm),
            None => gradients,
        };
        optimizer.step(rate, self, gradients)
    }
}

impl InferenceStep for Trainee {
    type Input = Input;
    type Output = BatchStats;

    fn step(&self, input: Input) -> BatchStats {
        let logits = self.tail.forward(self.frame.features(input.values, input.chw), None);
        self.frame.stats(&first(logits, input.labels.len()), &input.labels, (0.0, None))
    }
}

/// The first `n` rows.
fn first(logits: Tensor<2>, n: usize) -> Tensor<2> {
    if logits.dims()[0] == n { logits } else { logits.narrow(0, 0, n) }
}

#[cfg(test)]
mod tests;
