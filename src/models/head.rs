//! What stands on a backbone: pooling, dropout and dense layers, ending in logits.

use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::tensor::{Device, Tensor, TensorData, activation};

use crate::models::dropout::{DropoutAddress, mask};
use crate::models::operation::Names;
use crate::models::parameters::{Axes, Initial, Parameters, ParametersError, Role, TensorAddress, param};
use crate::models::trained_linear;
use crate::spec::schema::Loss;
use crate::spec::schema::model::{Activation, Dense, HeadLayer};

/// A head that fits its backbone and its classes.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadPlan {
    pub layers: Vec<HeadLayer>,
    /// The loss that belongs to its output.
    pub loss: Loss,
    /// Each dense layer, in order.
    pub dense: Vec<DenseShape>,
}

/// A dense layer by name and shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DenseShape {
    pub names: Names,
    pub n_in: usize,
    pub units: usize,
    /// The map that was flattened into its inputs: channels, height and width.
    pub flattened: Option<[usize; 3]>,
}

/// 1 GiB of weights.
const MAX_HEAD_WEIGHTS: usize = 1 << 28;

/// One thing that does not fit, and the layer it is about: an index into the head's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadProblem {
    pub layer: usize,
    pub message: String,
    pub hint: String,
}

/// The head that a spec leaves out: global average pool, then softmax over the classes.
pub fn default_layers(n_classes: usize) -> Vec<HeadLayer> {
    let units = u32::try_from(n_classes).unwrap_or(u32::MAX);
    vec![HeadLayer::GlobalAveragePool, HeadLayer::Dense(Dense { units, activation: Activation::Softmax })]
}

/// Checks a head against the classes and the backbone's output `[channels, height, width]`.
pub fn plan(layers: &[HeadLayer], n_classes: usize, output_chw: [usize; 3]) -> Result<HeadPlan, Vec<HeadProblem>> {
    let mut problems = Vec::new();
    let mut problem = |layer: usize, message: String, hint: &str| {
        problems.push(HeadProblem { layer, message, hint: hint.to_owned() });
    };
    let last = layers.len() - 1;
    let mut n_features = None;
    let mut flattened = None;
    let mut dense = Vec::new();
    for (i, layer) in layers.iter().enumerate() {
        match layer {
            HeadLayer::GlobalAveragePool | HeadLayer::Flatten if n_features.is_some() => {
                problem(i, "the features are a vector already".into(), "pool or flatten once, before any dense layer");
            }
            HeadLayer::GlobalAveragePool => n_features = Some(output_chw[0]),
            HeadLayer::Flatten => {
                n_features = Some(output_chw.iter().product());
                flattened = Some(output_chw);
            }
            HeadLayer::Dropout(_) => {}
            HeadLayer::Dense(layer) => {
                if n_features.is_none() {
                    problem(
                        i,
                        "the features are still a map".into(),
                        "put `global_average_pool` or `flatten` before it",
                    );
                }
                if i != last && layer.activation != Activation::Relu {
                    problem(i, "softmax and sigmoid belong to the last layer".into(), "use `activation: relu` here");
                }
                let (names, units) = (Names::torch(format!("head.{i}")), layer.units as usize);
                dense.push(DenseShape { names, n_in: n_features.unwrap_or(1), units, flattened: flattened.take() });
                n_features = Some(units);
            }
        }
    }
    let loss = match output_problem(&layers[last], n_classes) {
        Ok(loss) => loss,
        Err((message, hint)) => {
            problem(last, message, &hint);
            Loss::CrossEntropy
        }
    };
    if let Some(problem) = too_large(&dense, last) {
        problems.push(problem);
    }
    if problems.is_empty() { Ok(HeadPlan { layers: layers.to_vec(), loss, dense }) } else { Err(problems) }
}

/// A head whose weights alone would not fit in most memories: Adam keeps three numbers for each.
fn too_large(dense: &[DenseShape], layer: usize) -> Option<HeadProblem> {
    let n_weights = dense.iter().try_fold(0_usize, |sum, layer| sum.checked_add(layer.n_in.checked_mul(layer.units)?));
    if n_weights.is_some_and(|n_weights| n_weights <= MAX_HEAD_WEIGHTS) {
        return None;
    }
    let found = n_weights.map_or_else(|| "too many to count".to_owned(), |n_weights| n_weights.to_string());
    Some(HeadProblem {
        layer,
        message: format!("the head's weights are {found}, more than {MAX_HEAD_WEIGHTS}"),
        hint: "use fewer units, or `global_average_pool` in place of `flatten`".to_owned(),
    })
}

