//! The factor on each training image's loss, by its class.

use crate::spec::schema::ClassWeights;

/// A factor for each class; `labels` are the training images'.
///
/// Balanced: `n / (n_classes · n_of_class)`, as scikit-learn's `compute_class_weight` has it.
pub fn by_class(weights: &ClassWeights, classes: &[String], labels: &[u32]) -> Vec<f32> {
    match weights {
        ClassWeights::ByClass(weights) => {
            classes.iter().map(|class| weights.get(class).map_or(1.0, |weight| *weight as f32)).collect()
        }
        ClassWeights::Balanced => {
            let mut counts = vec![0_u64; classes.len()];
            for label in labels {
                counts[*label as usize] += 1;
            }
            let n = labels.len() as f64 / classes.len() as f64;
            counts.iter().map(|&count| (n / count.max(1) as f64) as f32).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// scikit-learn 1.9.1: `compute_class_weight("balanced", classes=[0, 1, 2], y=[0, 0, 0, 0, 1, 1, 2])`.
    #[test]
    fn balanced_weights_are_scikit_learns() {
        let classes = ["a", "b", "c"].map(String::from);
        let found = by_class(&ClassWeights::Balanced, &classes, &[0, 0, 0, 0, 1, 1, 2]);
        for (found, expected) in found.iter().zip([0.583_333, 1.166_667, 2.333_333]) {
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
    }

    #[test]
    fn a_class_without_a_weight_weighs_one() {
        let weights = ClassWeights::ByClass(BTreeMap::from([("b".to_owned(), 2.5)]));
        assert_eq!(by_class(&weights, &["a", "b"].map(String::from), &[0, 1]), [1.0, 2.5]);
    }
}
