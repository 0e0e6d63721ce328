//! Where the numbers in a network come from.

use burn::module::{Param, ParamId};
use burn::tensor::{Device, Tensor, TensorData};

use crate::run::draw::{Address, Draws, Purpose};

/// What a tensor is for, which decides its initial values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The kernel of a convolution or of a dense layer; a convolution's fans count the pixels under its kernel.
    Kernel {
        fan_in: usize,
        fan_out: usize,
        initial: Initial,
    },
    Bias,
    NormScale,
    NormShift,
    RunningMean,
    RunningVariance,
}

/// How a kernel is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Initial {
    /// Normal with variance `2 / fan_out`, as EfficientNet's reference code draws its kernels.
    FanOutNormal,
    /// Uniform in `±√(6 / (fan_in + fan_out))`, Keras' default. Source: Glorot and Bengio 2010.
    GlorotUniform,
}

/// A tensor by its names, its shape and what it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorAddress {
    /// As it is called here: `block1_conv1.weight`.
    pub name: String,
    /// As PyTorch's files call it: `features.0.weight`.
    pub torch: String,
    /// As Keras' files call it, layer and variable: `block1_conv1/kernel`.
    pub keras: String,
    /// Convolutions `[n_out, n_in / groups, height, width]`, dense kernels `[n_in, units]`.
    pub shape: Vec<usize>,
    pub role: Role,
    pub axes: Axes,
}

/// What a tensor's axes mean, which others order in other ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axes {
    Vector,
    Convolution,
    Depthwise,
    /// A dense kernel; where it follows a flattened map, that map's channels, height and width.
    Dense {
        flattened: Option<[usize; 3]>,
    },
}

impl TensorAddress {
    pub fn n_values(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Why a tensor cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ParametersError {
    #[error("the weights have no tensor {name}")]
    Missing { name: String },
    #[error("the weights' tensor {name} has shape {found:?}, expected {expected:?}")]
    Shape { name: String, found: Vec<usize>, expected: Vec<usize> },
    #[error("the weights' tensor {name} holds {dtype} values, which are not read")]
    Type { name: String, dtype: String },
    #[error("the weights cannot be read: {0}")]
    Unreadable(String),
}

/// A source of tensors: pretrained weights, or a rule that draws them.
pub trait Parameters {
    /// The values in row-major order.
    fn values(&self, address: &TensorAddress) -> Result<Vec<f32>, ParametersError>;

    /// Identifies the source by content.
    fn hash(&self) -> String;
}

/// Draws every tensor by name, so that one tensor's values depend on no other's.
///
/// Kernels as their [`Initial`] says; scales and variances are 1, biases, shifts and means 0.
#[derive(Clone, Copy, Debug)]
pub struct RandomParameters {
    pub seed: u64,
}

impl Parameters for RandomParameters {
    fn values(&self, address: &TensorAddress) -> Result<Vec<f32>, ParametersError> {
        let at = Address { seed: self.seed, epoch: 0, sample: 0, purpose: Purpose::Weights, name: &address.name };
        let mut draws = Draws::at(at);
        let n_values = address.n_values();
        Ok(match address.role {
            Role::Kernel { fan_out, initial: Initial::FanOutNormal, .. } => {
                let deviation = (2.0 / fan_out as f64).sqrt();
                (0..n_values).map(|_| (deviation * draws.normal()) as f32).collect()
            }
            Role::Kernel { fan_in, fan_out, initial: Initial::GlorotUniform } => {
                let limit = (6.0 / (fan_in + fan_out) as f64).sqrt();
                (0..n_values).map(|_| (limit * (2.0 * draws.unit() - 1.0)) as f32).collect()
            }
            Role::NormScale | Role::RunningVariance => vec![1.0; n_values],
            Role::Bias | Role::NormShift | Role::RunningMean => vec![0.0; n_values],
        })
    }

    fn hash(&self) -> String {
        // The seed is a parameter of the run already; the rule's version is what else decides the values.
        "random-1".to_owned()
    }
}

/// A parameter with the values that `parameters` has for it.
pub(crate) fn param<const D: usize>(
    address: &TensorAddress,
    parameters: &dyn Parameters,
    device: &Device,
) -> Result<Param<Tensor<D>>, ParametersError> {
    let tensor = tensor(address, parameters, device)?;
    let tensor = if device.is_autodiff() { tensor.require_grad() } else { tensor };
    Ok(Param::initialized(param_id(&address.name), tensor))
}

/// What burn knows a parameter by. It comes from the tensor's name, so that an optimizer's state finds it in a network
/// that is cut elsewhere.
pub(crate) fn param_id(name: &str) -> ParamId {
    ParamId::from(xxhash_rust::xxh3::xxh3_64(name.as_bytes()))
}

/// A tensor with the values that `parameters` has for it.
pub(crate) fn tensor<const D: usize>(
    address: &TensorAddress,
    parameters: &dyn Parameters,
    device: &Device,
) -> Result<Tensor<D>, ParametersError> {
    let data = TensorData::new(parameters.values(address)?, address.shape.clone());
    Ok(Tensor::from_data(data, device))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::operation::Names;

    fn draw(role: Role, shape: &[usize]) -> Vec<f32> {
        let address = Names::torch("a").tensor(role, Axes::Vector, shape.to_vec());
        RandomParameters { seed: 1 }.values(&address).unwrap()
    }

    #[test]
    fn normal_kernels_have_the_variance_of_their_fan_out() {
        let values = draw(Role::Kernel { fan_in: 9, fan_out: 50, initial: Initial::FanOutNormal }, &[100, 100, 3, 3]);
        let variance = values.iter().map(|x| f64::from(x * x)).sum::<f64>() / values.len() as f64;
        assert!((variance - 0.04).abs() < 0.0005, "{variance}");
    }

    #[test]
    fn uniform_kernels_stay_within_glorots_limit() {
        // The limit is NumPy's, from tests/fixtures/make_loss_golden.py.
        let golden: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/fixtures/loss_golden.json")).unwrap();
        let case = &golden["glorot_uniform"][0];
        let (fan_in, fan_out) = (case["fan_in"].as_u64().unwrap() as usize, case["fan_out"].as_u64().unwrap() as usize);
        let limit = case["limit"].as_f64().unwrap() as f32;
        let role = Role::Kernel { fan_in, fan_out, initial: Initial::GlorotUniform };
        let values = draw(role, &[fan_in, fan_out]);
        let largest = values.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
        assert!(largest <= limit && largest > 0.99 * limit, "{largest} {limit}");
    }
}
