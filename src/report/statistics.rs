//! What can be said of numbers that few seeds gave.

use statrs::distribution::{ContinuousCDF, StudentsT};

/// Of the intervals.
pub const CONFIDENCE: f64 = 0.95;

/// `None` of nothing.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The sample standard deviation, over `n − 1`; `None` of fewer than two.
pub fn standard_deviation(values: &[f64]) -> Option<f64> {
    let mean = mean(values)?;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (values.len() > 1).then(|| (squares / (values.len() - 1) as f64).sqrt())
}

/// What a test says of a difference.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tested {
    /// Two-sided.
    pub p: f64,
    /// In which the difference lies with a confidence of 95 %.
    pub interval: [f64; 2],
}

/// Student's paired t-test; `None` of fewer than two pairs, and where all differences are the same but not 0, which leaves
/// nothing to measure them by.
pub fn paired_t_test(pairs: &[[f64; 2]]) -> Option<Tested> {
    let differences: Vec<f64> = pairs.iter().map(|[a, b]| a - b).collect();
    t_test(&differences, 0.0)
}

/// The t-test of differences between two ways to train that were measured on several splits of the same images, one
/// difference a split.
///
/// Splits share training images, so their differences are more alike than independent ones would be: a plain t-test
/// shows differences that are not there. The variance of their mean is `1 / J + n_test / n_train` of theirs instead of
/// `1 / J`, with `J − 1` degrees of freedom. `None` as of [`paired_t_test`]. Source: Nadeau and Bengio 2003, section 5.
pub fn corrected_paired_t_test(differences: &[f64], n_test_over_n_train: f64) -> Option<Tested> {
    t_test(differences, n_test_over_n_train)
}

/// `correlation` is added to `1 / n` in the variance of the mean.
fn t_test(differences: &[f64], correlation: f64) -> Option<Tested> {
    let (mean, deviation) = (mean(differences)?, standard_deviation(differences)?);
    let largest = differences.iter().fold(0.0_f64, |largest, value| largest.max(value.abs()));
    if largest == 0.0 && !deviation.is_nan() {
        return Some(Tested { p: 1.0, interval: [0.0; 2] });
    }
    // What is left of equal differences after rounding is no spread.
    if !deviation.is_finite() || !correlation.is_finite() || deviation <= largest * 1e-12 {
        return None;
    }
    let n = differences.len() as f64;
    let error = deviation * (1.0 / n + correlation).sqrt();
    let distribution = StudentsT::new(0.0, 1.0, n - 1.0).ok()?;
    let reach = distribution.inverse_cdf(1.0 - (1.0 - CONFIDENCE) / 2.0) * error;
    Some(Tested { p: (2.0 * distribution.sf((mean / error).abs())).min(1.0), interval: [mean - reach, mean + reach] })
}

/// Corrects p-values for being among `n`, each by how many are not smaller; those that are not given count as 1. Source:
/// Holm 1979.
pub fn holm(p_values: &[f64], n: usize) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|a, b| p_values[*a].total_cmp(&p_values[*b]));
    let mut corrected = vec![0.0; p_values.len()];
    let mut largest = 0.0_f64;
    for (rank, place) in order.into_iter().enumerate() {
        largest = largest.max(((n - rank) as f64 * p_values[place]).min(1.0));
        corrected[place] = largest;
    }
    corrected
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn floats(value: &Value) -> Vec<f64> {
        value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
    }

    fn assert_tested(found: Option<Tested>, expected: &Value) {
        let found = found.unwrap();
        assert!((found.p - expected["p"].as_f64().unwrap()).abs() <= 1e-9, "{expected}: {found:?}");
        for (found, expected) in found.interval.iter().zip(floats(&expected["interval"])) {
            assert!((found - expected).abs() <= 1e-9, "{found} {expected}");
        }
    }

    #[test]
    fn tests_and_corrections_agree_with_scipy_and_statsmodels() {
        let golden: Value = serde_json::from_str(include_str!("../../tests/fixtures/statistics_golden.json")).unwrap();
        for case in golden["paired"].as_array().unwrap() {
            let (a, b) = (floats(&case["a"]), floats(&case["b"]));
            let pairs: Vec<[f64; 2]> = a.iter().zip(&b).map(|(a, b)| [*a, *b]).collect();
            assert_tested(paired_t_test(&pairs), case);
            let (found, expected) = (standard_deviation(&a).unwrap(), case["std_a"].as_f64().unwrap());
            assert!((found - expected).abs() <= 1e-12, "{case}: {found}");
        }
        for case in golden["corrected"].as_array().unwrap() {
            let ratio = case["n_test_over_n_train"].as_f64().unwrap();
            assert_tested(corrected_paired_t_test(&floats(&case["differences"]), ratio), case);
        }
        for case in golden["holm"].as_array().unwrap() {
            for (found, expected) in
                holm(&floats(&case["p"]), floats(&case["p"]).len()).iter().zip(floats(&case["corrected"]))
            {
                assert!((found - expected).abs() <= 1e-12, "{case}: {found}");
            }
        }
        let n = |key: &str| golden[key].as_array().unwrap().len();
        assert_eq!([n("paired"), n("corrected"), n("holm")], [5, 5, 4]);
    }

    #[test]
    fn what_cannot_be_tested_has_no_p() {
        assert_eq!(paired_t_test(&[]), None);
        assert_eq!(paired_t_test(&[[1.0, 2.0]]), None);
        assert_eq!(paired_t_test(&[[0.8, 0.7], [0.9, 0.8], [0.4, 0.3]]), None);
        assert_eq!(paired_t_test(&[[0.8, 0.8], [f64::NAN, 0.9]]), None);
        assert_eq!(corrected_paired_t_test(&[0.1, 0.2], f64::NAN), None);
        assert_eq!(corrected_paired_t_test(&[0.1, 0.2], f64::INFINITY), None);
        assert_eq!((mean(&[]), standard_deviation(&[1.0])), (None, None));
    }

    #[test]
    fn what_is_the_same_does_not_differ() {
        let same = Some(Tested { p: 1.0, interval: [0.0; 2] });
        assert_eq!(paired_t_test(&[[0.8, 0.8], [0.9, 0.9]]), same);
        assert_eq!(corrected_paired_t_test(&[0.0; 3], 0.25), same);
        assert_eq!(paired_t_test(&[[0.8, 0.8]]), None);
    }
}
