//! The points of a sweep, best first, and whether their differences are more than chance.

pub mod family;
mod json;
mod text;

use std::cmp::Ordering;
use std::collections::BTreeSet;

use serde_json::Value;

use crate::report::ranking::family::Family;
use crate::report::statistics::{mean, standard_deviation};
use crate::run::metric::{Direction, MetricKey};

/// A point and what its replicates gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    pub label: String,
    /// Its values by key, for JSON.
    pub values: Value,
    pub replicates: Vec<Replicate>,
    /// What keeps it from being complete: `2 of 3 seeds`, `stopped after 3 epochs`; empty when nothing does.
    pub note: String,
    /// The test split's metric of each seed that was tested.
    pub test: Vec<f64>,
}

/// A point trained once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Replicate {
    /// What the train and valid images were drawn with, where the sweep draws them several times.
    pub split_seed: Option<u64>,
    pub seed: u64,
    /// Its metric at the epoch that is kept; `None` before there is one.
    pub value: Option<f64>,
    /// The metric of every validation image, whose mean is `value`; `None` where that was not recorded or the metric is no
    /// mean over images.
    pub images: Option<Vec<f32>>,
    /// What is the same for the same images in the same order.
    pub images_hash: Option<String>,
    pub n_train: Option<u64>,
    pub n_valid: Option<u64>,
    /// The run's name.
    pub run: Option<String>,
}

/// Points in their order.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranking {
    pub metric: MetricKey,
    /// Complete ones first.
    pub rows: Vec<Row>,
    /// How the complete ones were tested against each other.
    pub family: Family,
    pub verdict: String,
    /// Whether points are still to come, so that none is chosen yet.
    pub is_open: bool,
    /// Looks at the chosen point's test images, where it was tested.
    pub looks: Option<Looks>,
}

/// How often test images were looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Looks {
    /// Of all runs, sweeps and evaluations in the home.
    pub n_total: usize,
    /// Points of this sweep that were tested.
    pub n_points: usize,
}

/// A place in the ranking.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub point: Point,
    /// Over splits of the means over seeds.
    pub mean: Option<f64>,
    /// Of the splits' means where there are several splits, else of the seeds.
    pub std: Option<f64>,
    /// Replicates with a value.
    pub n: usize,
    /// How much worse it is than the first; `None` of what is not complete.
    pub behind: Option<f64>,
    /// In which `behind` lies with a confidence of 95 %, for itself: not corrected for the number of pairs.
    pub interval: Option<[f64; 2]>,
    /// Of the test against the first, corrected for all pairs of complete points.
    pub p: Option<f64>,
}

/// Ranks points by their means; those that are not complete come after those that are, and are held against none.
pub fn rank(metric: MetricKey, points: Vec<Point>) -> Ranking {
    let n_splits = distinct(points.iter().flat_map(|point| &point.replicates).filter_map(|of| of.split_seed));
    let mut rows: Vec<Row> = points.into_iter().map(|point| row(point, n_splits > 1)).collect();
    rows.sort_by(|a, b| order(metric, a, b));
    let n_comparable = rows.iter().take_while(|row| row.is_comparable()).count();
    let (comparable, _) = rows.split_at(n_comparable);
    let family = family::test(comparable);
    let first = comparable.first().and_then(|row| row.mean);
    for (place, row) in rows.iter_mut().enumerate().take(n_comparable).skip(1) {
        row.behind = row.mean.zip(first).map(|(mean, first)| worse_by(metric, mean, first));
        let pair = family.pairs.iter().find(|pair| pair.places == [0, place]);
        row.p = pair.map(|pair| pair.p);
        row.interval = pair.map(|pair| behind(metric, pair.interval));
    }
    let verdict = text::verdict(&rows, &family);
    Ranking { metric, rows, family, verdict, is_open: false, looks: None }
}

fn row(point: Point, has_splits: bool) -> Row {
    let values: Vec<f64> = point.replicates.iter().filter_map(|of| of.value).collect();
    let by_split = point.by_split();
    let split_means: Vec<f64> = by_split.iter().map(|(_, mean)| *mean).collect();
    let std = standard_deviation(if has_splits { &split_means } else { &values });
    Row {
        mean: mean(&split_means),
        std: std.filter(|std| std.is_finite()),
        n: values.len(),
        behind: None,
        interval: None,
        p: None,
        point,
    }
}

fn order(metric: MetricKey, a: &Row, b: &Row) -> Ordering {
    let loss = |row: &Row| row.mean.map_or(f64::INFINITY, |mean| worse_by(metric, mean, 0.0));
    let group = |row: &Row| (!row.point.note.is_empty(), !row.is_comparable());
    group(a).cmp(&group(b)).then(loss(a).total_cmp(&loss(b)))
}

fn worse_by(metric: MetricKey, value: f64, than: f64) -> f64 {
    if metric.direction() == Direction::Minimize { value - than } else { than - value }
}

/// The interval of how much worse the second of a pair is, from that of first less second.
fn behind(metric: MetricKey, [low, high]: [f64; 2]) -> [f64; 2] {
    // Zero less, so that no end is a negative 0.
    if metric.direction() == Direction::Minimize { [0.0 - high, 0.0 - low] } else { [low, high] }
}

fn distinct(numbers: impl Iterator<Item = u64>) -> usize {
    numbers.collect::<BTreeSet<u64>>().len()
}

impl Point {
    /// Each split and the mean over its seeds, in the order of the splits.
    fn by_split(&self) -> Vec<(Option<u64>, f64)> {
        let splits: BTreeSet<Option<u64>> = self.replicates.iter().map(|of| of.split_seed).collect();
        let of_split = |split: Option<u64>| {
            let values = self.replicates.iter().filter(|of| of.split_seed == split).filter_map(|of| of.value);
            Some((split, mean(&values.collect::<Vec<_>>())?))
        };
        splits.into_iter().filter_map(of_split).collect()
    }
}

impl Row {
    /// Whether it is complete, and all its values are numbers.
    pub fn is_comparable(&self) -> bool {
        let replicates = &self.point.replicates;
        let is_number = |of: &Replicate| of.value.is_some_and(f64::is_finite);
        self.point.note.is_empty() && !replicates.is_empty() && replicates.iter().all(is_number)
    }

    /// The names of its runs.
    fn runs(&self) -> Vec<&str> {
        self.point.replicates.iter().filter_map(|of| of.run.as_deref()).collect()
    }
}

impl Ranking {
    /// The point that is chosen, unless none is complete or some are still to come.
    pub fn chosen(&self) -> Option<&Row> {
        self.leading().filter(|_| !self.is_open)
    }

    /// The best point so far.
    fn leading(&self) -> Option<&Row> {
        self.rows.first().filter(|row| row.is_comparable())
    }
}

/// The test split's name of a metric.
pub fn test_name(metric: MetricKey) -> String {
    format!("test.{}", metric.measure)
}

#[cfg(test)]
mod tests;
