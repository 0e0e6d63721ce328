//! The shipped weights give PyTorch's answers: tests/fixtures/make_lite0_golden.py made the numbers with timm.

use serde_json::Value;
use xp::data::decode::{RgbImage, decode};
use xp::data::resize::resize;
use xp::models::efficientnet_lite::LITE0;
use xp::models::head::dense_tensors;
use xp::models::parameters::{Parameters, TensorAddress};
use xp::models::segment::Segment;
use xp::models::top;
use xp::spec::LoadedSpec;
use xp::spec::schema::data::Resize;
use xp::spec::schema::model::BackboneName;
use xp::spec::schema::weights::Selection;
use xp::spec::short_forms::DeviceChoice;
use xp::train::device::open;
use xp::train::network;
use xp::train::plan::plan;
use xp::weights::load::FileParameters;
use xp::weights::locate::{Located, Stored};
use xp::weights::matching::{Top, Wanted};
use xp::weights::registry;

use crate::support::Place;

use burn::tensor::{Device, Tensor, TensorData};

const GOLDEN: &str = include_str!("../fixtures/lite0_golden.json");
const COFFEE: &[u8] = include_bytes!("../fixtures/coffee.png");
const ESPRESSO: usize = 967;

/// The weights in the binary.
fn located() -> Located {
    let source = registry::default_source(BackboneName::EfficientnetLite0);
    let (_, bytes) = source.embedded().unwrap();
    let selection = Selection::default();
    Located { source, stored: Stored::Embedded(bytes), blake3: String::new(), published: None, selection }
}

/// Pooled features and logits of one image, after a change to the network that should not matter.
fn answer(image: &RgbImage, change: fn(Segment) -> Segment) -> (Vec<f32>, Vec<f32>) {
    let device = Device::flex();
    let (layout, head) = (LITE0.layout(), top::imagenet(BackboneName::EfficientnetLite0, [1280, 1, 1]));
    let wanted = Wanted { layout: &layout, top: Top::Needed(&head) };
    let weights = FileParameters::located(&located(), wanted).unwrap();
    let [h, w] = [image.height as usize, image.width as usize];
    let mut chw = vec![0.0; 3 * h * w];
    located().source.preprocessing.pixels.planes_from_pixels(&image.pixels_hwc, &mut chw);
    let x = Tensor::<4>::from_data(TensorData::new(chw, [1, 3, h, w]), &device);
    let x = change(Segment::new(&LITE0.layout().nodes, 0, &weights, &device).unwrap()).forward(x);
    let pooled = x.mean_dim(3).mean_dim(2).reshape([1, 1280]);
    let [kernel, bias] = dense_tensors(&top::imagenet(BackboneName::EfficientnetLite0, [1280, 1, 1])).remove(0);
    let values = |address: &TensorAddress| TensorData::new(weights.values(address).unwrap(), address.shape.clone());
    let kernel = Tensor::<2>::from_data(values(&kernel), &device);
    let bias = Tensor::<1>::from_data(values(&bias), &device).unsqueeze_dim(0);
    let logits = pooled.clone().matmul(kernel) + bias;
    (pooled.try_into_vec_as().unwrap(), logits.try_into_vec_as().unwrap())
}

fn probability(logits: &[f32], class: usize) -> f64 {
    let largest = logits.iter().copied().fold(f32::MIN, f32::max);
    let exponential = |logit: f32| f64::from(logit - largest).exp();
    exponential(logits[class]) / logits.iter().map(|&logit| exponential(logit)).sum::<f64>()
}

/// Every number of a golden entry, within rounding of f32 sums taken in another order.
fn agrees(name: &str, image: &RgbImage, tolerance: f64) {
    for change in [std::convert::identity, Segment::folded] {
        agrees_with(name, answer(image, change), tolerance);
    }
}

