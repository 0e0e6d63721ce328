//! What can be said of numbers that few seeds gave.

use statrs::distribution::{ContinuousCDF, StudentsT};

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

/// The two-sided p of Student's paired t-test; `None` of fewer than two pairs, and where all differences are the same,
/// which leaves nothing to measure them by.
pub fn paired_t_test(pairs: &[[f64; 2]]) -> Option<f64> {
    let differences: Vec<f64> = pairs.iter().map(|[a, b]| a - b).collect();
    let (mean, deviation) = (mean(&differences)?, standard_deviation(&differences)?);
    let largest = differences.iter().fold(0.0_f64, |largest, value| largest.max(value.abs()));
    // What is left of equal differences after rounding is no spread.
    if deviation.is_nan() || deviation <= largest * 1e-12 {
        return None;
    }
    let n = differences.len() as f64;
    let t = mean / (deviation / n.sqrt());
    let distribution = StudentsT::new(0.0, 1.0, n - 1.0).ok()?;
    Some((2.0 * distribution.sf(t.abs())).min(1.0))
}

/// Corrects p-values for being several, each by how many are not smaller. Source: Holm 1979.
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let n = p_values.len();
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|a, b| p_values[*a].total_cmp(&p_values[*b]));
    let mut corrected = vec![0.0; n];
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

    #[test]
    fn tests_and_corrections_agree_with_scipy_and_statsmodels() {
        let golden: Value = serde_json::from_str(include_str!("../../tests/fixtures/statistics_golden.json")).unwrap();
        for case in golden["paired"].as_array().unwrap() {
            let (a, b) = (floats(&case["a"]), floats(&case["b"]));
            let pairs: Vec<[f64; 2]> = a.iter().zip(&b).map(|(a, b)| [*a, *b]).collect();
            let (found, expected) = (paired_t_test(&pairs).unwrap(), case["p"].as_f64().unwrap());
            assert!((found - expected).abs() <= 1e-9, "{case}: {found}");
            let (found, expected) = (standard_deviation(&a).unwrap(), case["std_a"].as_f64().unwrap());
            assert!((found - expected).abs() <= 1e-12, "{case}: {found}");
        }
        for case in golden["holm"].as_array().unwrap() {
            for (found, expected) in holm(&floats(&case["p"])).iter().zip(floats(&case["corrected"])) {
                assert!((found - expected).abs() <= 1e-12, "{case}: {found}");
            }
        }
        assert_eq!((golden["paired"].as_array().unwrap().len(), golden["holm"].as_array().unwrap().len()), (5, 4));
    }

    #[test]
    fn what_cannot_be_tested_has_no_p() {
        assert_eq!(paired_t_test(&[]), None);
        assert_eq!(paired_t_test(&[[1.0, 2.0]]), None);
        assert_eq!(paired_t_test(&[[0.8, 0.7], [0.9, 0.8], [0.4, 0.3]]), None);
        assert_eq!(paired_t_test(&[[0.8, 0.8], [0.9, 0.9]]), None);
        assert_eq!((mean(&[]), standard_deviation(&[1.0])), (None, None));
    }
}
