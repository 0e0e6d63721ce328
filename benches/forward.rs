//! Images a second through frozen backbones, as JSON: EfficientNet-Lite0 at 224×224 and VGG16 at 150×150.
//!
//!     cargo bench --bench forward -- [--rounds 5]
//!
//! `RAYON_NUM_THREADS` says on how many threads; benches/peers/forward.py takes the same measure of PyTorch and Keras.

#![allow(clippy::unwrap_used)]

use std::time::Instant;

use burn::tensor::{Device, Tensor, TensorData};
use serde_json::{Value, json};
use xp::models::backbone;
use xp::models::classifier::{NetworkPlan, Prefix, Sources};
use xp::models::freeze::freeze;
use xp::models::head;
use xp::models::layout::Form;
use xp::models::parameters::RandomParameters;
use xp::models::segment::Norms;
use xp::spec::schema::model::BackboneName;
use xp::spec::short_forms::FrozenLayers;

/// Network, image height and width, images a batch.
const CASES: [(BackboneName, usize, usize); 2] =
    [(BackboneName::EfficientnetLite0, 224, 32), (BackboneName::Vgg16, 150, 16)];

fn main() {
    // Cargo adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let n_rounds = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => 5,
        ["--rounds", n] => n.parse().ok().filter(|&n| n > 0).expect("--rounds takes a number of at least 1"),
        _ => panic!("expected nothing or --rounds N, found {arguments:?}"),
    };
    let results: Vec<Value> = CASES.into_iter().map(|case| measured(case, n_rounds)).collect();
    let report = json!({ "schema": 1, "device": "cpu", "threads": rayon::current_num_threads(), "results": results });
    println!("{}", serde_json::to_string_pretty(&report).unwrap());
}

/// The median, slowest and fastest of some rounds after one that is not counted.
fn measured((backbone, size, batch): (BackboneName, usize, usize), n_rounds: usize) -> Value {
    let device = Device::flex();
    let (name, prefix) = prefix(backbone, size, &device);
    let values: Vec<f32> = (0..batch * 3 * size * size).map(|i| (i * 7 % 255) as f32 / 127.5 - 1.0).collect();
    let images = Tensor::<4>::from_data(TensorData::new(values, [batch, 3, size, size]), &device);
    let mut speeds: Vec<f64> = (0..=n_rounds).map(|_| images_per_second(&prefix, images.clone())).skip(1).collect();
    speeds.sort_by(f64::total_cmp);
    json!({
        "network": name,
        "size": size,
        "batch": batch,
        "rounds": n_rounds,
        "images_per_second": speeds[speeds.len() / 2],
        "slowest": speeds[0],
        "fastest": speeds[speeds.len() - 1],
    })
}

/// The whole backbone, frozen, with random weights.
fn prefix(backbone: BackboneName, size: usize, device: &Device) -> (&'static str, Prefix) {
    let layout = backbone::layout(backbone, Form::Torch);
    let head = head::plan(&head::default_layers(10), 10, layout.output_chw(layout.nodes.len(), size, size)).unwrap();
    let freeze = freeze(&FrozenLayers::All, &layout).unwrap();
    let plan = NetworkPlan { layout, freeze, norms: Norms::Frozen, head };
    let random = RandomParameters { seed: 0 };
    (plan.layout.name, Prefix::new(&plan, Sources { backbone: &random, head: &random }, device).unwrap())
}

fn images_per_second(prefix: &Prefix, images: Tensor<4>) -> f64 {
    let [n, ..] = images.dims();
    let began = Instant::now();
    let output = prefix.forward(images).into_data();
    let elapsed = began.elapsed();
    assert!(output.shape()[0] == n);
    n as f64 / elapsed.as_secs_f64()
}
