//! Differences between networks that were measured on the same images, tested by drawing images and seeds anew.

use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

use crate::report::statistics::{CONFIDENCE, Tested, mean, standard_deviation};
use crate::run::draw::{Address, Draws, Purpose};

/// Replicates, unless there are so many pairs that p-values corrected for them could not become small.
const MIN_WANTED: usize = 2000;

/// More would take memory.
const MAX_WANTED: usize = 20_000;

/// Of a pair, so that Holm's correction does not hide what is far beyond chance.
const WANTED_PER_PAIR: usize = 100;

/// Fewer say little of the ends of an interval.
const FEWEST: usize = 500;

/// Values that are added up at most, which is what bounds the time: seconds.
const MAX_WORK: usize = 2_000_000_000;

/// One seed of a point: the metric of every image, in an order that all points share.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SeedImages<'a> {
    pub seed: u64,
    pub images: &'a [f32],
}

/// The points' means with images and seeds drawn anew, many times.
#[derive(Clone, Debug, PartialEq)]
pub struct Bootstrap {
    n_points: usize,
    n_images: usize,
    /// By point: its seeds, and the mean of each.
    seeds: Vec<Vec<(u64, f64)>>,
    /// By replicate, then by point.
    means: Vec<f64>,
}

impl Bootstrap {
    /// Draws images with replacement, the same ones for every point and seed, and seeds with replacement, the same ones for
    /// points with the same seeds; points whose seeds are not the same draw theirs apart, which can only widen intervals.
    /// Of a single seed images alone are drawn anew.
    ///
    /// All slices have the same length, at least 1, and every point has a seed. The same values give the same result.
    /// Sources: Efron and Tibshirani 1993, chapters 8 and 13; for two crossed factors Owen 2007, who shows that it errs to
    /// the side of caution where an image is right under one seed and wrong under another.
    pub fn of_images_and_seeds(points: &[Vec<SeedImages<'_>>], n_replicates: usize) -> Self {
        let n_images = points.first().and_then(|seeds| seeds.first()).map_or(0, |first| first.images.len());
        let names: Vec<String> = points.iter().map(|seeds| name_of(seeds)).collect();
        let mut means = Vec::with_capacity(n_replicates * points.len());
        let mut times = vec![0.0; n_images];
        for replicate in 0..n_replicates {
            draw_images(replicate, &mut times);
            for (seeds, name) in points.iter().zip(&names) {
                let of_seeds: Vec<f64> = seeds.iter().map(|seed| weighted_mean(seed.images, &times)).collect();
                means.push(mean_of_drawn(&of_seeds, replicate, name));
            }
        }
        let mean_of = |of: &SeedImages<'_>| {
            let sum: f64 = of.images.iter().map(|value| f64::from(*value)).sum();
            (of.seed, sum / n_images as f64)
        };
        let seeds = points.iter().map(|seeds| seeds.iter().map(mean_of).collect()).collect();
        Self { n_points: points.len(), n_images, seeds, means }
    }

    pub fn n_replicates(&self) -> usize {
        self.means.len() / self.n_points.max(1)
    }

    /// The percentile interval of `a − b`, and how often a replicate
    /// has not the sign of the others, `(k + 1) / (B + 1)` for each side. Source: Efron and Tibshirani 1993, chapter 13;
    /// for the ones that are added, Davison and Hinkley 1997, section 4.2.
    fn percentiles(&self, a: usize, b: usize) -> Tested {
        let mut differences = self.differences(a, b);
        let n_at_most = differences.iter().filter(|difference| **difference <= 0.0).count();
        let n_at_least = differences.iter().filter(|difference| **difference >= 0.0).count();
        let p: f64 = 2.0 * (n_at_most.min(n_at_least) + 1) as f64 / (differences.len() + 1) as f64;
        let tail = (1.0 - CONFIDENCE) / 2.0;
        let interval = [tail, 1.0 - tail].map(|part| quantile(&mut differences, part));
        Tested { p: p.min(1.0), interval }
    }

