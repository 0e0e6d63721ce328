//! The 2017 notebook's networks train as Keras trains them, and its specs run: tests/fixtures/make_notebook_golden.py.

use std::fs;
use std::sync::Arc;

use burn::optim::GradientsAccumulator;
use burn::tensor::Device;
use burn::train::TrainStep;
use serde_json::Value;
use xp::data::features::FeatureShape;
use xp::data::images::SampleShape;
use xp::models::classifier::{NetworkPlan, Prefix, Sources, Tail};
use xp::models::freeze::freeze;
use xp::models::head;
use xp::models::layout::Layout;
use xp::models::segment::Norms;
use xp::models::vgg::VGG16;
use xp::run::metric::Measure;
use xp::spec::json_schema::json_schema;
use xp::spec::schema::Loss;
use xp::spec::schema::model::{Activation, Dense, HeadLayer};
use xp::spec::schema::optimizer::{Optimizer, RmsProp, Sgd};
use xp::spec::schema::precision::PrefixPrecision;
use xp::spec::short_forms::FrozenLayers;
use xp::train::optimizer;
use xp::train::step::{Frame, Input, Trainee};
use xp::train::values::Values;
use xp::weights::preprocessing::PixelTransform;

use crate::support::{Place, golden, write_image};
use crate::vgg16::FixtureParameters;

/// Flatten, Dense 256 with ReLU, Dense 1 with sigmoid; the notebook's dropout is off.
fn layers() -> [HeadLayer; 3] {
    let dense = |units, activation| HeadLayer::Dense(Dense { units, activation });
    [HeadLayer::Flatten, dense(256, Activation::Relu), dense(1, Activation::Sigmoid)]
}

fn trainee(layout: Layout, frozen: &FrozenLayers, output_chw: [usize; 3]) -> Trainee {
    let freeze = freeze(frozen, &layout).unwrap();
    let plan = NetworkPlan {
        layout,
        freeze,
        norms: Norms::Frozen,
        prefix_precision: PrefixPrecision::F32,
        head: head::plan(&layers(), 2, output_chw).unwrap(),
    };
    let (device, sources) = (Device::flex(), Sources { backbone: &FixtureParameters, head: &FixtureParameters });
    let frame = Frame {
        prefix: Prefix::new(&plan, sources, &device).unwrap(),
        preprocessing: PixelTransform::RESCALE,
        loss: Loss::BinaryCrossEntropy,
        label_smoothing: 0.0,
        clip_global_norm: None,
        measures: vec![Measure::Loss],
        seed: 0,
        device: device.clone(),
    };
    Trainee::new(Tail::new(&plan, sources, &device.autodiff()).unwrap(), Arc::new(frame))
}

/// Trains on batch after batch and holds the loss before every step against the golden ones, relatively within 1e-4.
fn agrees(name: &str, golden: &Value, mut trainee: Trainee, optimizer: &Optimizer, batch: impl Fn(usize) -> Input) {
    let losses = golden.as_array().unwrap_or_else(|| panic!("there is no {name}"));
    assert_eq!(losses.len(), 20);
    let mut moves = optimizer::from_spec(optimizer);
    for (step, expected) in losses.iter().enumerate() {
        let output = TrainStep::step(&trainee, batch(step));
        let of_images: Vec<f32> = output.item.of(Measure::Loss).clone().try_into_vec_as().unwrap();
        let loss = of_images.iter().map(|&loss| f64::from(loss)).sum::<f64>() / of_images.len() as f64;
        let expected = expected.as_f64().unwrap();
        assert!((loss - expected).abs() <= 1e-4 * expected, "{name}, step {step}: {loss}, expected {expected}");
        let mut gradients = GradientsAccumulator::new();
        gradients.accumulate(&trainee, output.grads);
        trainee = trainee.optimize(&mut moves, optimizer.learning_rate().into(), gradients.grads());
    }
}

fn input((values, chw): (Values, [usize; 3]), samples: &[usize], label: fn(usize) -> u32) -> Input {
    Input {
        values,
        chw,
        labels: samples.iter().map(|&i| label(i)).collect(),
        samples: samples.iter().map(|&i| i as u32).collect(),
        pass: 1,
        n_step_images: samples.len() as u64,
        weights: None,
    }
}

fn golden() -> Value {
    serde_json::from_str(include_str!("../fixtures/notebook_golden.json")).unwrap()
}

fn rmsprop(epsilon: f64, epsilon_inside_sqrt: bool, initial_accumulator: f64) -> Optimizer {
    let learning_rate = 1e-4;
    Optimizer::Rmsprop(RmsProp {
        learning_rate,
        rho: 0.9,
        momentum: 0.0,
        epsilon,
        epsilon_inside_sqrt,
        initial_accumulator,
    })
}

fn sgd(learning_rate: f64) -> Optimizer {
    Optimizer::Sgd(Sgd { learning_rate, momentum: 0.9, nesterov: false })
}

