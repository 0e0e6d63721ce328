//! The classes of single images, by a trained network or by one that was trained on ImageNet.

use std::path::Path;
use std::sync::Arc;

use burn::module::Module;

use crate::data::decode::{DecodeError, RgbImage, decode_as};
use crate::data::resize::resize;
use crate::models::classifier::{Prefix, Sources, Tail};
use crate::models::parameters::{Parameters, ParametersError};
use crate::run::event::SavedCheckpoint;
use crate::spec::schema::Loss;
use crate::spec::schema::data::{Decode, Exif, Resize};
use crate::train::TrainError;
use crate::train::checkpoint::Checkpoint;
use crate::train::device::TrainDevice;
use crate::train::plan::Plan;
use crate::train::step::{Frame, Trainee};
use crate::train::values::Values;
use crate::train::{evaluate, network};
use crate::weights::load::{FileParameters, LoadError};
use crate::weights::locate::Located;
use crate::weights::lookalike::{self, Finding};
use crate::weights::matching::{Top, Wanted};
use crate::weights::registry::{Golden, Source};

/// A network that names classes.
#[derive(Debug)]
pub struct Predictor {
    trainee: Trainee,
    view: View,
}

/// What of an image a network sees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct View {
    /// Pixels.
    pub height: u32,
    pub width: u32,
    /// The part of the short side, once it is resized, that the middle cut keeps; `None` where images are squashed.
    pub crop_fraction: Option<f32>,
    pub filter: Resize,
    pub exif: Exif,
    pub decode: Decode,
}

/// What a network says of an image.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// By label; they add up to 1.
    pub probabilities: Vec<f64>,
    /// What it saw.
    pub seen: RgbImage,
}

impl Predictor {
    /// The network of a run's checkpoint; the plan is that of an evaluation.
    pub fn of_run(
        plan: &Plan,
        device: &TrainDevice,
        run_dir: &Path,
        checkpoint: &SavedCheckpoint,
        weights_hash: Option<&str>,
    ) -> Result<Self, TrainError> {
        let network = network::build(plan, device)?;
        if let Some(trained_with) = weights_hash.filter(|hash| *hash != network.weights_hash) {
            return Err(TrainError::OtherWeights { trained_with: trained_with.to_owned(), here: network.weights_hash });
        }
        let trainee = evaluate::load(network.trainee, plan, &Checkpoint::open(run_dir, checkpoint)?)?;
        Ok(Self { trainee, view: View::of_plan(plan) })
    }

    /// A plan's network with all of its tensors from one place.
    pub fn of_parameters(
        plan: &Plan,
        device: &TrainDevice,
        parameters: &dyn Parameters,
    ) -> Result<Self, ParametersError> {
        let trainee = network::of_parameters(plan, device, parameters)?.trainee.valid();
        Ok(Self { trainee, view: View::of_plan(plan) })
    }

    /// The trained network.
    pub fn trainee(&self) -> &Trainee {
        &self.trainee
    }

    /// A backbone with the classifier that it was trained with, and what should be known of its file.
    pub fn of_source(located: &Located, device: &TrainDevice) -> Result<(Self, Vec<String>), TrainError> {
        let Source { preprocessing, .. } = *located.source;
        let (plan, size) = (located.source.whole_network(), preprocessing.image_size);
        let unusable = |error: LoadError| ParametersError::Unreadable(error.to_string());
        let wanted = Wanted { layout: &plan.layout, top: Top::Needed(&plan.head) };
        let file = FileParameters::located(located, wanted).map_err(unusable)?;
        let matched = file.matched();
        let mut said: Vec<String> = matched.warnings.iter().cloned().chain(matched.unused_warning()).collect();
        match lookalike::find(located, &file) {
            Finding::Sure => {}
            Finding::Unsure(warning) => said.push(warning),
            Finding::Other { reason, hint } => {
                return Err(ParametersError::Unreadable(format!("{reason}; {hint}")).into());
            }
        }
        let sources = Sources { backbone: &file, head: &file };
        let frame = Frame {
            prefix: Prefix::new(&plan, sources, &device.device)?,
            preprocessing: preprocessing.pixels,
            loss: plan.head.loss,
            label_smoothing: 0.0,
            clip_global_norm: None,
            measures: Vec::new(),
            seed: 0,
            device: device.device.clone(),
        };
        let view = View {
            height: size,
            width: size,
            crop_fraction: preprocessing.crop_fraction,
            filter: preprocessing.resize.unwrap_or(Resize::Bilinear),
            exif: Exif::Ignore,
            decode: Decode::LibjpegTurbo,
        };
        let trainee = Trainee::new(Tail::new(&plan, sources, &device.device)?, Arc::new(frame)).valid();
        let predictor = Self { trainee, view };
        // The user's own may have learned something else.
        match located.published.and(located.source.golden.as_ref()) {
            Some(golden) if !predictor.gives(golden) => {
                let reason = format!("{} does not give the answers that are known of it", located.source.name);
                Err(ParametersError::Unreadable(reason).into())
            }
            _ => Ok((predictor, said)),
        }
    }