/// The loss of an output layer, or what keeps it from being one for so many classes.
fn output_problem(layer: &HeadLayer, n_classes: usize) -> Result<Loss, (String, String)> {
    let softmax_hint = format!("end the head with `dense: {{ units: {n_classes}, activation: softmax }}`");
    let HeadLayer::Dense(Dense { units, activation }) = layer else {
        return Err(("the last layer is not a dense one".into(), softmax_hint));
    };
    match (activation, *units as usize) {
        (Activation::Softmax, 1) => {
            Err(("softmax over one unit is always 1".into(), "use `activation: sigmoid` for two classes".into()))
        }
        (Activation::Softmax, units) if units == n_classes => Ok(Loss::CrossEntropy),
        (Activation::Softmax, units) => {
            Err((format!("{units} units for {n_classes} classes"), format!("use `units: {n_classes}`")))
        }
        (Activation::Sigmoid, 1) if n_classes == 2 => Ok(Loss::BinaryCrossEntropy),
        (Activation::Sigmoid, 1) => Err((format!("one sigmoid unit for {n_classes} classes"), softmax_hint)),
        (Activation::Sigmoid, units) => Err((
            format!("{units} sigmoid units"),
            format!("one sigmoid unit tells two classes apart; else {softmax_hint}"),
        )),
        (Activation::Relu, _) => Err(("relu cannot be the last activation".into(), softmax_hint)),
    }
}

/// The head as tensors.
#[derive(Module, Debug)]
pub struct Head {
    dense: Vec<Linear>,
    #[module(skip)]
    layers: Vec<HeadLayer>,
}

impl Head {
    /// Draws or reads the dense layers, named as the plan says: `head.<n>.weight` and `head.<n>.bias` by their place in a
    /// spec's list.
    pub fn new(plan: &HeadPlan, parameters: &dyn Parameters, device: &Device) -> Result<Self, ParametersError> {
        let mut dense = Vec::new();
        for [kernel, bias] in dense_tensors(plan) {
            let weight: Param<Tensor<2>> = param(&kernel, parameters, device)?;
            dense.push(Linear { weight, bias: Some(param(&bias, parameters, device)?) });
        }
        Ok(Self { dense, layers: plan.layers.clone() })
    }

    /// Logits; dropout is off without an address.
    ///
    /// Shape: `[n, c, h, w]` → `[n, units of the last layer]`.
    pub fn forward(&self, map: Tensor<4>, dropout: Option<DropoutAddress<'_>>) -> Tensor<2> {
        let mut features = Features::Map(map);
        let mut dense = self.dense.iter();
        for (i, layer) in self.layers.iter().enumerate() {
            features = match layer {
                HeadLayer::GlobalAveragePool => Features::Vector(features.pooled()),
                HeadLayer::Flatten => Features::Vector(features.flat()),
                HeadLayer::Dropout(rate) => match dropout {
                    Some(address) => features.dropped(address, &format!("head.{i}"), *rate),
                    None => features,
                },
                HeadLayer::Dense(layer) => {
                    let weights = dense.next().expect("a plan has a shape for every dense layer");
                    let output = trained_linear::linear(weights, features.flat());
                    Features::Vector(if layer.activation == Activation::Relu {
                        activation::relu(output)
                    } else {
                        output
                    })
                }
            };
        }
        features.flat()
    }

    /// Its tensors by name.
    pub fn tensors(&self, plan: &HeadPlan) -> Vec<(String, TensorData)> {
        let values = |linear: &Linear| {
            let bias = linear.bias.as_ref().expect("every dense layer has a bias");
            [linear.weight.val().into_data(), bias.val().into_data()]
        };
        let names = dense_tensors(plan).into_iter().flatten().map(|address| address.name);
        names.zip(self.dense.iter().flat_map(values)).collect()
    }
}

/// The tensors of each dense layer: kernel `[n_in, units]`, bias `[units]`.
pub fn dense_tensors(plan: &HeadPlan) -> Vec<[TensorAddress; 2]> {
    plan.dense.iter().map(DenseShape::tensors).collect()
}

