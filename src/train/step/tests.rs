use burn::optim::GradientsAccumulator;
use burn::tensor::TensorData;
use serde_json::Value;

use super::*;
use crate::models::classifier::{NetworkPlan, Sources, tensors};
use crate::models::freeze::Freeze;
use crate::models::head;
use crate::models::layout::Layout;
use crate::models::parameters::{Parameters, ParametersError, Role, TensorAddress};
use crate::models::segment::Norms;
use crate::spec::schema::model::{Activation, Dense, HeadLayer};
use crate::spec::schema::optimizer::{Adam, Optimizer, Sgd};
use crate::spec::schema::precision::PrefixPrecision;
use crate::train::optimizer;

/// The golden file's formulas: tests/fixtures/make_training_golden.py.
struct Formula;

impl Parameters for Formula {
    fn values(&self, address: &TensorAddress) -> Result<Vec<f32>, ParametersError> {
        let Role::Kernel { fan_in, fan_out, .. } = address.role else { return Ok(vec![0.0; address.n_values()]) };
        let weight = |j: usize, c: usize| ((11 * j + 5 * c) % 17) as f32 - 8.0;
        Ok((0..fan_in).flat_map(|j| (0..fan_out).map(move |c| weight(j, c) / 17.0)).collect())
    }

    fn hash(&self) -> String {
        "formula".to_owned()
    }
}

fn feature(i: u32, j: u32) -> f32 {
    (((7 * i + 13 * j + 3 * i * j) % 29) as f32 - 14.0) / 29.0
}

fn label(i: u32) -> u32 {
    if i % 5 == 4 { 2 } else { (i * i + i) % 3 }
}

/// A dense softmax layer on plain features, and nothing else.
fn trainee(case: &Value, n_features: usize, n_classes: usize) -> (Trainee, NetworkPlan) {
    let dense = Dense { units: n_classes as u32, activation: Activation::Softmax };
    let layers = [HeadLayer::Flatten, HeadLayer::Dense(dense)];
    let plan = NetworkPlan {
        layout: Layout::input_only(n_features),
        freeze: Freeze::NONE,
        norms: Norms::Frozen,
        prefix_precision: PrefixPrecision::F32,
        head: head::plan(&layers, n_classes, [n_features, 1, 1]).unwrap(),
    };
    let device = Device::flex();
    let sources = Sources { backbone: &Formula, head: &Formula };
    let frame = Frame {
        prefix: Prefix::new(&plan, sources, &device).unwrap(),
        preprocessing: PixelTransform::RAW,
        loss: Loss::CrossEntropy,
        label_smoothing: case["label_smoothing"].as_f64().unwrap_or(0.0),
        clip_global_norm: case["clip_global_norm"].as_f64(),
        measures: vec![Measure::Loss],
        seed: 0,
        device: device.clone(),
    };
    (Trainee::new(Tail::new(&plan, sources, &device.autodiff()).unwrap(), Arc::new(frame)), plan)
}

fn optimizer(case: &Value) -> Optimizer {
    let learning_rate = case["learning_rate"].as_f64().unwrap();
    match case["optimizer"].as_str().unwrap() {
        "sgd" => Optimizer::Sgd(Sgd { learning_rate, momentum: 0.0, nesterov: false }),
        _ => Optimizer::Adam(Adam { learning_rate, beta_1: 0.9, beta_2: 0.999, epsilon: 1e-7 }),
    }
}

fn input(golden: &Value, case: &Value, batch: u32, n_batches: u32) -> Input {
    let number = |key: &str| golden[key].as_u64().unwrap() as u32;
    let (batch_size, n_features) = (number("batch_size"), number("n_features"));
    let samples: Vec<u32> = (0..batch_size).map(|k| (batch * batch_size + k) % number("n_images")).collect();
    let labels: Vec<u32> = samples.iter().map(|&i| label(i)).collect();
    let weights = case["class_weights"].as_array();
    let weight = |label: &u32| weights.map(|weights| weights[*label as usize].as_f64().unwrap() as f32);
    Input {
        values: Values::Features(samples.iter().flat_map(|&i| (0..n_features).map(move |j| feature(i, j))).collect()),
        chw: [n_features as usize, 1, 1],
        weights: labels.iter().map(weight).collect(),
        labels,
        samples,
        pass: 1,
        n_step_images: u64::from(batch_size * n_batches),
    }
}

fn values(data: &TensorData) -> Vec<f32> {
    data.as_bytes().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

fn close(found: &[f32], expected: &Value, what: &str) {
    let expected = expected.as_array().unwrap();
    assert_eq!(found.len(), expected.len());
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        let expected = expected.as_f64().unwrap() as f32;
        assert!((found - expected).abs() <= 2e-5 * expected.abs().max(0.1), "{what} {i}: {found} {expected}");
    }
}