/// The features are as a file holds them, channels last, and the weights are Keras' with their rows brought in order.
#[test]
fn the_head_trains_as_in_keras_and_tensorflow() {
    let drawn = golden::drawn("features", 24 * 4 * 4 * 512);
    let features: Vec<f32> = drawn.map(|unit| (2.0 * unit) as f32).map(|value| value.max(0.0)).collect();
    let shape = FeatureShape { height: 4, width: 4, channels: 512 };
    let batch = |step: usize| {
        let samples: Vec<usize> = (0..8).map(|k| (8 * step + k) % 24).collect();
        let rows = samples.iter().flat_map(|&i| &features[i * 8192..][..8192]);
        let bytes = rows.flat_map(|value| value.to_le_bytes()).collect();
        input(Values::of(bytes, SampleShape::Features(shape)), &samples, |i| ((i * i + i / 3) % 2) as u32)
    };
    let golden = &golden()["head"];
    for (name, optimizer) in [
        ("keras_3", rmsprop(1e-7, true, 0.0)),
        ("keras_2", rmsprop(1e-8, false, 0.0)),
        ("tensorflow_1", rmsprop(1e-10, true, 1.0)),
        ("keras_3_sgd", sgd(1e-3)),
        ("keras_2_sgd", sgd(1e-3)),
    ] {
        let head = trainee(Layout::input_only(512), &FrozenLayers::None, [512, 4, 4]);
        agrees(name, &golden[name], head, &optimizer, batch);
    }
}

#[test]
fn vgg16_with_fifteen_frozen_layers_trains_as_in_keras() {
    const SIDE: usize = 48;
    let pixel = |n: usize, y: usize, x: usize, c: usize| (41 * n + 7 * y + 13 * x + 29 * c + 5 * (x * y % 17)) as u8;
    let image = |n: usize| {
        let places = (0..SIDE).flat_map(|y| (0..SIDE).map(move |x| (y, x)));
        places.flat_map(move |(y, x)| [0, 1, 2].map(|c| pixel(n, y, x, c))).collect::<Vec<u8>>()
    };
    let new = || trainee(VGG16.layout(), &FrozenLayers::Count(15), [512, 1, 1]);
    // The frozen part is computed once, as a run does it.
    let frozen = new();
    let maps: Vec<Vec<f32>> = (0..8)
        .map(|n| {
            let map = frozen.frame().features(Values::PixelsNhwc(image(n)), [3, SIDE, SIDE]);
            map.try_into_vec_as().unwrap()
        })
        .collect();
    let batch = |step: usize| {
        let samples = [0, 1].map(|k| (2 * step + k) % 8);
        let values = Values::Features(samples.iter().flat_map(|&i| maps[i].clone()).collect());
        input((values, [512, 3, 3]), &samples, |i| i as u32 % 2)
    };
    let golden = &golden()["finetune"];
    for (name, rate) in [("keras_3_sgd_0.0001", 1e-4), ("keras_3_sgd_0.1", 0.1)] {
        agrees(name, &golden[name], new(), &sgd(rate), batch);
    }
}

/// The notebook's folder with eight made-up images a split, and small steps.
fn notebook() -> Place {
    let place = Place { folder: tempfile::tempdir().unwrap() };
    for (split, first) in [("training", 0), ("testing", 4)] {
        for (class, hue) in [("cats", [160, 120, 60]), ("dogs", [60, 110, 150])] {
            for i in first..first + 4 {
                write_image(&place.path(&format!("data/{split}/{class}/{i}.png")), hue, i);
            }
        }
    }
    let specs = concat!(env!("CARGO_MANIFEST_DIR"), "/experiments/notebook");
    for entry in fs::read_dir(specs).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let is_known =
            |line: &&str| !line.starts_with("preprocess:") || json_schema()["properties"]["preprocess"].is_object();
        let text: String = text.lines().filter(is_known).map(|line| format!("{line}\n")).collect();
        fs::write(place.path(path.file_name().unwrap().to_str().unwrap()), text).unwrap();
    }
    place
}

const RANDOM: [&str; 4] = ["--set", "model.weights=random", "--set", "device=cpu"];

#[test]
fn the_notebooks_features_and_heads_run() {
    let place = notebook();
    let extracted = place.json(&[&["features", "features.yaml", "-o", "features", "--json"][..], &RANDOM].concat());
    let splits = extracted["manifest"]["splits"].as_array().unwrap();
    assert!(splits.iter().all(|files| files["features"]["shape"] == serde_json::json!([8, 4, 4, 512])), "{splits:?}");
    assert_eq!(extracted["manifest"]["made_of"]["layer"], "block5_pool");
    for (spec, epochs) in [("head.yaml", 20), ("dnn_classifier.yaml", 1)] {
        let run = place.json(&["run", spec, "--json", "--set", "device=cpu"]);
        assert_eq!((&run["state"], &run["model"]["n_parameters"]), (&"finished".into(), &2_097_665.into()), "{spec}");
        assert_eq!(run["metrics"]["train.loss"]["n"], epochs, "{spec}");
        assert_eq!(run["data"]["classes"], serde_json::json!(["cats", "dogs"]));
    }
}