impl DenseShape {
    /// Its kernel and its bias.
    pub fn tensors(&self) -> [TensorAddress; 2] {
        let Self { names, n_in, units, flattened } = self;
        let role = Role::Kernel { fan_in: *n_in, fan_out: *units, initial: Initial::GlorotUniform };
        [
            names.tensor(role, Axes::Dense { flattened: *flattened }, vec![*n_in, *units]),
            names.tensor(Role::Bias, Axes::Vector, vec![*units]),
        ]
    }
}

/// A batch on its way through the head.
enum Features {
    Map(Tensor<4>),
    Vector(Tensor<2>),
}

impl Features {
    /// Averages over height and width. Source: Lin et al. 2014, section 3.2.
    fn pooled(self) -> Tensor<2> {
        match self {
            Self::Map(map) => {
                let [n, c, _, _] = map.dims();
                map.mean_dim(3).mean_dim(2).reshape([n, c])
            }
            Self::Vector(vector) => vector,
        }
    }

    /// Row-major over channels, height and width.
    fn flat(self) -> Tensor<2> {
        match self {
            Self::Map(map) => map.flatten(1, 3),
            Self::Vector(vector) => vector,
        }
    }

    fn dropped(self, address: DropoutAddress<'_>, layer: &str, rate: f64) -> Self {
        match self {
            Self::Map(map) => {
                let [_, c, h, w] = map.dims();
                let mask = mask(address, layer, rate, c * h * w, &map.device());
                let shape = map.dims();
                Self::Map(map * mask.reshape(shape))
            }
            Self::Vector(vector) => {
                let mask = mask(address, layer, rate, vector.dims()[1], &vector.device());
                Self::Vector(vector * mask)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dense(units: u32, activation: Activation) -> HeadLayer {
        HeadLayer::Dense(Dense { units, activation })
    }

    fn messages(layers: &[HeadLayer], n_classes: usize) -> Vec<(usize, String)> {
        plan(layers, n_classes, [1280, 3, 3]).unwrap_err().into_iter().map(|p| (p.layer, p.message)).collect()
    }

    #[test]
    fn a_head_that_fits_knows_its_shapes_and_its_loss() {
        let layers =
            [HeadLayer::Flatten, dense(256, Activation::Relu), HeadLayer::Dropout(0.5), dense(1, Activation::Sigmoid)];
        let plan = plan(&layers, 2, [512, 4, 4]).unwrap();
        let shapes = plan.dense.iter().map(|layer| (layer.n_in, layer.units, layer.flattened));
        assert_eq!(shapes.collect::<Vec<_>>(), [(8192, 256, Some([512, 4, 4])), (256, 1, None)]);
        assert_eq!(plan.loss, Loss::BinaryCrossEntropy);
        let names: Vec<String> = dense_tensors(&plan).into_iter().flatten().map(|tensor| tensor.name).collect();
        assert_eq!(names, ["head.1.weight", "head.1.bias", "head.3.weight", "head.3.bias"]);
    }

    #[test]
    fn what_does_not_fit_is_named_with_its_layer() {
        use Activation::{Relu, Sigmoid, Softmax};
        let pool = HeadLayer::GlobalAveragePool;
        assert_eq!(messages(&[pool.clone(), dense(1, Sigmoid)], 10), [(1, "one sigmoid unit for 10 classes".into())]);
        assert_eq!(messages(&[pool.clone(), dense(9, Softmax)], 10), [(1, "9 units for 10 classes".into())]);
        assert_eq!(messages(&[pool.clone(), dense(1, Softmax)], 2), [(1, "softmax over one unit is always 1".into())]);
        assert_eq!(messages(&[dense(2, Softmax)], 2), [(0, "the features are still a map".into())]);
        assert_eq!(
            messages(&[pool.clone(), pool.clone(), dense(2, Softmax)], 2),
            [(1, "the features are a vector already".into())]
        );
        assert_eq!(messages(&[pool.clone(), dense(2, Relu)], 2), [(1, "relu cannot be the last activation".into())]);
        assert_eq!(messages(&[pool], 2), [(0, "the last layer is not a dense one".into())]);
    }

    #[test]
    fn the_default_head_fits() {
        assert_eq!(plan(&default_layers(10), 10, [1280, 3, 3]).unwrap().loss, Loss::CrossEntropy);
    }
}