/// Smoothing, class weights, accumulation and clipping, each alone and all together.
#[test]
fn twenty_steps_agree_with_keras() {
    let golden: Value = serde_json::from_str(include_str!("../../../tests/fixtures/training_golden.json")).unwrap();
    let cases = golden["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 6);
    for case in cases {
        let size = |key: &str| golden[key].as_u64().unwrap() as usize;
        let (mut trainee, plan) = trainee(case, size("n_features"), size("n_classes"));
        let mut moves = optimizer::from_spec(&optimizer(case));
        let rate = case["learning_rate"].as_f64().unwrap();
        let n_batches = case["accumulation"].as_u64().unwrap_or(1) as u32;
        let mut losses = Vec::new();
        for step in 0..size("steps") as u32 {
            let mut gradients = GradientsAccumulator::new();
            let mut total = 0.0;
            for batch in step * n_batches..(step + 1) * n_batches {
                let output = TrainStep::step(&trainee, input(&golden, case, batch, n_batches));
                gradients.accumulate(&trainee, output.grads);
                let values: Vec<f32> = output.item.of(Measure::Loss).clone().try_into_vec_as().unwrap();
                total += values.iter().sum::<f32>() / values.len() as f32;
            }
            losses.push(total / n_batches as f32);
            trainee = trainee.optimize(&mut moves, rate.into(), gradients.grads());
        }
        let name = case.to_string();
        let name = &name[..name.find("losses").unwrap()];
        close(&losses, &case["losses"], &format!("{name}: loss"));
        let trained = tensors(&plan, &trainee.frame().prefix, &trainee.tail).trained;
        for ((_, found), what) in trained.iter().zip(["kernel", "bias"]) {
            close(&values(found), &case[what], &format!("{name}: {what}"));
        }
    }
}

/// Held-out images are measured by the cross entropy alone, which is Keras' loss of the case without more.
#[test]
fn the_loss_of_held_out_images_is_without_smoothing_and_weights() {
    let golden: Value = serde_json::from_str(include_str!("../../../tests/fixtures/training_golden.json")).unwrap();
    let size = |key: &str| golden[key].as_u64().unwrap() as usize;
    let is_plain =
        |case: &Value| ["label_smoothing", "class_weights", "accumulation"].iter().all(|key| case[key].is_null());
    let cases = golden["cases"].as_array().unwrap();
    let plain = cases.iter().find(|case| is_plain(case)).unwrap()["losses"][0].as_f64().unwrap() as f32;
    let smoothed: Vec<&Value> = cases.iter().filter(|case| !case["label_smoothing"].is_null()).collect();
    assert_eq!(smoothed.len(), 2);
    for case in smoothed {
        let (trainee, _) = trainee(case, size("n_features"), size("n_classes"));
        let batch = Input { weights: None, ..input(&golden, case, 0, 1) };
        let mean = |stats: BatchStats| {
            let losses: Vec<f32> = stats.of(Measure::Loss).clone().try_into_vec_as().unwrap();
            losses.iter().sum::<f32>() / losses.len() as f32
        };
        let held_out = mean(InferenceStep::step(&trainee.valid(), batch.clone()));
        assert!((held_out - plain).abs() <= 1e-5 * plain, "{held_out} {plain}");
        let trained = mean(TrainStep::step(&trainee, batch).item);
        assert!((trained - plain).abs() > 1e-3, "{trained} {plain}");
    }
}

/// Rows that only fill a batch up have no part in the losses and in the gradients.
#[test]
fn a_padded_batch_trains_as_its_images_alone_do() {
    let golden: Value = serde_json::from_str(include_str!("../../../tests/fixtures/training_golden.json")).unwrap();
    let case = &golden["cases"][0];
    let size = |key: &str| golden[key].as_u64().unwrap() as usize;
    let (trainee, _) = trainee(case, size("n_features"), size("n_classes"));
    let alone = input(&golden, case, 0, 1);
    let n_rows = alone.labels.len() + 3;
    let padded = Input { values: alone.values.clone().padded(n_rows, alone.chw), ..alone.clone() };
    let outcome = |input: Input| {
        let output = TrainStep::step(&trainee, input);
        let mut moves = optimizer::from_spec(&optimizer(case));
        let moved = trainee.clone().optimize(&mut moves, 0.1.into(), output.grads);
        let losses: Vec<f32> = output.item.of(Measure::Loss).clone().try_into_vec_as().unwrap();
        let features = Tensor::<4>::ones([1, size("n_features"), 1, 1], &Device::flex());
        let logits: Vec<f32> = moved.valid().tail.forward(features, None).try_into_vec_as().unwrap();
        (losses, logits)
    };
    let (alone, padded) = (outcome(alone), outcome(padded));
    assert!(!alone.0.is_empty());
    assert_eq!(alone, padded);
}