#[test]
fn the_notebooks_fine_tuning_runs() {
    let place = notebook();
    let small = ["data.batch_size=2", "epochs=1", "steps_per_epoch=1", "validation_steps=1"];
    let sets = small.iter().flat_map(|set| ["--set", set]);
    let arguments: Vec<&str> = ["run", "finetune.yaml", "--json"].into_iter().chain(RANDOM).chain(sets).collect();
    let model = &place.json(&arguments)["model"];
    assert_eq!(model["n_parameters"], 16_812_353);
    assert_eq!(model["n_trained_parameters"], 9_177_089);
    assert_eq!(16_812_353 - 9_177_089, 7_635_264);
    assert_eq!((&model["n_frozen_layers"], &model["cut"]), (&15.into(), &"block4_pool".into()));
    let evaluated = place.json(&["evaluate", "@1", "--data", "data/testing", "--steps", "1", "--json"]);
    assert_eq!((&evaluated["n_images"], &evaluated["n_split_images"]), (&2.into(), &8.into()));
}

/// The notebook's four parts on VGG16 as keras.applications publishes it, in names and layout; its values are
/// tests/fixtures/make_published_vgg.py's.
#[test]
fn the_notebook_runs_on_a_file_with_the_published_names() {
    let place = notebook();
    let packed = fs::File::open(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/published_vgg16_notop.h5.gz"));
    let mut file = fs::File::create(place.path("vgg16_notop.h5")).unwrap();
    std::io::copy(&mut flate2::read::GzDecoder::new(packed.unwrap()), &mut file).unwrap();
    let weights = "model.weights={ file: vgg16_notop.h5, as: vgg16.keras }";
    let checked = place.xp(&["check", "features.yaml", "--set", weights]);
    assert!(checked.stderr.contains("matched by name and by position"), "{}", checked.stderr);
    place.json(&["features", "features.yaml", "-o", "features", "--set", weights, "--set", "device=cpu", "--json"]);
    place.json(&["run", "head.yaml", "--name", "head", "--set", "epochs=2", "--set", "device=cpu", "--json"]);
    // The head behind the backbone measures images as it measures their features.
    let on_features = place.json(&["evaluate", "head", "--data", "features", "--json"]);
    let on_images = place.json(&["evaluate", "head", "--data", "data/testing", "--json"]);
    let loss = |measured: &Value| measured["metrics"]["loss"].as_f64().unwrap();
    assert!((loss(&on_features) - loss(&on_images)).abs() < 1e-5, "{on_features} {on_images}");
    let seen = place.json(&["predict", "head", "data/testing/cats", "--json"]);
    let classes = |seen: &Value| -> Vec<String> {
        let top = seen["images"][0]["top"].as_array().unwrap();
        top.iter().map(|class| class["class"].as_str().unwrap().to_owned()).collect()
    };
    let mut both = classes(&seen);
    both.sort_unstable();
    assert_eq!(both, ["cats", "dogs"]);
    for (format, file, more) in
        [("keras", "head.keras", &[][..]), ("h5", "head_on_vgg16.h5", &["--behind", "features"])]
    {
        let arguments = [&["export", "head", "--format", format, "-o", file, "--verify"][..], more].concat();
        let exported = place.xp(&arguments);
        assert_eq!(exported.code, 0, "{}", exported.stderr);
    }
    let small = ["data.batch_size=2", "epochs=1", "steps_per_epoch=1", "validation_steps=1", "device=cpu", weights];
    let sets = small.iter().flat_map(|set| ["--set", set]);
    let arguments: Vec<&str> = ["run", "finetune.yaml", "--name", "tuned", "--json"].into_iter().chain(sets).collect();
    assert_eq!(place.json(&arguments)["model"]["n_frozen_layers"], 15);
    assert_eq!(classes(&place.json(&["predict", "tuned", "data/testing/dogs", "--json"])).len(), 2);
    assert_eq!(place.xp(&["export", "tuned", "--format", "keras-h5", "-o", "tuned", "--verify"]).code, 0);
}

/// VGG19 with its classifier, 575 MB: `python tests/fixtures/make_published_vgg.py vgg19_top FILE.h5`.
#[test]
#[ignore = "needs a file of 575 MB, named by XP_VGG19"]
fn the_notebooks_prediction_runs_on_a_file_with_the_published_names() {
    let file = std::env::var("XP_VGG19").expect("XP_VGG19 names the file");
    let place = notebook();
    let seen = place.json(&["predict", &file, "--as", "vgg19.keras", "data/testing/cats", "--top", "5", "--json"]);
    let images = seen["images"].as_array().unwrap();
    assert_eq!(images.len(), 4);
    assert!(images.iter().all(|image| image["top"].as_array().unwrap().len() == 5), "{seen}");
}
