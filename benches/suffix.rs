//! Milliseconds of a training step on what the frozen layers put out, as JSON: the block after VGG16's fifteenth row, the
//! layers after EfficientNet-Lite0's `blocks.5`, and a head.
//!
//!     cargo bench --bench suffix -- [--rounds 9]
//!
//! `RAYON_NUM_THREADS` says on how many threads; benches/peers/suffix.py takes the same measure of PyTorch, in turn.

#![allow(clippy::unwrap_used)]

use std::time::Instant;

use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use serde_json::{Value, json};
use xp::models::backbone;
use xp::models::classifier::{NetworkPlan, Sources, Tail};
use xp::models::freeze::freeze;
use xp::models::head;
use xp::models::layout::Form;
use xp::models::parameters::RandomParameters;
use xp::models::segment::Norms;
use xp::spec::schema::Loss;
use xp::spec::schema::model::{Activation, BackboneName, Dense, HeadLayer};
use xp::spec::schema::optimizer::{Adam, Optimizer, RmsProp, Sgd};
use xp::spec::schema::precision::PrefixPrecision;
use xp::spec::short_forms::FrozenLayers;
use xp::train::{loss, optimizer};

/// What trains, and on what.
struct Case {
    name: &'static str,
    backbone: BackboneName,
    frozen: FrozenLayers,
    head: Vec<HeadLayer>,
    n_classes: usize,
    size: usize,
    features: [usize; 4],
    optimizer: Optimizer,
}

fn cases() -> [Case; 3] {
    let dense = |units, activation| HeadLayer::Dense(Dense { units, activation });
    let sigmoid = vec![HeadLayer::Flatten, dense(256, Activation::Relu), dense(1, Activation::Sigmoid)];
    let rmsprop = RmsProp {
        learning_rate: 1e-4,
        rho: 0.9,
        momentum: 0.0,
        epsilon: 1e-7,
        epsilon_inside_sqrt: true,
        initial_accumulator: 0.0,
    };
    let sgd = Sgd { learning_rate: 1e-4, momentum: 0.9, nesterov: false };
    let adam = Adam { learning_rate: 1e-4, beta_1: 0.9, beta_2: 0.999, epsilon: 1e-7 };
    [
        Case {
            name: "VGG16 block5",
            backbone: BackboneName::Vgg16,
            frozen: FrozenLayers::Count(15),
            head: sigmoid.clone(),
            n_classes: 2,
            size: 150,
            features: [16, 512, 9, 9],
            optimizer: Optimizer::Sgd(sgd),
        },
        Case {
            name: "Lite0 blocks.6",
            backbone: BackboneName::EfficientnetLite0,
            frozen: FrozenLayers::Stages(7),
            head: head::default_layers(10),
            n_classes: 10,
            size: 224,
            features: [32, 192, 7, 7],
            optimizer: Optimizer::Adam(adam),
        },
        Case {
            name: "head",
            backbone: BackboneName::Vgg16,
            frozen: FrozenLayers::All,
            head: sigmoid,
            n_classes: 2,
            size: 150,
            features: [32, 512, 4, 4],
            optimizer: Optimizer::Rmsprop(rmsprop),
        },
    ]
}

fn main() {
    // Cargo adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let n_rounds = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => 9,
        ["--rounds", n] => n.parse().ok().filter(|&n| n > 0).expect("--rounds takes a number of at least 1"),
        _ => panic!("expected nothing or --rounds N, found {arguments:?}"),
    };
    let results: Vec<Value> = cases().iter().map(|case| measured(case, n_rounds)).collect();
    let report = json!({ "schema": 1, "device": "cpu", "threads": rayon::current_num_threads(), "results": results });
    println!("{report}");
}

/// The median, fastest and slowest of some steps after two that are not counted, with the optimizer's part.
fn measured(case: &Case, n_rounds: usize) -> Value {
    let (mut tail, device) = (tail(case), Device::flex());
    let mut optimizer = optimizer::from_spec(&case.optimizer);
    let [n, ..] = case.features;
    let labels: Vec<u32> = (0..n as u32).map(|i| i % case.n_classes as u32).collect();
    let is_binary = case.n_classes == 2;
    let kind = if is_binary { Loss::BinaryCrossEntropy } else { Loss::CrossEntropy };
    let values: Vec<f32> = (0..case.features.iter().product()).map(|i: usize| (i * 7 % 255) as f32 / 255.0).collect();
    let features = Tensor::<4>::from_data(TensorData::new(values, case.features), &device);
    let (mut steps, mut updates) = (Vec::new(), Vec::new());
    for _ in 0..n_rounds + 2 {
        let began = Instant::now();
        let logits = tail.forward(features.clone().autodiff(), None);
        let loss = loss::per_image(kind, logits, &labels, 0.0).mean();
        let gradients = GradientsParams::from_grads(loss.backward(), &tail);
        let differentiated = Instant::now();
        tail = optimizer.step(case.optimizer.learning_rate(), tail, gradients);
        updates.push(differentiated.elapsed().as_secs_f64() * 1e3);
        steps.push(began.elapsed().as_secs_f64() * 1e3);
    }
    let sorted = |times: &[f64]| {
        let mut times = times[2..].to_vec();
        times.sort_by(f64::total_cmp);
        times
    };
    let (steps, updates) = (sorted(&steps), sorted(&updates));
    json!({
        "case": case.name,
        "rounds": n_rounds,
        "median_ms": steps[steps.len() / 2],
        "fastest_ms": steps[0],
        "slowest_ms": steps[steps.len() - 1],
        "optimizer_median_ms": updates[updates.len() / 2],
    })
}

/// The trained part of a network, with random weights.
fn tail(case: &Case) -> Tail {
    let layout = backbone::layout(case.backbone, Form::Torch);
    let output = layout.output_chw(layout.nodes.len(), case.size, case.size);
    let head = head::plan(&case.head, case.n_classes, output).unwrap();
    let freeze = freeze(&case.frozen, &layout).unwrap();
    let [_, c, h, w] = case.features;
    assert_eq!(layout.output_chw(freeze.n_prefix_nodes, case.size, case.size), [c, h, w]);
    let plan = NetworkPlan { layout, freeze, norms: Norms::Frozen, prefix_precision: PrefixPrecision::F32, head };
    let random = RandomParameters { seed: 0 };
    Tail::new(&plan, Sources { backbone: &random, head: &random }, &Device::flex().autodiff()).unwrap()
}
