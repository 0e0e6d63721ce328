//! Images a second through every backbone, as JSON: frozen as a whole, or a step that trains its last stage and a head.
//!
//!     cargo bench --bench backbones -- [--rounds 5] [forward|step NAME]
//!
//! Without a name all are measured. `RAYON_NUM_THREADS` says on how many threads; benches/peers/backbones.py takes the same
//! measures of PyTorch and Keras.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Instant;

use burn::optim::GradientsAccumulator;
use burn::tensor::Device;
use burn::train::TrainStep;
use serde_json::{Value, json};
use xp::models::backbone;
use xp::models::classifier::{NetworkPlan, Prefix, Sources, Tail};
use xp::models::freeze::freeze;
use xp::models::head;
use xp::models::parameters::RandomParameters;
use xp::models::segment::Norms;
use xp::run::metric::Measure;
use xp::spec::schema::Loss;
use xp::spec::schema::model::BackboneName;
use xp::spec::schema::optimizer::{Optimizer, Sgd};
use xp::spec::schema::precision::PrefixPrecision;
use xp::spec::short_forms::FrozenLayers;
use xp::train::optimizer;
use xp::train::step::{Frame, Input, Trainee};
use xp::train::values::Values;
use xp::weights::preprocessing::PixelTransform;
use xp::weights::registry;

/// Images a batch, and classes of the head.
const BATCH: usize = 16;
const N_CLASSES: usize = 10;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// All rows frozen, without gradients.
    Forward,
    /// All stages but the last frozen: forward, backward and an update of SGD.
    Step,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Step => "step",
        }
    }
}

/// Backbones, and height and width of their images: VGG's as in the notebook, the others' as they were trained.
const SIZES: [(BackboneName, usize); 13] = [
    (BackboneName::Vgg11, 150),
    (BackboneName::Vgg13, 150),
    (BackboneName::Vgg16, 150),
    (BackboneName::Vgg19, 150),
    (BackboneName::Resnet18, 224),
    (BackboneName::Resnet34, 224),
    (BackboneName::Resnet50, 224),
    (BackboneName::MobilenetV2, 224),
    (BackboneName::EfficientnetLite0, 224),
    (BackboneName::EfficientnetLite1, 240),
    (BackboneName::EfficientnetLite2, 260),
    (BackboneName::EfficientnetLite3, 280),
    (BackboneName::EfficientnetLite4, 300),
];

fn main() {
    // Cargo adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let mut arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut n_rounds = 5;
    if let ["--rounds", n, ..] = arguments[..] {
        n_rounds = n.parse().ok().filter(|&n| n > 0).expect("--rounds takes a number of at least 1");
        arguments.drain(..2);
    }
    let kinds = [Kind::Forward, Kind::Step];
    let all = kinds.into_iter().flat_map(|kind| SIZES.map(|(backbone, size)| (kind, backbone, size)));
    let chosen: Vec<_> = match arguments[..] {
        [] => all.collect(),
        [kind, name] => all.filter(|(k, backbone, _)| k.name() == kind && backbone.as_str() == name).collect(),
        _ => panic!("expected nothing, or `forward` or `step` and a backbone, found {arguments:?}"),
    };
    assert!(!chosen.is_empty(), "{arguments:?} is not measured");
    let results: Vec<Value> = chosen.into_iter().map(|case| measured(case, n_rounds)).collect();
    let report = json!({ "schema": 1, "device": "cpu", "threads": rayon::current_num_threads(), "results": results });
    println!("{}", serde_json::to_string_pretty(&report).unwrap());
}

/// The median, slowest and fastest of some rounds after one that is not counted.
fn measured((kind, backbone, size): (Kind, BackboneName, usize), n_rounds: usize) -> Value {
    let mut trainee = trainee(kind, backbone, size);
    let mut moves = optimizer::from_spec(&Optimizer::Sgd(Sgd { learning_rate: 1e-4, momentum: 0.9, nesterov: false }));
    let mut speeds = Vec::new();
    for _ in 0..=n_rounds {
        let began = Instant::now();
        if kind == Kind::Forward {
            let input = input(size);
            let features = trainee.frame().features(input.values.clone(), input.chw).into_data();
            assert!(features.shape()[0] == BATCH);
        } else {
            let output = TrainStep::step(&trainee, input(size));
            let mut gradients = GradientsAccumulator::new();
            gradients.accumulate(&trainee, output.grads);
            trainee = trainee.optimize(&mut moves, 1e-4.into(), gradients.grads());
            assert!(output.item.of(Measure::Loss).clone().into_data().num_elements() == BATCH);
        }
        speeds.push(BATCH as f64 / began.elapsed().as_secs_f64());
    }
    speeds.remove(0);
    speeds.sort_by(f64::total_cmp);
    json!({
        "kind": kind.name(),
        "network": backbone.as_str(),
        "size": size,
        "batch": BATCH,
        "rounds": n_rounds,
        "images_per_second": speeds[speeds.len() / 2],
        "slowest": speeds[0],
        "fastest": speeds[speeds.len() - 1],
    })
}

/// A network with random weights; ImageNet's norms do not train.
fn trainee(kind: Kind, backbone: BackboneName, size: usize) -> Trainee {
    let layout = backbone::layout(backbone, registry::default_source(backbone).form);
    let head = head::default_layers(N_CLASSES);
    let head = head::plan(&head, N_CLASSES, layout.output_chw(layout.nodes.len(), size, size)).unwrap();
    let frozen = match kind {
        Kind::Forward => FrozenLayers::All,
        Kind::Step => FrozenLayers::Stages(layout.n_stages() - 1),
    };
    let freeze = freeze(&frozen, &layout).unwrap();
    let plan = NetworkPlan { layout, freeze, norms: Norms::Frozen, head, prefix_precision: PrefixPrecision::F32 };
    let random = RandomParameters { seed: 0 };
    let (device, sources) = (Device::flex(), Sources { backbone: &random, head: &random });
    let frame = Frame {
        prefix: Prefix::new(&plan, sources, &device).unwrap(),
        preprocessing: PixelTransform::TF,
        loss: Loss::CrossEntropy,
        label_smoothing: 0.0,
        clip_global_norm: None,
        measures: vec![Measure::Loss],
        seed: 0,
        device: device.clone(),
    };
    Trainee::new(Tail::new(&plan, sources, &device.autodiff()).unwrap(), Arc::new(frame))
}

fn input(size: usize) -> Input {
    Input {
        values: Values::PixelsNhwc((0..BATCH * 3 * size * size).map(|i| (i * 7 % 255) as u8).collect()),
        chw: [3, size, size],
        labels: (0..BATCH).map(|i| (i % N_CLASSES) as u32).collect(),
        samples: (0..BATCH as u32).collect(),
        pass: 1,
        n_step_images: BATCH as u64,
        weights: None,
    }
}