fn agrees_with(name: &str, (pooled, logits): (Vec<f32>, Vec<f32>), tolerance: f64) {
    let golden: Value = serde_json::from_str(GOLDEN).unwrap();
    let golden = &golden[name];
    let close = |what: &str, found: f64, expected: &Value, scale: f64| {
        let expected = expected.as_f64().unwrap();
        assert!((found - expected).abs() <= tolerance * scale, "{name} {what}: {found}, expected {expected}");
    };
    let norm = |values: &[f32]| values.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt();
    for (what, values) in [("logits", &logits), ("pooled", &pooled)] {
        let largest = values.iter().fold(0.0_f64, |largest, v| largest.max(f64::from(v.abs())));
        for (i, expected) in golden[format!("{what}_first16")].as_array().unwrap().iter().enumerate() {
            close(what, f64::from(values[i]), expected, largest);
        }
        close(what, norm(values), &golden[format!("{what}_l2")], norm(values));
    }
    for top in golden["top5"].as_array().unwrap() {
        let class = top[0].as_u64().unwrap() as usize;
        close(top[1].as_str().unwrap(), probability(&logits, class), &top[2], 1.0);
    }
}

/// As `make_lite0_golden.py` generates it.
fn generated(size: u32) -> RgbImage {
    let pixel = |y: u32, x: u32, c: u32| ((7 * y + 13 * x + 29 * c + x * y % 17 * 5) % 256) as u8;
    let pixels_hwc = (0..size).flat_map(|y| (0..size).flat_map(move |x| (0..3).map(move |c| pixel(y, x, c)))).collect();
    RgbImage { height: size, width: size, pixels_hwc }
}

/// The middle 224×224 of an image whose short side is 256.
fn crop(image: &RgbImage) -> RgbImage {
    let scale = 256.0 / f64::from(image.height.min(image.width));
    let scaled = |n: u32| (f64::from(n) * scale).round() as u32;
    let image = resize(image, scaled(image.height), scaled(image.width), Resize::Bicubic);
    let (top, left) = ((image.height - 224) / 2, (image.width - 224) / 2);
    let row = |y: u32| 3 * ((top + y) * image.width + left) as usize;
    let pixels_hwc = (0..224).flat_map(|y| image.pixels_hwc[row(y)..row(y) + 3 * 224].to_vec()).collect();
    RgbImage { height: 224, width: 224, pixels_hwc }
}

#[test]
fn generated_images_give_pytorchs_logits() {
    agrees("generated_96", &generated(96), 2e-4);
    agrees("generated_224", &generated(224), 2e-4);
}

#[test]
fn a_cup_of_coffee_is_an_espresso() {
    let coffee = decode(COFFEE).unwrap().image;
    // Resized pixels may differ from Pillow's by one level.
    agrees("coffee_squash", &resize(&coffee, 224, 224, Resize::Bicubic), 5e-3);
    agrees("coffee_crop", &crop(&coffee), 5e-3);
    let (_, logits) = answer(&crop(&coffee), Segment::folded);
    let espresso = probability(&logits, ESPRESSO);
    assert!((espresso - 0.951).abs() < 2e-3, "{espresso}");
}

/// What trains, measures or saves features begins with the network that is built here.
#[test]
fn a_network_with_altered_weights_is_not_built() {
    let place = Place::new();
    let loaded = LoadedSpec::read(&place.path("spec.yaml"), &[]).unwrap();
    let (mut plan, device) = (plan(&loaded).unwrap(), open(DeviceChoice::Cpu).unwrap());
    let weights = plan.weights.as_mut().unwrap();
    let Stored::Embedded(bytes) = weights.stored else { panic!("they are in the binary") };
    let mut altered = bytes.to_vec();
    let last = altered.len() - 1;
    // Signs of the classifier's numbers, which training would not even load.
    altered[last - 40_000..].iter_mut().for_each(|byte| *byte ^= 0x80);
    weights.stored = Stored::Embedded(altered.leak());
    let refused = network::build(&plan, &device).unwrap_err().to_string();
    assert!(refused.contains("efficientnet_lite0.timm") && refused.contains("answers"), "{refused}");
}

#[test]
fn verifying_asks_what_is_in_the_binary_too() {
    let place = Place::new();
    let printed = place.xp(&["weights", "verify"]);
    let expected = "ok   efficientnet_lite0.timm efficientnet_lite0.safetensors, in the binary\n";
    assert_eq!((printed.code, printed.stdout.as_str()), (0, expected), "{}", printed.stderr);
    let none = place.xp(&["weights", "verify", "vgg16.keras"]);
    assert!(none.code == 0 && none.stdout.starts_with("no files of it in "), "{}", none.stdout);
}
