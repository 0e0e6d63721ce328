//! VGG16 gives Keras' features, logits and gradients: tests/fixtures/make_vgg16_golden.py made the numbers.

use burn::tensor::{Device, Tensor, TensorData, activation};
use serde_json::Value;
use xp::models::classifier::{NetworkPlan, Prefix, Sources, Tail, count_parameters, tensors};
use xp::models::freeze::freeze;
use xp::models::head;
use xp::models::parameters::{Parameters, ParametersError, Role, TensorAddress};
use xp::models::segment::Norms;
use xp::models::vgg::VGG16;
use xp::spec::schema::model::{Activation, Dense, HeadLayer};
use xp::spec::schema::precision::PrefixPrecision;
use xp::spec::short_forms::FrozenLayers;

use crate::support::golden::{agrees, drawn, gradients_agree};

const GOLDEN: &str = include_str!("../fixtures/vgg16_golden.json");

/// The fixture's weights, as `make_vgg16_golden.py` draws them.
pub struct FixtureParameters;

impl Parameters for FixtureParameters {
    fn values(&self, address: &TensorAddress) -> Result<Vec<f32>, ParametersError> {
        let limit = match address.role {
            Role::Kernel { fan_in, fan_out, .. } => (6.0 / (fan_in + fan_out) as f64).sqrt(),
            Role::Bias => 0.1,
            other => panic!("VGG16 has no {other:?}"),
        };
        Ok(drawn(&address.name, address.n_values()).map(|unit| (unit * limit) as f32).collect())
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
    NetworkPlan {
        freeze: freeze(frozen, &layout).unwrap(),
        layout,
        norms: Norms::Frozen,
        prefix_precision: PrefixPrecision::F32,
        head,
    }
}

const SOURCES: Sources<'_> = Sources { backbone: &FixtureParameters, head: &FixtureParameters };

/// The fixture's two images, preprocessed.
fn images(height: usize, width: usize) -> Tensor<4> {
    // Keras' means, of the planes in the fixture's order: red, green, blue.
    let means = [123.68, 116.779, 103.939];
    let pixel =
        |n: usize, y: usize, x: usize, c: usize| ((41 * n + 7 * y + 13 * x + 29 * c + 5 * (x * y % 17)) % 256) as f32;
    let mut values = Vec::new();
    for n in 0..2 {
        for (c, mean) in means.into_iter().enumerate() {
            let plane = (0..height).flat_map(|y| (0..width).map(move |x| pixel(n, y, x, c)));
            values.extend(plane.map(|pixel: f32| pixel - mean));
        }
    }
    Tensor::from_data(TensorData::new(values, [2, 3, height, width]), &Device::flex())
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
    gradients_agree(1e-4, &tail, names, &gradients, &golden["gradients"]);
}
