//! The tests of all pairs of points: by which method, and what came of them.

use std::collections::BTreeSet;

use crate::report::bootstrap::{self, Bootstrap, SeedImages};
use crate::report::ranking::{Replicate, Row, distinct};
use crate::report::statistics::{Tested, corrected_paired_t_test, holm, mean, paired_t_test};

/// How far the mean over a replicate's images may be from its metric, which was added up in another order.
const SAME: f64 = 1e-4;

/// Points of which all pairs are tested; of more, those with the best.
const MAX_ALL_PAIRS: usize = 200;

/// All tests of a sweep's points.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// `None` where no pair could be tested.
    pub kind: Option<Kind>,
    /// Validation images of a split, from the fewest to the most, where they are known.
    pub n_images: Option<[u64; 2]>,
    pub n_splits: usize,
    /// Of a point and split.
    pub n_seeds: usize,
    /// Of the bootstrap.
    pub n_replicates: Option<usize>,
    /// Those that were tested.
    pub pairs: Vec<Pair>,
    /// Pairs that p-values are corrected for: which point is the best was chosen among all.
    pub n_pairs: usize,
    /// Why the method is not a stronger one.
    pub why: Option<String>,
}

/// One method for a whole sweep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Over images and seeds, of one split.
    Bootstrap,
    /// Nadeau and Bengio's, over splits.
    CorrectedT,
    /// Over seeds alone, of one split.
    PairedT,
}

/// Two points, by their places, and what the test says of the first less the second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair {
    pub places: [usize; 2],
    /// Corrected for all pairs.
    pub p: f64,
    /// Of this pair alone.
    pub interval: [f64; 2],
}

/// Tests every two of complete points. Several splits are what a claim should hold over, so that they decide; within one
/// split its images do, where they were recorded, and else the seeds.
pub fn test(rows: &[Row]) -> Family {
    let replicates = || rows.iter().flat_map(|row| &row.point.replicates);
    let n_valid = || replicates().filter_map(|of| of.n_valid);
    let mut family = Family {
        kind: None,
        n_images: n_valid().min().zip(n_valid().max()).map(|(fewest, most)| [fewest, most]),
        n_splits: distinct(replicates().filter_map(|of| of.split_seed)).max(1),
        n_seeds: rows.iter().map(|row| distinct(row.point.replicates.iter().map(|of| of.seed))).max().unwrap_or(0),
        n_replicates: None,
        pairs: Vec::new(),
        n_pairs: 0,
        why: None,
    };
    // Of many points nobody reads all pairs, and their number grows with the square.
    let n_firsts = if rows.len() > MAX_ALL_PAIRS { 1 } else { rows.len() };
    let places: Vec<[usize; 2]> = (0..n_firsts).flat_map(|a| (a + 1..rows.len()).map(move |b| [a, b])).collect();
    let n_left = rows.len() * rows.len().saturating_sub(1) / 2 - places.len();
    if family.n_splits > 1 {
        family.take(Kind::CorrectedT, &places, n_left, |[a, b]| over_splits(&rows[a], &rows[b]));
        if family.kind.is_none() && replicates().any(|of| of.n_train.is_none() || of.n_valid.is_none()) {
            family.why = Some("not every run has a record of how many images it had".to_owned());
        }
        return family;
    }
    match images(rows) {
        Ok(points) if !places.is_empty() => {
            let n_images = points[0][0].images.len();
            let n_values = points.iter().map(Vec::len).sum::<usize>() * n_images;
            let drawn =
                Bootstrap::of_images_and_seeds(&points, bootstrap::n_replicates(places.len() + n_left, n_values));
            family.n_images = Some([n_images as u64; 2]);
            family.n_replicates = Some(drawn.n_replicates());
            family.take(Kind::Bootstrap, &places, n_left, |[a, b]| Some(drawn.difference(a, b)));
        }
        Ok(_) => {}
        Err(why) => {
            family.why = why.map(str::to_owned);
            family.take(Kind::PairedT, &places, n_left, |[a, b]| paired_t_test(&over_seeds(&rows[a], &rows[b])));
        }
    }
    family
}

