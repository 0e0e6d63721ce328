//! Losses of single images on logits, and whether the prediction is right.

use burn::tensor::{Int, Tensor, TensorData, activation};

use crate::spec::schema::Loss;

/// The loss of each image, in nats.
///
/// Shape: logits `[n, classes]`, or `[n, 1]` for binary cross entropy → `[n]`. Labels are below the number of classes.
/// Both are computed from log-probabilities, so large logits neither overflow nor lose their gradient.
pub fn per_image(loss: Loss, logits: Tensor<2>, labels: &[u32]) -> Tensor<1> {
    match loss {
        Loss::CrossEntropy => {
            let targets = int_tensor(labels, &logits).unsqueeze_dim(1);
            activation::log_softmax(logits, 1).gather(1, targets).squeeze_dim::<1>(1).neg()
        }
        // −log p for the second class, −log (1 − p) for the first: log σ(±x).
        Loss::BinaryCrossEntropy => {
            let signs: Vec<f32> = labels.iter().map(|&label| if label == 1 { 1.0 } else { -1.0 }).collect();
            let signs = Tensor::<1>::from_data(TensorData::new(signs, [labels.len()]), &logits.device());
            activation::log_sigmoid(logits.squeeze_dim::<1>(1) * signs).neg()
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
        let labels: Vec<u32> = floats(&case["labels"]).iter().map(|&label| label as u32).collect();
        let data = TensorData::new(floats(&case["logits"]), [labels.len(), n_columns]);
        let logits = Tensor::<2>::from_data(data, &Device::flex().autodiff()).require_grad();
        let losses = per_image(loss, logits.clone(), &labels);
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
    }
}