    /// What the difference of the means of two points, `a − b`, may be: the percentiles, widened where seeds are few.
    ///
    /// Drawing three seeds anew spreads by √(2/3) of what seeds spread, and the two degrees of freedom that they are
    /// estimated with are as in Student's t: unwidened, where seeds are what differs, 15 % of equal points would be told apart
    /// instead of 5 %. Where images are what differs, hardly anything changes. Sources: Hesterberg 2015, section 4.3, for the
    /// spread; Satterthwaite 1946 for the degrees of freedom of both together.
    pub fn difference(&self, a: usize, b: usize) -> Tested {
        let plain = self.percentiles(a, b);
        let spread = standard_deviation(&self.differences(a, b)).unwrap_or(0.0).powi(2);
        let Some(seeds) = self.seed_spread(a, b).filter(|_| spread > 0.0) else { return plain };
        let of_images = (spread - seeds.drawn).max(0.0);
        let whole = seeds.variance + of_images;
        let of_images = of_images.powi(2) / (self.n_images.max(2) - 1) as f64;
        let freedom = whole.powi(2) / (seeds.variance.powi(2) / seeds.freedom + of_images);
        let (Ok(normal), Ok(t)) = (Normal::new(0.0, 1.0), StudentsT::new(0.0, 1.0, freedom)) else { return plain };
        let (scale, end) = ((whole / spread).sqrt(), 1.0 - (1.0 - CONFIDENCE) / 2.0);
        let stretch = scale * t.inverse_cdf(end) / normal.inverse_cdf(end);
        let of = |point: usize| mean(&self.seeds[point].iter().map(|(_, mean)| *mean).collect::<Vec<_>>());
        let difference = of(a).zip(of(b)).map_or(0.0, |(a, b)| a - b);
        // Where every replicate has the same sign, their number is all that p says; how far off 0 is says more.
        let is_beyond = plain.p <= lowest_p(self.n_replicates());
        let far = if is_beyond { difference.abs() / spread.sqrt() } else { 0.0 };
        Tested {
            p: (2.0 * t.sf(normal.inverse_cdf(1.0 - plain.p / 2.0).max(far) / scale)).min(1.0),
            interval: plain.interval.map(|end| difference + stretch * (end - difference)),
        }
    }

    fn differences(&self, a: usize, b: usize) -> Vec<f64> {
        self.means.chunks_exact(self.n_points).map(|means| means[a] - means[b]).collect()
    }

    /// What seeds add to the variance of a difference; `None` where no point has several.
    fn seed_spread(&self, a: usize, b: usize) -> Option<SeedSpread> {
        let of = |values: Vec<f64>| {
            let n = values.len() as f64;
            let variance = standard_deviation(&values)?.powi(2) / n;
            Some(SeedSpread { variance, drawn: variance * (n - 1.0) / n, freedom: n - 1.0 })
        };
        let (of_a, of_b) = (&self.seeds[a], &self.seeds[b]);
        if of_a.iter().map(|(seed, _)| seed).eq(of_b.iter().map(|(seed, _)| seed)) {
            return of(of_a.iter().zip(of_b).map(|((_, a), (_, b))| a - b).collect());
        }
        let [of_a, of_b] = [of_a, of_b].map(|seeds| of(seeds.iter().map(|(_, mean)| *mean).collect()));
        match (of_a, of_b) {
            (Some(a), Some(b)) => Some(SeedSpread {
                variance: a.variance + b.variance,
                drawn: a.drawn + b.drawn,
                freedom: a.freedom.min(b.freedom),
            }),
            (one, other) => one.or(other),
        }
    }
}

/// The part of a difference's variance that seeds make.
#[derive(Clone, Copy, Debug)]
struct SeedSpread {
    /// Of the mean over so many seeds.
    variance: f64,
    /// What drawing them anew shows of it.
    drawn: f64,
    /// That it is estimated with.
    freedom: f64,
}

/// Replicates for so many pairs of points and values, which are points × seeds × images.
pub fn n_replicates(n_pairs: usize, n_values: usize) -> usize {
    let wanted = (WANTED_PER_PAIR * n_pairs).clamp(MIN_WANTED, MAX_WANTED);
    // Where none of the p-values could count, the intervals are what is left.
    let wanted = if lowest_p(wanted) * n_pairs as f64 >= 1.0 - CONFIDENCE { MIN_WANTED } else { wanted };
    wanted.min((MAX_WORK / n_values.max(1)).max(FEWEST))
}

/// The lowest p that so many replicates can give.
pub fn lowest_p(n_replicates: usize) -> f64 {
    2.0 / (n_replicates + 1) as f64
}

