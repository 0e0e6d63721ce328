//! Whether a run came out as another did, point by point.

use crate::run::metric::{MetricKey, Point};

/// A series of two runs: what was recorded, and what came out when it was done again.
#[derive(Clone, Debug)]
pub struct Pair {
    pub key: MetricKey,
    pub recorded: Vec<Point>,
    pub repeated: Vec<Point>,
}

/// The first point in which two runs part.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    pub key: MetricKey,
    pub epoch: u32,
    pub step: u64,
    /// `None` where there is no such point.
    pub recorded: Option<f64>,
    pub repeated: Option<f64>,
}

/// The first point that differs to the bit, by step; of one step the first series'. All NaN are alike.
pub fn first_difference(pairs: &[Pair]) -> Option<Difference> {
    pairs.iter().filter_map(differs).min_by_key(|difference| difference.step)
}

/// How many points of both runs were held against each other.
pub fn n_compared(pairs: &[Pair]) -> usize {
    pairs.iter().map(|pair| pair.recorded.len().min(pair.repeated.len())).sum()
}

fn differs(pair: &Pair) -> Option<Difference> {
    let longest = pair.recorded.len().max(pair.repeated.len());
    (0..longest).find_map(|i| {
        let (recorded, repeated) = (pair.recorded.get(i), pair.repeated.get(i));
        let is_same = recorded.zip(repeated).is_some_and(|(a, b)| {
            let value = a.value.to_bits() == b.value.to_bits() || (a.value.is_nan() && b.value.is_nan());
            value && (a.epoch, a.step, a.n_samples) == (b.epoch, b.step, b.n_samples)
        });
        let first = [recorded, repeated].into_iter().flatten().min_by_key(|point| point.step);
        first.filter(|_| !is_same).map(|point| Difference {
            key: pair.key,
            epoch: point.epoch,
            step: point.step,
            recorded: recorded.map(|point| point.value),
            repeated: repeated.map(|point| point.value),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::metric::{Measure, Split};

    fn pair(split: Split, recorded: &[f64], repeated: &[f64]) -> Pair {
        let points = |values: &[f64]| {
            let point =
                |(i, value): (u64, &f64)| Point { epoch: 1, step: 10 * i, at_ms: 0, value: *value, n_samples: 4 };
            (1..).zip(values).map(point).collect()
        };
        Pair { key: MetricKey::new(split, Measure::Loss), recorded: points(recorded), repeated: points(repeated) }
    }

    #[test]
    fn the_first_step_that_differs_is_found() {
        let same = pair(Split::Train, &[1.0, f64::NAN, 0.5], &[1.0, f64::NAN, 0.5]);
        assert_eq!(first_difference(std::slice::from_ref(&same)), None);
        assert_eq!(n_compared(std::slice::from_ref(&same)), 3);
        let later = pair(Split::Valid, &[1.0, 2.0, 3.0], &[1.0, 2.0, 3.5]);
        let sooner = pair(Split::Test, &[1.0, 2.0], &[1.0, 2.000_000_1]);
        let found = first_difference(&[same, later, sooner]).unwrap();
        assert_eq!((found.key.split, found.step, found.recorded), (Split::Test, 20, Some(2.0)));
    }

    #[test]
    fn a_point_that_is_missing_differs() {
        let found = first_difference(&[pair(Split::Train, &[1.0, 2.0], &[1.0])]).unwrap();
        assert_eq!((found.step, found.recorded, found.repeated), (20, Some(2.0), None));
    }
}