impl Family {
    /// Tests pairs; `n_left` are not tested, and corrected for all the same.
    fn take(&mut self, kind: Kind, places: &[[usize; 2]], n_left: usize, test: impl Fn([usize; 2]) -> Option<Tested>) {
        let tested: Vec<([usize; 2], Tested)> =
            places.iter().filter_map(|places| Some((*places, test(*places)?))).collect();
        self.n_pairs = tested.len() + n_left;
        let corrected = holm(&tested.iter().map(|(_, tested)| tested.p).collect::<Vec<_>>(), self.n_pairs);
        let pair = |((places, tested), p): (([usize; 2], Tested), f64)| Pair { places, p, interval: tested.interval };
        self.pairs = tested.into_iter().zip(corrected).map(pair).collect();
        self.kind = (!self.pairs.is_empty()).then_some(kind);
    }
}

/// Seeds averaged within a split, and splits tested.
fn over_splits(a: &Row, b: &Row) -> Option<Tested> {
    let (of_a, of_b) = (a.point.by_split(), b.point.by_split());
    let of_split = |split| of_b.iter().find(|(of, _)| *of == split).map(|(_, mean)| *mean);
    let differences: Vec<f64> = of_a.iter().filter_map(|(split, mean)| Some(mean - of_split(*split)?)).collect();
    let replicates = a.point.replicates.iter().chain(&b.point.replicates);
    let ratios: Option<Vec<f64>> =
        replicates.map(|of| Some(of.n_valid? as f64 / of.n_train.filter(|n| *n > 0)? as f64)).collect();
    corrected_paired_t_test(&differences, mean(&ratios?)?)
}

/// The values of the seeds that two points share.
fn over_seeds(a: &Row, b: &Row) -> Vec<[f64; 2]> {
    let values = |row: &Row| -> Vec<(u64, f64)> {
        row.point.replicates.iter().filter_map(|of| Some((of.seed, of.value?))).collect()
    };
    let of_b = values(b);
    let shared = |(seed, a): (u64, f64)| Some([a, of_b.iter().find(|(of, _)| *of == seed)?.1]);
    values(a).into_iter().filter_map(shared).collect()
}

/// Every point's images by seed, where all were measured on the same ones; else why they are not used, unless there are none
/// at all.
fn images(rows: &[Row]) -> Result<Vec<Vec<SeedImages<'_>>>, Option<&'static str>> {
    let replicates = || rows.iter().flat_map(|row| &row.point.replicates);
    let n_recorded = replicates().filter(|of| of.images.is_some()).count();
    if n_recorded == 0 {
        return Err(None);
    }
    if n_recorded < replicates().count() {
        return Err(Some("not every run has a record of its validation images"));
    }
    let lengths: BTreeSet<usize> = replicates().filter_map(|of| of.images.as_ref()).map(Vec::len).collect();
    if lengths.len() > 1 || lengths.contains(&0) {
        return Err(Some("the points were measured on different numbers of images"));
    }
    if replicates().map(|of| &of.images_hash).collect::<BTreeSet<_>>().len() > 1 {
        return Err(Some("the points were measured on different images"));
    }
    if !replicates().all(is_of_its_value) {
        return Err(Some("the record of images is of another epoch than the metric"));
    }
    Ok(rows.iter().map(of_seeds).collect())
}

fn is_of_its_value(replicate: &Replicate) -> bool {
    let (Some(images), Some(value)) = (&replicate.images, replicate.value) else { return false };
    let mean = images.iter().map(|image| f64::from(*image)).sum::<f64>() / images.len() as f64;
    (mean - value).abs() <= SAME * value.abs().max(1.0)
}

fn of_seeds(row: &Row) -> Vec<SeedImages<'_>> {
    let replicates = row.point.replicates.iter();
    replicates.filter_map(|of| Some(SeedImages { seed: of.seed, images: of.images.as_deref()? })).collect()
}