/// What tells lists of seeds apart.
fn name_of(seeds: &[SeedImages<'_>]) -> String {
    seeds.iter().map(|of| of.seed.to_string()).collect::<Vec<_>>().join(",")
}

/// How often every image is drawn.
fn draw_images(replicate: usize, times: &mut [f64]) {
    times.fill(0.0);
    let mut draws = Draws::at(address(replicate, Purpose::BootstrapImages, ""));
    for _ in 0..times.len() {
        times[draws.below(times.len() as u64) as usize] += 1.0;
    }
}

fn weighted_mean(values: &[f32], times: &[f64]) -> f64 {
    let sum: f64 = values.iter().zip(times).map(|(value, times)| f64::from(*value) * times).sum();
    sum / times.len() as f64
}

fn mean_of_drawn(of_seeds: &[f64], replicate: usize, name: &str) -> f64 {
    let n = of_seeds.len();
    if n == 1 {
        return of_seeds[0];
    }
    let mut draws = Draws::at(address(replicate, Purpose::BootstrapSeeds, name));
    (0..n).map(|_| of_seeds[draws.below(n as u64) as usize]).sum::<f64>() / n as f64
}

fn address(replicate: usize, purpose: Purpose, name: &str) -> Address<'_> {
    Address { seed: 0, epoch: 0, sample: replicate as u64, purpose, name }
}

