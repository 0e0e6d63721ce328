//! Convolutions with their norms as tensors, and the units they make up.

use burn::module::{Module, Param, RunningState};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, PaddingConfig2d};
use burn::tensor::{Device, Tensor, TensorData};

use crate::models::layout::{ConvShape, UnitShape};
use crate::models::parameters::{Parameters, ParametersError, TensorAddress};

/// EfficientNet's batch-norm epsilon, as TensorFlow's code sets it.
const NORM_EPSILON: f64 = 1e-3;

/// Share of a new batch in the running statistics: TensorFlow's momentum of 0.99 the other way round.
const NORM_MOMENTUM: f64 = 0.01;

/// A convolution without bias, its batch norm and, where the shape says so, ReLU6.
#[derive(Module, Debug)]
pub struct ConvNorm {
    conv: Conv2d,
    norm: BatchNorm,
    relu6: bool,
}

impl ConvNorm {
    /// Reads its five tensors from `parameters`.
    pub fn new(shape: &ConvShape, parameters: &dyn Parameters, device: &Device) -> Result<Self, ParametersError> {
        let [kernel, scale, shift, mean, variance] = shape.tensors();
        let config = Conv2dConfig::new([shape.n_in, shape.n_out], [shape.kernel; 2])
            .with_stride([shape.stride; 2])
            .with_groups(if shape.depthwise { shape.n_in } else { 1 })
            .with_padding(PaddingConfig2d::Same)
            .with_bias(false);
        let mut conv = config.init(device);
        conv.weight = param(&kernel, parameters, device)?;
        let config = BatchNormConfig::new(shape.n_out).with_epsilon(NORM_EPSILON).with_momentum(NORM_MOMENTUM);
        let mut norm = config.init(device);
        norm.gamma = param(&scale, parameters, device)?;
        norm.beta = param(&shift, parameters, device)?;
        norm.running_mean = RunningState::new(tensor(&mean, parameters, &device.clone().inner())?);
        norm.running_var = RunningState::new(tensor(&variance, parameters, &device.clone().inner())?);
        Ok(Self { conv, norm, relu6: shape.relu6 })
    }

    /// Shape: `[n, n_in, h, w]` → `[n, n_out, ⌈h / stride⌉, ⌈w / stride⌉]`.
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let output = self.norm.forward(self.conv.forward(input));
        if self.relu6 { output.clamp(0.0, 6.0) } else { output }
    }

    /// Keeps the norm in inference mode, its scale and shift untrained.
    pub fn with_frozen_norm(mut self) -> Self {
        self.norm = self.norm.freeze();
        self
    }

    /// Its tensors by stored name: kernel, scale, shift, running mean, running variance.
    fn tensors(&self, shape: &ConvShape) -> Vec<(String, TensorData)> {
        let [kernel, scale, shift, mean, variance] = shape.tensors().map(|address| address.name);
        vec![
            (kernel, self.conv.weight.val().into_data()),
            (scale, self.norm.gamma.val().into_data()),
            (shift, self.norm.beta.val().into_data()),
            (mean, self.norm.running_mean.value_sync().into_data()),
            (variance, self.norm.running_var.value_sync().into_data()),
        ]
    }
}

/// One convolution, or a block whose input is added to its output.
#[derive(Module, Debug)]
pub struct Unit {
    convs: Vec<ConvNorm>,
    residual: bool,
}

impl Unit {
    pub fn new(shape: &UnitShape, parameters: &dyn Parameters, device: &Device) -> Result<Self, ParametersError> {
        let convs = shape.convs.iter().map(|conv| ConvNorm::new(conv, parameters, device));
        Ok(Self { convs: convs.collect::<Result<_, _>>()?, residual: shape.residual })
    }

    /// Shape: `[n, c, h, w]` → the last convolution's.
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let output = self.convs.iter().fold(input.clone(), |x, conv| conv.forward(x));
        if self.residual { output + input } else { output }
    }

    /// Freezes its first `n_convs` convolutions whole, and the norms of the others when asked.
    pub fn frozen(mut self, n_convs: usize, norms: Norms) -> Self {
        let freeze = |(i, conv): (usize, ConvNorm)| match norms {
            _ if i < n_convs => conv.freeze(),
            Norms::Frozen => conv.with_frozen_norm(),
            Norms::Trained => conv,
        };
        self.convs = self.convs.into_iter().enumerate().map(freeze).collect();
        self
    }

    /// Its tensors by stored name, running statistics included.
    pub fn tensors(&self, shape: &UnitShape) -> Vec<(String, TensorData)> {
        self.convs.iter().zip(&shape.convs).flat_map(|(conv, shape)| conv.tensors(shape)).collect()
    }
}

/// What the norms of trained convolutions do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Norms {
    /// Inference mode, scale and shift untrained.
    Frozen,
    /// Batch statistics, scale and shift trained.
    Trained,
}

/// A parameter with the values that `parameters` has for it.
pub(crate) fn param<const D: usize>(
    address: &TensorAddress,
    parameters: &dyn Parameters,
    device: &Device,
) -> Result<Param<Tensor<D>>, ParametersError> {
    Ok(Param::from_tensor(tensor(address, parameters, device)?))
}

fn tensor<const D: usize>(
    address: &TensorAddress,
    parameters: &dyn Parameters,
    device: &Device,
) -> Result<Tensor<D>, ParametersError> {
    let data = TensorData::new(parameters.values(address)?, address.shape.clone());
    Ok(Tensor::from_data(data, device))
}