    /// Whether the network answers as it is known to, on this device.
    fn gives(&self, golden: &Golden) -> bool {
        let size = golden.image_size as usize;
        golden.are_given_by(&self.logits(golden.image_hwc_u8(), [3, size, size]))
    }

    /// What the head gives for an image of the network's size, before softmax or sigmoid; of a head on features as many
    /// bytes are features from −1 to 1.
    pub fn logits(&self, pixels_hwc: Vec<u8>, chw: [usize; 3]) -> Vec<f64> {
        let n_channels = chw[0];
        let values = if n_channels == 3 {
            Values::PixelsNhwc(pixels_hwc)
        } else {
            let plane = |channel: usize| pixels_hwc.iter().skip(channel).step_by(n_channels);
            let bytes = (0..n_channels).flat_map(plane);
            Values::Features(bytes.map(|byte| f32::from(*byte) / 127.5 - 1.0).collect())
        };
        let logits = self.trainee.tail.forward(self.trainee.frame().features(values, chw), None);
        logits.try_into_vec_as::<f64>().expect("logits are numbers")
    }

    /// Decodes an image and classifies it.
    pub fn predict(&self, file: &[u8]) -> Result<Prediction, DecodeError> {
        let seen = self.view.of(file)?;
        let chw = [3, seen.height as usize, seen.width as usize];
        let logits = self.logits(seen.pixels_hwc.clone(), chw);
        Ok(Prediction { probabilities: probabilities(self.trainee.frame().loss, &logits), seen })
    }
}

impl View {
    fn of_plan(plan: &Plan) -> Self {
        let [_, height, width] = plan.input_chw.map(|side| u32::try_from(side).expect("an image is no larger"));
        Self {
            height,
            width,
            crop_fraction: None,
            filter: plan.filter,
            exif: plan.spec.data.exif,
            decode: plan.spec.data.decode,
        }
    }

    /// What a network sees of an image's file.
    pub fn of(&self, file: &[u8]) -> Result<RgbImage, DecodeError> {
        let decoded = decode_as(file, self.decode)?;
        let image = match self.exif {
            Exif::Ignore => decoded.image,
            Exif::Apply => decoded.upright(),
        };
        let Some(crop) = self.crop_fraction else {
            return Ok(resize(&image, self.height, self.width, self.filter));
        };
        // As timm and torchvision: the short side resized, the long one in proportion, and the middle of both.
        let short = (self.height as f32 / crop + 0.5).floor() as u32;
        let scaled = |side: u32, other: u32| {
            let in_proportion = u64::from(short) * u64::from(side) / u64::from(side.min(other));
            u32::try_from(in_proportion).unwrap_or(u32::MAX).clamp(short, MAX_SIDE)
        };
        let resized = resize(&image, scaled(image.height, image.width), scaled(image.width, image.height), self.filter);
        Ok(middle(&resized, self.height, self.width))
    }
}

/// Longest side that an image is resized to before its middle is cut out.
const MAX_SIDE: u32 = 1 << 14;

/// The middle of an image that is at least as large.
fn middle(image: &RgbImage, height: u32, width: u32) -> RgbImage {
    let (top, left) = ((image.height - height) / 2, (image.width - width) / 2);
    let row = |y: u32| {
        let start = ((y * image.width + left) * 3) as usize;
        &image.pixels_hwc[start..start + (width * 3) as usize]
    };
    RgbImage { height, width, pixels_hwc: (top..top + height).flat_map(row).copied().collect() }
}

/// Softmax of several logits; of a single one the probabilities of the first and the second class.
pub(crate) fn probabilities(loss: Loss, logits: &[f64]) -> Vec<f64> {
    if let (Loss::BinaryCrossEntropy, &[logit]) = (loss, logits) {
        let second = 1.0 / (1.0 + (-logit).exp());
        return vec![1.0 - second, second];
    }
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let exponentials: Vec<f64> = logits.iter().map(|logit| (logit - largest).exp()).collect();
    let sum: f64 = exponentials.iter().sum();
    exponentials.into_iter().map(|exponential| exponential / sum).collect()
}