/// Between the two values that are nearest, in proportion: NumPy's `linear`.
fn quantile(values: &mut [f64], part: f64) -> f64 {
    let place = part * (values.len() - 1) as f64;
    let (_, low, above) = values.select_nth_unstable_by(place.floor() as usize, f64::total_cmp);
    let low = *low;
    let high = above.iter().copied().fold(f64::INFINITY, f64::min);
    if high.is_finite() { low + (high - low) * place.fract() } else { low }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::report::statistics::paired_t_test;

    fn floats(value: &Value) -> Vec<f32> {
        value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect()
    }

    fn seeds(rows: &[Vec<f32>]) -> Vec<SeedImages<'_>> {
        (0..).zip(rows).map(|(seed, images)| SeedImages { seed, images }).collect()
    }

    /// NumPy's bootstraps of 50,000 replicates: tests/fixtures/make_statistics_golden.py.
    #[test]
    fn intervals_and_p_agree_with_numpy() {
        let golden: Value = serde_json::from_str(include_str!("../../tests/fixtures/statistics_golden.json")).unwrap();
        let cases = golden["bootstrap"].as_array().unwrap();
        assert_eq!(cases.len(), 4);
        for case in cases {
            let rows = |key: &str| case[key].as_array().unwrap().iter().map(floats).collect::<Vec<_>>();
            let (a, b) = (rows("a"), rows("b"));
            let n_replicates = 10_000;
            let bootstrap = Bootstrap::of_images_and_seeds(&[seeds(&a), seeds(&b)], n_replicates);
            let found = bootstrap.percentiles(0, 1);
            assert_eq!(bootstrap.n_replicates(), n_replicates);
            // An end's standard error is √(0.025 · 0.975 / B) over the density there, 0.0584 / σ of a normal distribution:
            // 0.027 σ of ours and 0.012 σ of NumPy's. Four times both together, and a step of the means of 0 and 1.
            let step = if case["kind"] == "accuracy" { 1.0 / (a.len() * a[0].len()) as f64 } else { 0.0 };
            let tolerance = 0.12 * case["std"].as_f64().unwrap() + step + 1e-9;
            for (found, expected) in found.interval.iter().zip(case["interval"].as_array().unwrap()) {
                let expected = expected.as_f64().unwrap();
                assert!((found - expected).abs() <= tolerance, "{found} {expected} {tolerance}");
            }
            // p is twice a fraction.
            let p = case["p"].as_f64().unwrap();
            let tolerance = 8.0 * (p / 2.0 / n_replicates as f64).sqrt() + 2.0 / n_replicates as f64;
            assert!((found.p - p).abs() <= tolerance, "{} {p} {tolerance}", found.p);
        }
    }

    /// Of one seed and many images the difference is a mean of independent ones: normal, with their variance over n.
    #[test]
    fn of_images_alone_the_interval_is_that_of_a_mean() {
        let n = 1000;
        let a: Vec<f32> = (0..n).map(|i| f32::from(i % 10 < 8)).collect();
        let b: Vec<f32> = (0..n).map(|i| f32::from(i % 7 < 5)).collect();
        let differences: Vec<f64> = a.iter().zip(&b).map(|(a, b)| f64::from(a - b)).collect();
        let mean = differences.iter().sum::<f64>() / f64::from(n);
        let variance = differences.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / f64::from(n);
        let error = (variance / f64::from(n)).sqrt();
        let (a, b) = ([a], [b]);
        let found = Bootstrap::of_images_and_seeds(&[seeds(&a), seeds(&b)], 4000).difference(0, 1);
        for (found, expected) in found.interval.iter().zip([mean - 1.96 * error, mean + 1.96 * error]) {
            // Four standard errors of an end of 4,000 replicates: 0.0025 / 0.0584 σ each.
            assert!((found - expected).abs() <= 0.17 * error + 1.0 / f64::from(n), "{found} {expected} {error}");
        }
    }

    /// Seeds that differ while images hardly do: what is left is Student's t over the seeds.
    #[test]
    fn of_few_seeds_that_differ_the_interval_is_students() {
        let levels = [0.1_f32, 0.3, -0.05];
        let images = |level: f32| (0..500).map(|i| level + 1e-4 * (i % 2) as f32).collect::<Vec<f32>>();
        let (a, b) = (levels.map(images), [vec![0.0; 500], vec![0.0; 500], vec![0.0; 500]]);
        let bootstrap = Bootstrap::of_images_and_seeds(&[seeds(&a), seeds(&b)], 20_000);
        let pairs = levels.map(|level| [f64::from(level) + 5e-5, 0.0]);
        let expected = paired_t_test(&pairs).unwrap();
        let (found, plain) = (bootstrap.difference(0, 1), bootstrap.percentiles(0, 1));
        // The means of three values are few, and lopsided.
        assert!((found.p - expected.p).abs() < 0.12, "{} {}", found.p, expected.p);
        let width = |tested: &Tested| tested.interval[1] - tested.interval[0];
        let ratio = width(&found) / width(&expected);
        assert!(
            (0.75..1.1).contains(&ratio) && width(&plain) < 0.5 * width(&expected),
            "{found:?} {expected:?} {plain:?}"
        );
        // Of images alone nothing is widened.
        let one = Bootstrap::of_images_and_seeds(&[seeds(&a[..1]), seeds(&b[..1])], 500);
        assert_eq!(one.difference(0, 1), one.percentiles(0, 1));
    }

    #[test]
    fn equal_points_do_not_differ_and_the_order_does_not_matter() {
        let (a, b) = ([vec![1.0, 0.0, 1.0, 1.0], vec![0.0, 0.0, 1.0, 1.0]], [vec![1.0, 1.0, 1.0, 0.0], vec![1.0; 4]]);
        let bootstrap = Bootstrap::of_images_and_seeds(&[seeds(&a), seeds(&a), seeds(&b)], 500);
        assert_eq!(bootstrap.difference(0, 1), Tested { p: 1.0, interval: [0.0; 2] });
        let (there, back) = (bootstrap.difference(0, 2), bootstrap.difference(2, 0));
        assert_eq!(there.p, back.p);
        assert!((there.interval[0] + back.interval[1]).abs() < 1e-12, "{there:?} {back:?}");
        assert_eq!(bootstrap, Bootstrap::of_images_and_seeds(&[seeds(&a), seeds(&a), seeds(&b)], 500));
    }

    #[test]
    fn other_seeds_are_drawn_apart() {
        let rows = [vec![1.0; 4], vec![0.0; 4]];
        let other: Vec<SeedImages<'_>> =
            [5, 6].into_iter().zip(&rows).map(|(seed, images)| SeedImages { seed, images }).collect();
        let together = Bootstrap::of_images_and_seeds(&[seeds(&rows), seeds(&rows)], 500).difference(0, 1);
        let apart = Bootstrap::of_images_and_seeds(&[seeds(&rows), other], 500).difference(0, 1);
        assert_eq!(together.interval, [0.0; 2]);
        assert!(apart.interval[0] < -0.4 && apart.interval[1] > 0.4, "{apart:?}");
    }

    #[test]
    fn work_is_bounded() {
        assert_eq!(n_replicates(1, 2 * 3 * 20), 2000);
        assert_eq!(n_replicates(45, 10 * 3 * 1000), 4500);
        assert_eq!(n_replicates(190, 20 * 3 * 1000), 19_000);
        assert_eq!(n_replicates(4950, 100 * 3 * 20), 2000);
        assert_eq!(n_replicates(45, 10 * 3 * 50_000), 1333);
        assert_eq!(n_replicates(45, 10 * 3 * 1_000_000), 500);
    }
}
