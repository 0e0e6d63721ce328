//! Losses of single images on logits, and whether the prediction is right.

use burn::tensor::{Int, Tensor, TensorData, activation};

use crate::spec::schema::Loss;

/// The loss of each image, in nats.
///
/// Shape: logits `[n, classes]`, or `[n, 1]` for binary cross entropy → `[n]`. Labels are below the number of classes.
/// Both are computed from log-probabilities, so large logits neither overflow nor lose their gradient. `smoothing`, at
/// least 0 and below 1, is the part of a label's probability that all classes share. Source: Szegedy et al. 2016,
/// section 7; a sigmoid's target is `y (1 − s) + s / 2`, as in Keras 3.
pub fn per_image(loss: Loss, logits: Tensor<2>, labels: &[u32], smoothing: f64) -> Tensor<1> {
    let smoothed = |right: Tensor<1>, shared: &dyn Fn() -> Tensor<1>| match smoothing {
        0.0 => right,
        smoothing => right.mul_scalar(1.0 - smoothing) + shared().mul_scalar(smoothing),
    };
    match loss {
        Loss::CrossEntropy => {
            let targets = int_tensor(labels, &logits).unsqueeze_dim(1);
            let log_probabilities = activation::log_softmax(logits, 1);
            let right = log_probabilities.clone().gather(1, targets).squeeze_dim::<1>(1).neg();
            smoothed(right, &|| log_probabilities.clone().mean_dim(1).squeeze_dim::<1>(1).neg())
        }
        // −log p for the second class, −log (1 − p) for the first: log σ(±x).
        Loss::BinaryCrossEntropy => {
            let signs: Vec<f32> = labels.iter().map(|&label| if label == 1 { 1.0 } else { -1.0 }).collect();
            let signs = Tensor::<1>::from_data(TensorData::new(signs, [labels.len()]), &logits.device());
            let signed = logits.squeeze_dim::<1>(1) * signs;
            let right = activation::log_sigmoid(signed.clone()).neg();
            let wrong = || activation::log_sigmoid(signed.clone().neg()).neg();
            smoothed(right.clone(), &|| (right.clone() + wrong()).mul_scalar(0.5))
        }
    }
}

/// 1 for each image whose most probable class is its label, else 0; a sigmoid's probability counts from above 0.5.
///
/// Shape: as [`per_image`]. Ties go to the first class; an image with a NaN among its logits is never right.
pub fn correct(loss: Loss, logits: &Tensor<2>, labels: &[u32]) -> Tensor<1> {
    let targets = int_tensor(labels, logits);
    let predicted = match loss {
        Loss::CrossEntropy => logits.clone().argmax(1).squeeze_dim::<1>(1),
        Loss::BinaryCrossEntropy => logits.clone().squeeze_dim::<1>(1).greater_scalar(0.0).int(),
    };
    let numbers = logits.clone().is_nan().any_dim(1).bool_not().squeeze_dim::<1>(1);
    predicted.equal(targets).bool_and(numbers).float()
}

/// 1 for each image whose label is among the k most probable classes, else 0.
///
/// Shape: logits `[n, classes]` → `[n]`. Of equally probable classes the first come first; an image with a NaN among its
/// logits is never right.
pub fn in_top_k(logits: &Tensor<2>, labels: &[u32], k: u16) -> Tensor<1> {
    let [n, n_classes] = logits.dims();
    let targets = int_tensor(labels, logits).unsqueeze_dim::<2>(1);
    let of_label = logits.clone().gather(1, targets.clone());
    let classes: Vec<i64> = (0..n_classes as i64).collect();
    let classes = Tensor::<1, Int>::from_data(TensorData::new(classes, [n_classes]), &logits.device());
    let before = classes.unsqueeze_dim::<2>(0).expand([n, n_classes]).lower(targets.expand([n, n_classes]));
    let of_label = of_label.expand([n, n_classes]);
    let ahead = logits.clone().greater(of_label.clone()).bool_or(logits.clone().equal(of_label).bool_and(before));
    let rank = ahead.int().sum_dim(1).squeeze_dim::<1>(1);
    let numbers = logits.clone().is_nan().any_dim(1).bool_not().squeeze_dim::<1>(1);
    rank.lower_scalar(i64::from(k)).bool_and(numbers).float()
}

