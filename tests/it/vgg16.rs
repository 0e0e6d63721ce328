//! VGG16 gives Keras' features, logits and gradients: tests/fixtures/make_vgg16_golden.py made the numbers.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Tensor, TensorData, activation};
use serde_json::Value;
use xp::models::classifier::{NetworkPlan, Prefix, Sources, Tail, count_parameters, tensors};
use xp::models::freeze::freeze;
use xp::models::head;
use xp::models::parameters::{Parameters, ParametersError, Role, TensorAddress};
use xp::models::segment::Norms;
use xp::models::vgg::VGG16;
use xp::spec::schema::model::{Activation, BackboneName, Dense, HeadLayer, Weights};
use xp::spec::short_forms::FrozenLayers;
use xp::weights::registry;

const GOLDEN: &str = include_str!("../fixtures/vgg16_golden.json");

/// The fixture's weights, as `make_vgg16_golden.py` draws them.
struct FixtureParameters;

impl Parameters for FixtureParameters {
    fn values(&self, address: &TensorAddress) -> Result<Vec<f32>, ParametersError> {
        let limit = match address.role {
            Role::Kernel { fan_in, fan_out, .. } => (6.0 / (fan_in + fan_out) as f64).sqrt(),
            Role::Bias => 0.1,
            other => panic!("VGG16 has no {other:?}"),
        };
        let fnv = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
        let seed = address.name.bytes().fold(0xCBF2_9CE4_8422_2325, fnv);
        let value = |i: u64| {
            let mut z = seed.wrapping_add(i.wrapping_mul(0x9E37_79B9_7F4A_7C15));
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            let unit = ((z ^ (z >> 31)) >> 11) as f64 * 0.5_f64.powi(53);
            ((2.0 * unit - 1.0) * limit) as f32
        };
        Ok((1..=address.n_values() as u64).map(value).collect())
    }

    fn hash(&self) -> String {
        "fixture".to_owned()
    }
}

fn plan(frozen: &FrozenLayers, height: usize, width: usize) -> NetworkPlan {
    let layout = VGG16.layout();
    let dense = |units, activation| HeadLayer::Dense(Dense { units, activation });
    let layers =
        [HeadLayer::Flatten, dense(256, Activation::Relu), HeadLayer::Dropout(0.5), dense(1, Activation::Sigmoid)];
    let head = head::plan(&layers, 2, layout.output_chw(layout.nodes.len(), height, width)).unwrap();
    NetworkPlan { freeze: freeze(frozen, &layout).unwrap(), layout, norms: Norms::Frozen, head }
}

const SOURCES: Sources<'_> = Sources { backbone: &FixtureParameters, head: &FixtureParameters };

/// The fixture's two images, preprocessed.
fn images(height: usize, width: usize) -> Tensor<4> {
    let preprocessing = registry::preprocessing(BackboneName::Vgg16, Weights::Random);
    let pixel =
        |n: usize, y: usize, x: usize, c: usize| ((41 * n + 7 * y + 13 * x + 29 * c + 5 * (x * y % 17)) % 256) as f32;
    let mut values = Vec::new();
    for n in 0..2 {
        for c in 0..3 {
            let (mean, deviation) = (preprocessing.mean_rgb[c], preprocessing.deviation_rgb[c]);
            let plane = (0..height).flat_map(|y| (0..width).map(move |x| pixel(n, y, x, c)));
            values.extend(plane.map(|pixel: f32| (pixel - mean) / deviation));
        }
    }
    Tensor::from_data(TensorData::new(values, [2, 3, height, width]), &Device::flex())
}

/// Every number of a golden entry, within 1e-4 of the tensor's largest value.
fn agrees<const D: usize>(name: &str, tensor: Tensor<D>, golden: &Value) {
    assert_eq!(serde_json::json!(tensor.dims().to_vec()), golden["shape"], "{name}");
    let values: Vec<f64> = tensor.try_into_vec_as().unwrap();
    let close = |what: &str, found: f64, expected: f64, scale: f64| {
        assert!((found - expected).abs() <= 1e-4 * scale, "{name} {what}: {found}, expected {expected}");
    };
    let number = |key: &str| golden[key].as_f64().unwrap();
    let entries = golden["values"].as_array().unwrap();
    let entry = |entry: &Value| (entry[0].as_u64().unwrap() as usize, entry[1].as_f64().unwrap());
    let largest = entry(&entries[0]).1.abs();
    assert!(values.iter().all(|value| value.abs() <= (1.0 + 1e-4) * largest), "{name}");
    for (i, expected) in entries.iter().map(entry) {
        close(&i.to_string(), values[i], expected, largest);
    }
    let absolutes = number("sum_of_absolutes");
    close("sum", values.iter().sum(), number("sum"), absolutes);
    close("absolutes", values.iter().map(|value| value.abs()).sum(), absolutes, absolutes);
    let squares = number("sum_of_squares");
    close("squares", values.iter().map(|value| value * value).sum(), squares, squares);
}

/// Gradients of a module's parameters, in the order in which it holds them.
struct GradientCheck<'a> {
    gradients: &'a Gradients,
    names: std::vec::IntoIter<String>,
    golden: &'a Value,
}

impl ModuleVisitor for GradientCheck<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let name = self.names.next().unwrap();
        agrees(&name, param.val().grad(self.gradients).unwrap(), &self.golden[&name]);
    }
}

fn golden() -> (Value, usize, usize) {
    let golden: Value = serde_json::from_str(GOLDEN).unwrap();
    let pixels = |key: &str| golden[key].as_u64().unwrap() as usize;
    let (height, width) = (pixels("height"), pixels("width"));
    (golden, height, width)
}

#[test]
fn features_are_keras() {
    let (golden, height, width) = golden();
    let prefix = Prefix::new(&plan(&FrozenLayers::All, height, width), SOURCES, &Device::flex()).unwrap();
    agrees("block5_pool", prefix.forward(images(height, width)), &golden["block5_pool"]);
}

#[test]
fn logits_and_gradients_after_fifteen_frozen_layers_are_keras() {
    let (golden, height, width) = golden();
    let plan = plan(&FrozenLayers::Count(15), height, width);
    let count = count_parameters(&plan);
    assert_eq!(golden["trained_parameters"], count.trained);
    assert_eq!(golden["frozen_parameters"], count.frozen());
    let prefix = Prefix::new(&plan, SOURCES, &Device::flex()).unwrap();
    let tail = Tail::new(&plan, SOURCES, &Device::flex().autodiff()).unwrap();
    let cut = prefix.forward(images(height, width));
    agrees("block4_pool", cut.clone(), &golden["block4_pool"]);
    let logits = tail.forward(cut.autodiff(), None);
    agrees("logits", logits.clone().inner(), &golden["logits"]);
    // The images' labels are 0 and 1: the loss is −log σ of the logit with its sign.
    let signs = Tensor::<2>::from_data([[-1.0], [1.0]], &logits.device());
    let gradients = activation::log_sigmoid(logits * signs).neg().mean().backward();
    let trained = tensors(&plan, &prefix, &tail).trained;
    let names: Vec<String> = trained.into_iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), golden["gradients"].as_object().unwrap().len());
    let mut check = GradientCheck { gradients: &gradients, names: names.into_iter(), golden: &golden["gradients"] };
    tail.visit(&mut check);
    assert_eq!(check.names.next(), None);
}
