//! Metrics as burn-train wants them: means over images, whatever the sizes of the batches.

use std::sync::Arc;

use burn::tensor::{ExecutionError, Tensor, TensorReadError};
use burn::train::metric::{
    Adaptor, ItemLazy, Metric, MetricAttributes, MetricMetadata, MetricName, Numeric, NumericAttributes, NumericEntry,
    SerializedEntry,
};

use crate::run::metric::{Direction, Measure};

/// What a step hands to the metrics: for each measure one number an image.
///
/// Shape: all `[n]`.
#[derive(Clone, Debug)]
pub struct BatchStats {
    pub values: Vec<(Measure, Tensor<1>)>,
}

impl BatchStats {
    /// One number an image.
    pub fn of(&self, measure: Measure) -> &Tensor<1> {
        let found = self.values.iter().find(|(of, _)| *of == measure);
        &found.expect("a step measures all that is asked of it").1
    }
}

impl ItemLazy for BatchStats {
    fn sync(self) -> Result<Self, ExecutionError> {
        let plain = |(measure, values): (Measure, Tensor<1>)| {
            values.device().flush()?;
            Ok((measure, values.without_autodiff()))
        };
        Ok(Self { values: self.values.into_iter().map(plain).collect::<Result<_, ExecutionError>>()? })
    }
}

impl Adaptor<Self> for BatchStats {
    fn adapt(&self) -> Self {
        self.clone()
    }
}

/// The mean of a measure over the images of a split.
#[derive(Clone, Debug)]
pub struct ImageMean {
    measure: Measure,
    name: MetricName,
    batch: Sum,
    split: Sum,
}

/// A sum and how many values it has.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    total: f64,
    n: usize,
}

impl Sum {
    fn entry(self) -> NumericEntry {
        NumericEntry::Aggregated { aggregated_value: self.mean(), count: self.n }
    }

    /// NaN for no values: burn-train asks for a final value even of a split that was interrupted at once.
    fn mean(self) -> f64 {
        self.total / self.n as f64
    }
}

impl ImageMean {
    pub fn new(measure: Measure) -> Self {
        let name = Arc::new(measure.to_string());
        Self { measure, name, batch: Sum::default(), split: Sum::default() }
    }

    fn entry(&self) -> SerializedEntry {
        SerializedEntry::new(format!("{:.4}", self.split.mean()), self.batch.mean().to_string())
    }
}

impl Metric for ImageMean {
    type Input = BatchStats;

    fn name(&self) -> MetricName {
        Arc::clone(&self.name)
    }

    fn attributes(&self) -> MetricAttributes {
        let higher_is_better = self.measure.direction() == Direction::Maximize;
        NumericAttributes { unit: None, higher_is_better }.into()
    }

    fn update(&mut self, item: &BatchStats, _: &MetricMetadata) -> Result<SerializedEntry, TensorReadError> {
        let values = item.of(self.measure).clone().try_into_vec_as::<f32>()?;
        self.batch = Sum { total: values.iter().map(|&value| f64::from(value)).sum(), n: values.len() };
        self.split = Sum { total: self.split.total + self.batch.total, n: self.split.n + self.batch.n };
        Ok(self.entry())
    }

    fn compute(&mut self) -> Result<SerializedEntry, TensorReadError> {
        Ok(self.entry())
    }

    fn clear(&mut self) {
        self.batch = Sum::default();
        self.split = Sum::default();
    }
}

impl Numeric for ImageMean {
    fn value(&self) -> Option<NumericEntry> {
        Some(self.batch.entry())
    }

    fn running_value(&self) -> Option<NumericEntry> {
        Some(self.split.entry())
    }

    fn final_value(&self) -> NumericEntry {
        NumericEntry::Final(self.split.mean())
    }
}
