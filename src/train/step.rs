//! One step of training or measuring on a batch, as burn-train calls it.

use std::sync::Arc;

use burn::module::Module;
use burn::optim::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Tensor, TensorData};
use burn::train::{InferenceStep, TrainOutput, TrainStep};

use crate::data::features::nchw_from_nhwc;
use crate::data::images::SampleShape;
use crate::models::classifier::{Prefix, Tail};
use crate::models::dropout::DropoutAddress;
use crate::run::metric::Measure;
use crate::spec::schema::Loss;
use crate::train::clip;
use crate::train::loss;
use crate::train::metric::BatchStats;
use crate::weights::preprocessing::PixelTransform;

/// A batch in host memory.
#[derive(Clone, Debug)]
pub struct Input {
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

/// What a batch holds of its images.
#[derive(Clone, Debug)]
pub enum Values {
    /// Bytes `[n, h, w, 3]`.
    PixelsNhwc(Vec<u8>),
    /// The prefix's output `[n, c, h, w]`.
    Features(Vec<f32>),
}

impl Values {
    /// Pixels of images that look like nothing, always the same.
    pub fn made_up(n_images: usize, image_chw: [usize; 3]) -> Self {
        let n_bytes = n_images * image_chw.iter().product::<usize>();
        Self::PixelsNhwc((0..n_bytes).map(|i| (i * 7 % 251) as u8).collect())
    }

    /// A batch's bytes as a network takes them, with channels, height and width of one image's.
    pub fn of(bytes_nhwc: Vec<u8>, shape: SampleShape) -> (Self, [usize; 3]) {
        match shape {
            SampleShape::Pixels { height, width } => {
                (Self::PixelsNhwc(bytes_nhwc), [3, height as usize, width as usize])
            }
            SampleShape::Features(shape) => {
                let chw = [shape.channels, shape.height, shape.width].map(|side| side as usize);
                (Self::Features(nchw_from_nhwc(&bytes_nhwc, shape)), chw)
            }
        }
    }
}

/// All of a step that does not train.
#[derive(Debug)]
pub struct Frame {
    pub prefix: Prefix,
    pub preprocessing: PixelTransform,
    pub loss: Loss,
    pub label_smoothing: f64,
    pub clip_global_norm: Option<f64>,
    /// What is measured of every batch.
    pub measures: Vec<Measure>,
    pub seed: u64,
    /// Without autodiff.
    pub device: Device,
}

impl Frame {
    /// The prefix's output on the plain device.
    ///
    /// Shape: `[n, c, h, w]`.
    pub fn features(&self, values: Values, chw: [usize; 3], n: usize) -> Tensor<4> {
        match values {
            Values::Features(values) => {
                let [c, h, w] = chw;
                Tensor::from_data(TensorData::new(values, [n, c, h, w]), &self.device)
            }
            Values::PixelsNhwc(pixels) => {
                self.prefix.forward(images(&self.preprocessing, &pixels, chw, n, &self.device))
            }
        }
    }

    fn stats(&self, logits: &Tensor<2>, labels: &[u32], weights: Option<Vec<f32>>) -> BatchStats {
        let weighted = |losses: Tensor<1>| match weights.clone() {
            Some(weights) => losses * Tensor::from_data(TensorData::new(weights, [labels.len()]), &self.device),
            None => losses,
        };
        let values = |measure: &Measure| match measure {
            Measure::Loss => weighted(loss::per_image(self.loss, logits.clone(), labels, self.label_smoothing)),
            Measure::Accuracy => loss::correct(self.loss, logits, labels),
            Measure::TopK(k) => loss::in_top_k(logits, labels, *k),
        };
        BatchStats { values: self.measures.iter().map(|measure| (*measure, values(measure))).collect() }
    }
}

/// Preprocessed images.
///
/// Shape: bytes `[n, h, w, 3]` → `[n, 3, h, w]`.
pub fn images(
    preprocessing: &PixelTransform,
    pixels_nhwc: &[u8],
    [_, h, w]: [usize; 3],
    n: usize,
    device: &Device,
) -> Tensor<4> {
    let n_pixels = h * w;
    let mut values = vec![0.0_f32; pixels_nhwc.len()];
    let images = values.chunks_exact_mut(3 * n_pixels).zip(pixels_nhwc.chunks_exact(3 * n_pixels));
    for (image_chw, image_hwc) in images {
        preprocessing.planes_from_pixels(image_hwc, image_chw);
    }
    Tensor::from_data(TensorData::new(values, [n, 3, h, w]), device)
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
        let features = self.frame.features(input.values, input.chw, input.labels.len());
        let dropout = DropoutAddress { seed: self.frame.seed, epoch: input.pass, samples: &input.samples };
        let logits = self.tail.forward(features.autodiff(), Some(dropout));
        let stats = self.frame.stats(&logits, &input.labels, input.weights);
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
        let features = self.frame.features(input.values, input.chw, input.labels.len());
        self.frame.stats(&self.tail.forward(features, None), &input.labels, None)
    }
}

#[cfg(test)]
mod tests;
