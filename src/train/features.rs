//! The frozen prefix's output, computed once and kept in memory for all epochs.

use burn::tensor::TensorReadError;

use crate::data::images::ImageError;
use crate::data::loader::{Batch, Loader};
use crate::run::stop::StopFlag;
use crate::train::step::{Frame, Input, Values};

/// The features of the images of a split that are used, in their order.
#[derive(Debug)]
pub struct FeatureTable {
    /// `[n, c, h, w]`, row-major.
    values: Vec<f32>,
    chw: [usize; 3],
    labels: Vec<u32>,
}

/// Why features could not be computed.
#[derive(Debug, thiserror::Error)]
pub enum FeatureError {
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error("read the prefix's output: {0}")]
    Read(#[from] TensorReadError),
    #[error("stopped")]
    Stopped,
}

impl FeatureTable {
    /// Bytes that a table takes.
    pub fn n_bytes(n_images: usize, chw: [usize; 3]) -> u64 {
        n_images as u64 * chw.iter().product::<usize>() as u64 * size_of::<f32>() as u64
    }

    /// Runs the prefix over the images of a loader's first epoch; its order is the table's.
    ///
    /// `chw` is the prefix's output; `progress` is told the number of images done.
    pub fn compute(
        frame: &Frame,
        loader: &Loader,
        chw: [usize; 3],
        stop: &StopFlag,
        progress: impl Fn(u64),
    ) -> Result<Self, FeatureError> {
        let mut table = Self { values: Vec::new(), chw, labels: Vec::new() };
        let n_images = loader.batching().n_members() as usize;
        table.values.reserve_exact(n_images * chw.iter().product::<usize>());
        for batch in loader.epoch(1, stop) {
            let batch = batch?;
            let Batch { bytes_nhwc, shape, labels, .. } = batch;
            let (values, image_chw) = Values::of(bytes_nhwc, shape);
            let features = frame.features(&values, image_chw, labels.len());
            table.values.extend_from_slice(&features.try_into_vec_as::<f32>()?);
            table.labels.extend(labels);
            progress(table.labels.len() as u64);
        }
        if stop.is_raised() || table.labels.len() < n_images { Err(FeatureError::Stopped) } else { Ok(table) }
    }

    pub fn len(&self) -> usize {
        self.labels.len()
    }

    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Gathers the features of some images.
    pub fn input(&self, samples: &[u32], pass: u32) -> Input {
        let n_features: usize = self.chw.iter().product();
        let mut values = Vec::with_capacity(samples.len() * n_features);
        for &sample in samples {
            let start = sample as usize * n_features;
            values.extend_from_slice(&self.values[start..start + n_features]);
        }
        Input {
            values: Values::Features(values),
            chw: self.chw,
            labels: samples.iter().map(|&sample| self.labels[sample as usize]).collect(),
            samples: samples.to_vec(),
            pass,
            n_step_images: samples.len() as u64,
            weights: None,
        }
    }
}