fn int_tensor(labels: &[u32], beside: &Tensor<2>) -> Tensor<1, Int> {
    let labels: Vec<i64> = labels.iter().map(|&label| i64::from(label)).collect();
    Tensor::from_data(TensorData::new(labels.clone(), [labels.len()]), &beside.device())
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use serde_json::Value;

    use super::*;

    fn floats(value: &Value) -> Vec<f32> {
        match value {
            Value::Array(items) => items.iter().flat_map(floats).collect(),
            number => vec![number.as_f64().unwrap() as f32],
        }
    }

    /// NumPy's losses, accuracies and gradients: tests/fixtures/make_loss_golden.py.
    fn agrees_with_numpy(loss: Loss, case: &Value, n_columns: usize) {
        let smoothing = case["label_smoothing"].as_f64().unwrap_or(0.0);
        let labels: Vec<u32> = floats(&case["labels"]).iter().map(|&label| label as u32).collect();
        let data = TensorData::new(floats(&case["logits"]), [labels.len(), n_columns]);
        let logits = Tensor::<2>::from_data(data, &Device::flex().autodiff()).require_grad();
        let losses = per_image(loss, logits.clone(), &labels, smoothing);
        let close = |found: Vec<f32>, expected: Vec<f32>| {
            for (found, expected) in found.iter().zip(&expected) {
                assert!((found - expected).abs() <= 1e-5 * expected.abs().max(0.1), "{found} {expected}");
            }
            assert_eq!(found.len(), expected.len());
        };
        close(losses.clone().try_into_vec_as().unwrap(), floats(&case["loss"]));
        let gradients = losses.mean().backward();
        let gradient = logits.grad(&gradients).unwrap();
        close(gradient.try_into_vec_as().unwrap(), floats(&case["gradient_of_mean"]));
        let correct: Vec<f32> = correct(loss, &logits, &labels).try_into_vec_as().unwrap();
        let expected: Vec<bool> = case["correct"].as_array().unwrap().iter().map(|v| v.as_bool().unwrap()).collect();
        assert_eq!(correct.iter().map(|&c| c == 1.0).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn losses_and_their_gradients_agree_with_numpy() {
        let golden: Value = serde_json::from_str(include_str!("../../tests/fixtures/loss_golden.json")).unwrap();
        agrees_with_numpy(Loss::CrossEntropy, &golden["softmax"], 5);
        agrees_with_numpy(Loss::BinaryCrossEntropy, &golden["sigmoid"], 1);
        agrees_with_numpy(Loss::CrossEntropy, &golden["softmax_smoothed"], 5);
        agrees_with_numpy(Loss::BinaryCrossEntropy, &golden["sigmoid_smoothed"], 1);
    }

    #[test]
    fn the_label_is_among_the_first_k_or_not() {
        let logits = [[0.1_f32, 0.9, 0.5, 0.5], [4.0, 3.0, 2.0, 1.0], [f32::NAN, 3.0, 2.0, 1.0]];
        let logits = Tensor::<2>::from_data(logits, &Device::flex());
        let found = |labels: [u32; 3], k| in_top_k(&logits, &labels, k).try_into_vec_as::<f32>().unwrap();
        assert_eq!(found([1, 1, 1], 2), [1.0, 1.0, 0.0]);
        assert_eq!(found([2, 2, 1], 2), [1.0, 0.0, 0.0]);
        // Of the two that tie for second place only the first has it.
        assert_eq!(found([3, 0, 1], 2), [0.0, 1.0, 0.0]);
        assert_eq!(found([3, 3, 1], 3), [1.0, 0.0, 0.0]);
    }
}
