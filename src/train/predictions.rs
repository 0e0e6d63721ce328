//! What a network says of every image of a split.

use burn::tensor::TensorReadError;
use half::f16;

use crate::data::batching::Batching;
use crate::data::images::Images;
use crate::run::stop::StopFlag;
use crate::spec::schema::Loss;
use crate::train::feed::Source;
use crate::train::predict::probabilities;
use crate::train::predictions_file::{Facts, Predictions};
use crate::train::step::{Input, Trainee};
use crate::train::{Completion, TrainError, loss};

/// The images of a split that are measured, and where their batches come from.
#[derive(Clone, Copy, Debug)]
pub struct Measured<'a> {
    pub images: &'a Images,
    /// As the plan cuts the split; the source may have an order of its own for the same images.
    pub batching: &'a Batching,
    pub source: &'a Source,
}

impl Measured<'_> {
    /// Asks a network, in inference mode, about each image once; `epoch` is that of its checkpoint.
    pub fn predictions(
        &self,
        trainee: &Trainee,
        epoch: u32,
        stop: &StopFlag,
        progress: impl Fn(u64),
    ) -> Result<Completion<Predictions>, TrainError> {
        let mut predictions = self.none_yet(epoch);
        for input in self.source.epoch(1, stop) {
            let input = input.map_err(|error| TrainError::Measure(error.to_string()))?;
            take(trainee, input, &mut predictions).map_err(|error| TrainError::Measure(error.to_string()))?;
            progress(predictions.labels.len() as u64);
        }
        Ok(if stop.is_raised() { Completion::Stopped } else { Completion::Done(predictions) })
    }

    fn none_yet(&self, epoch: u32) -> Predictions {
        let Self { images, batching, .. } = self;
        let members: Vec<u32> = batching.sections(1).flat_map(|section| batching.images(&section)).collect();
        let split = images.hash();
        let names = members.iter().map(|member| images.name(*member as usize).to_string_lossy().into_owned());
        Predictions {
            names: names.collect(),
            facts: Facts::new(epoch, split.clone(), images_hash(&split, &members), images.classes().to_vec()),
            labels: Vec::with_capacity(members.len()),
            losses: Vec::with_capacity(members.len()),
            predicted: Vec::with_capacity(members.len()),
            ranks: Vec::with_capacity(members.len()),
            probabilities: Vec::with_capacity(members.len() * images.classes().len()),
        }
    }
}

/// What is the same for the same part of the same split.
fn images_hash(split: &str, members: &[u32]) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"xp images of a split 1\n").update(split.as_bytes());
    for member in members {
        hasher.update(&member.to_le_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

fn take(trainee: &Trainee, input: Input, predictions: &mut Predictions) -> Result<(), TensorReadError> {
    let (frame, labels) = (trainee.frame(), input.labels);
    let rows = trainee.tail.forward(frame.features(input.values, input.chw), None);
    // Rows after the images do not count.
    let n_columns = rows.dims()[1];
    let logits = rows.narrow(0, 0, labels.len());
    predictions.losses.extend(loss::per_image(frame.loss, logits.clone(), &labels, 0.0).try_into_vec_as::<f32>()?);
    let logits = logits.try_into_vec_as::<f32>()?;
    for (logits, &label) in logits.chunks_exact(n_columns).zip(&labels) {
        let (predicted, rank) = places(frame.loss, logits, label);
        predictions.predicted.push(predicted);
        predictions.ranks.push(rank);
        let logits: Vec<f64> = logits.iter().map(|logit| f64::from(*logit)).collect();
        predictions.probabilities.extend(probabilities(frame.loss, &logits).into_iter().map(f16::from_f64));
    }
    predictions.labels.extend(labels);
    Ok(())
}

/// The most probable class, and how many are more probable than the label, as [`loss::correct`] and [`loss::in_top_k`] count:
/// of equally probable classes the first comes first. −1 where a logit is NaN.
fn places(loss: Loss, logits: &[f32], label: u32) -> (i32, i32) {
    if logits.iter().any(|logit| logit.is_nan()) {
        return (-1, -1);
    }
    if let (Loss::BinaryCrossEntropy, &[logit]) = (loss, logits) {
        let predicted = u32::from(logit > 0.0);
        return (predicted.cast_signed(), i32::from(predicted != label));
    }
    let rank = |of: usize| {
        let is_ahead = |(class, logit): &(usize, &f32)| **logit > logits[of] || **logit == logits[of] && *class < of;
        logits.iter().enumerate().filter(is_ahead).count()
    };
    let mut first = 0;
    for (class, logit) in logits.iter().enumerate() {
        if *logit > logits[first] {
            first = class;
        }
    }
    let number = |n: usize| i32::try_from(n).expect("there are fewer classes");
    (number(first), number(rank(label as usize)))
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor};

    use super::*;

    #[test]
    fn places_are_those_that_accuracies_count() {
        let rows = [[0.1_f32, 0.9, 0.5, 0.5], [4.0, 3.0, 2.0, 1.0], [f32::NAN, 3.0, 2.0, 1.0], [0.0; 4]];
        let tensor = Tensor::<2>::from_data(rows, &Device::flex());
        for label in 0..4 {
            let labels = [label; 4];
            let correct: Vec<f32> = loss::correct(Loss::CrossEntropy, &tensor, &labels).try_into_vec_as().unwrap();
            let second: Vec<f32> = loss::in_top_k(&tensor, &labels, 2).try_into_vec_as().unwrap();
            for ((row, correct), second) in rows.iter().zip(correct).zip(second) {
                let (predicted, rank) = places(Loss::CrossEntropy, row, label);
                assert_eq!((rank == 0, (0..2).contains(&rank)), (correct == 1.0, second == 1.0), "{row:?} {label}");
                assert_eq!(predicted == label as i32, rank == 0, "{row:?} {label}");
            }
        }
    }

    #[test]
    fn a_sigmoid_says_the_second_class_above_one_half() {
        let logits = [0.0_f32, 1.0, -1.0, f32::NAN];
        let tensor = Tensor::<1>::from_data(logits, &Device::flex()).unsqueeze_dim(1);
        for label in 0..2 {
            let correct: Vec<f32> =
                loss::correct(Loss::BinaryCrossEntropy, &tensor, &[label; 4]).try_into_vec_as().unwrap();
            for (logit, correct) in logits.iter().zip(correct) {
                let (predicted, rank) = places(Loss::BinaryCrossEntropy, &[*logit], label);
                assert_eq!((rank == 0, predicted == label as i32), (correct == 1.0, correct == 1.0), "{logit} {label}");
            }
        }
    }

    #[test]
    fn a_part_has_another_hash_than_the_whole() {
        assert_ne!(images_hash("a", &[0, 1, 2]), images_hash("a", &[0, 1]));
        assert_ne!(images_hash("a", &[0, 1]), images_hash("b", &[0, 1]));
    }
}
