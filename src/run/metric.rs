//! Metrics: their names, directions and points, and the summary kept of a series.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The part of the data a metric was measured on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    Train,
    Valid,
    Test,
}

impl Split {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Valid => "valid",
            Self::Test => "test",
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which way a metric improves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    Minimize,
    Maximize,
}

impl Direction {
    /// Whether `new` beats `old`. NaN never does; a tie stays with the earlier value.
    pub fn improves(self, new: f64, old: Option<f64>) -> bool {
        if new.is_nan() {
            return false;
        }
        match (self, old) {
            (_, None) => true,
            (Self::Minimize, Some(old)) => new < old,
            (Self::Maximize, Some(old)) => new > old,
        }
    }
}

/// What is measured; every kind knows its name and its direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Measure {
    /// Mean over samples, in nats.
    Loss,
    /// Fraction of samples, 0 to 1.
    Accuracy,
    /// Fraction of samples whose label is among the k most probable classes, 0 to 1; k is at least 2.
    TopK(u16),
}

impl Measure {
    /// The measure that is written this way, if there is one.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "loss" => Some(Self::Loss),
            "accuracy" => Some(Self::Accuracy),
            _ => {
                let k = text.strip_prefix("top")?.strip_suffix("_accuracy")?;
                let k: u16 = k.parse().ok().filter(|k| *k >= 2)?;
                Some(Self::TopK(k)).filter(|measure| measure.to_string() == text)
            }
        }
    }

    pub fn direction(self) -> Direction {
        match self {
            Self::Loss => Direction::Minimize,
            Self::Accuracy | Self::TopK(_) => Direction::Maximize,
        }
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loss => f.write_str("loss"),
            Self::Accuracy => f.write_str("accuracy"),
            Self::TopK(k) => write!(f, "top{k}_accuracy"),
        }
    }
}

/// One metric of a run, written `<split>.<name>`: `valid.accuracy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MetricKey {
    pub split: Split,
    pub measure: Measure,
}

impl MetricKey {
    pub const fn new(split: Split, measure: Measure) -> Self {
        Self { split, measure }
    }

    pub fn direction(self) -> Direction {
        self.measure.direction()
    }

    /// The key that is written this way, if there is one.
    pub fn parse(text: &str) -> Option<Self> {
        let (split, measure) = text.split_once('.')?;
        let split = [Split::Train, Split::Valid, Split::Test].into_iter().find(|known| known.as_str() == split)?;
        Some(Self::new(split, Measure::parse(measure)?))
    }
}

impl fmt::Display for MetricKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.split, self.measure)
    }
}

/// Whether a point stands for a whole epoch, for one optimizer step inside it, or for a look at the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resolution {
    Epoch,
    Step,
    System,
}

/// One measured value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// 1-based: the epoch that ended, or that the step belongs to.
    pub epoch: u32,
    /// Optimizer steps taken so far.
    pub step: u64,
    /// Wall clock, milliseconds since the Unix epoch, UTC.
    pub at_ms: i64,
    pub value: f64,
    /// Samples the value is a mean over.
    pub n_samples: u64,
}

/// What is kept of a series so that lists and comparisons need no points.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct SeriesSummary {
    pub last: Option<f64>,
    pub min: Option<f64>,
    pub max: Option<f64>,
    /// The best value by the metric's direction; `None` while every value is NaN, and where no direction is better.
    pub best: Option<f64>,
    /// The earliest epoch that reached `best`.
    pub best_epoch: Option<u32>,
    pub n_points: u64,
}

impl SeriesSummary {
    /// Takes one more point into account; without a direction none is the best.
    pub fn push(&mut self, point: &Point, direction: Option<Direction>) {
        let value = point.value;
        self.n_points += 1;
        self.last = Some(value);
        if Direction::Minimize.improves(value, self.min) {
            self.min = Some(value);
        }
        if Direction::Maximize.improves(value, self.max) {
            self.max = Some(value);
        }
        if direction.is_some_and(|direction| direction.improves(value, self.best)) {
            self.best = Some(value);
            self.best_epoch = Some(point.epoch);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(epoch: u32, value: f64) -> Point {
        Point { epoch, step: 0, at_ms: 0, value, n_samples: 1 }
    }

    #[test]
    fn nan_is_never_best_and_ties_go_to_the_earliest_epoch() {
        let mut summary = SeriesSummary::default();
        for (epoch, value) in [(1, f64::NAN), (2, 0.5), (3, 0.5), (4, 0.7)] {
            summary.push(&point(epoch, value), Some(Direction::Minimize));
        }
        assert_eq!(summary.best, Some(0.5));
        assert_eq!(summary.best_epoch, Some(2));
        assert_eq!((summary.min, summary.max, summary.last), (Some(0.5), Some(0.7), Some(0.7)));
        assert_eq!(summary.n_points, 4);
    }

    #[test]
    fn a_key_is_written_as_split_dot_name() {
        for text in ["valid.accuracy", "train.loss", "test.top5_accuracy"] {
            assert_eq!(MetricKey::parse(text).unwrap().to_string(), text);
        }
        for text in
            ["valid", "valid.", "valid.top1_accuracy", "valid.top05_accuracy", "valid.topx_accuracy", "all.loss"]
        {
            assert_eq!(MetricKey::parse(text), None, "{text}");
        }
    }
}
