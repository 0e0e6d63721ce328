//! One operation of a network as tensors.

use burn::module::{Module, Param, RunningState};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, PaddingConfig2d};
use burn::tensor::ops::PadMode;
use burn::tensor::{Device, Tensor, TensorData, activation};

use crate::models::operation::{Activation, ConvShape, NormShape, Operation, PadShape, Padding};
use crate::models::parameters::{Parameters, ParametersError, param, tensor};
use crate::models::{trained_activation, trained_convolution};

/// A node; what it holds decides what it does.
#[derive(Module, Debug)]
pub struct Node {
    conv: Option<Conv2d>,
    norm: Option<BatchNorm>,
    pool: Option<MaxPool2d>,
    #[module(skip)]
    plain: Plain,
}

/// What needs no tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plain {
    Nothing,
    Activation(Activation),
    Pad(PadShape),
    Add,
}

impl Node {
    /// Reads its tensors from `parameters`.
    pub fn new(operation: &Operation, parameters: &dyn Parameters, device: &Device) -> Result<Self, ParametersError> {
        let mut node = Self { conv: None, norm: None, pool: None, plain: Plain::Nothing };
        match operation {
            Operation::Conv(shape) => node.conv = Some(conv(shape, parameters, device)?),
            Operation::Norm(shape) => node.norm = Some(norm(shape, parameters, device)?),
            Operation::MaxPool(pool) => {
                node.pool = Some(MaxPool2dConfig::new([pool.window; 2]).with_strides([pool.stride; 2]).init());
            }
            Operation::Activation(activation) => node.plain = Plain::Activation(*activation),
            Operation::Pad(pad) => node.plain = Plain::Pad(*pad),
            Operation::Add => node.plain = Plain::Add,
        }
        Ok(node)
    }

    /// Shape: `[n, c, h, w]` each → as [`Operation::output_chw`] says.
    pub fn forward(&self, mut inputs: impl Iterator<Item = Tensor<4>>) -> Tensor<4> {
        let input = inputs.next().expect("every node has an input");
        if let Some(conv) = &self.conv {
            return convolved(conv, input);
        }
        if let Some(norm) = &self.norm {
            return norm.forward(input);
        }
        if let Some(pool) = &self.pool {
            return pool.forward(input);
        }
        match self.plain {
            Plain::Nothing => input,
            Plain::Activation(Activation::Relu) => activation::relu(input),
            Plain::Activation(Activation::Relu6) => trained_activation::relu6(input),
            Plain::Pad(pad) => {
                let [.., height, width] = input.dims();
                input.pad([pad.amounts(height), pad.amounts(width)], PadMode::Constant(0.0))
            }
            Plain::Add => input + inputs.next().expect("a sum has two inputs"),
        }
    }

    /// A convolution and its norm at once, where that is possible on `input`'s device and the norm does not train.
    pub fn forward_normed(&self, norm: &Self, input: &Tensor<4>) -> Option<Tensor<4>> {
        let (conv, norm) = (self.conv.as_ref()?, norm.norm.as_ref()?);
        let is_fixed = !input.device().is_autodiff() || !norm.training.is_enabled();
        is_fixed.then(|| trained_convolution::convolved_and_normed(conv, norm, input)).flatten()
    }

    pub fn is_conv(&self) -> bool {
        self.conv.is_some()
    }

    /// Takes its norm away where it has one and may lose it: what is left does nothing.
    pub fn take_norm_if(&mut self, may: bool) -> Option<BatchNorm> {
        if may { self.norm.take() } else { None }
    }

    /// Makes a norm in inference mode part of its kernel and bias: fewer passes over the output.
    pub fn fold(&mut self, norm: &BatchNorm) {
        let conv = self.conv.as_mut().expect("only convolutions are folded into");
        let deviation = norm.running_var.value_sync().add_scalar(norm.epsilon).sqrt();
        let scale = norm.gamma.val() / deviation;
        let mean = norm.running_mean.value_sync();
        let mean = match &conv.bias {
            Some(bias) => mean - bias.val(),
            None => mean,
        };
        let bias = norm.beta.val() - mean * scale.clone();
        let [n_out] = scale.dims();
        conv.weight = Param::from_tensor(conv.weight.val() * scale.reshape([n_out, 1, 1, 1]));
        conv.bias = Some(Param::from_tensor(bias));
    }

    /// Its tensors by name; of a convolution that took a norm in, the bias too.
    pub fn tensors(&self, operation: &Operation) -> Vec<(String, TensorData)> {
        match (operation, &self.conv, &self.norm) {
            (Operation::Conv(shape), Some(conv), _) => {
                let kernel = (shape.kernel().name, conv.weight.val().into_data());
                let bias = conv.bias.as_ref().map(|bias| (shape.bias_name(), bias.val().into_data()));
                std::iter::once(kernel).chain(bias).collect()
            }
            (Operation::Norm(shape), _, Some(norm)) => {
                let values = [
                    norm.gamma.val().into_data(),
                    norm.beta.val().into_data(),
                    norm.running_mean.value_sync().into_data(),
                    norm.running_var.value_sync().into_data(),
                ];
                shape.tensors().map(|address| address.name).into_iter().zip(values).collect()
            }
            _ => Vec::new(),
        }
    }
}

fn conv(shape: &ConvShape, parameters: &dyn Parameters, device: &Device) -> Result<Conv2d, ParametersError> {
    let side = (shape.kernel - 1) / 2;
    let padding = match shape.padding {
        Padding::Same => PaddingConfig2d::Same,
        Padding::Symmetric => PaddingConfig2d::Explicit(side, side, side, side),
        Padding::Valid => PaddingConfig2d::Valid,
    };
    let config = Conv2dConfig::new([shape.n_in, shape.n_out], [shape.kernel; 2])
        .with_stride([shape.stride; 2])
        .with_groups(if shape.depthwise { shape.n_in } else { 1 })
        .with_padding(padding)
        .with_bias(false);
    let mut conv = config.init(device);
    conv.weight = param(&shape.kernel(), parameters, device)?;
    conv.bias = shape.bias().map(|bias| param(&bias, parameters, device)).transpose()?;
    Ok(conv)
}

fn norm(shape: &NormShape, parameters: &dyn Parameters, device: &Device) -> Result<BatchNorm, ParametersError> {
    let [scale, shift, mean, variance] = shape.tensors();
    let config = BatchNormConfig::new(shape.n_channels).with_epsilon(shape.epsilon).with_momentum(shape.momentum);
    let mut norm = config.init(device);
    norm.gamma = param(&scale, parameters, device)?;
    norm.beta = param(&shift, parameters, device)?;
    norm.running_mean = RunningState::new(tensor(&mean, parameters, &device.clone().inner())?);
    norm.running_var = RunningState::new(tensor(&variance, parameters, &device.clone().inner())?);
    Ok(norm)
}

/// Shape: `[n, n_in, h, w]` → `[n, n_out, h', w']`.
fn convolved(conv: &Conv2d, input: Tensor<4>) -> Tensor<4> {
    match (trained_convolution::convolved(conv, &input), &conv.bias) {
        (Some(output), _) => output,
        // burn's kernels for depthwise convolutions on a GPU are those without a bias.
        (None, Some(bias)) if conv.groups > 1 => {
            let conv = Conv2d { bias: None, ..conv.clone() };
            let [n_out, ..] = conv.weight.dims();
            conv.forward(input) + bias.val().reshape([1, n_out, 1, 1])
        }
        (None, _) => conv.forward(input),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::operation::Names;
    use crate::models::parameters::{Initial, Role, TensorAddress};

    /// Values that differ from each other; variances are positive.
    pub struct Varied;

    impl Parameters for Varied {
        fn values(&self, address: &TensorAddress) -> Result<Vec<f32>, ParametersError> {
            let start = if address.role == Role::RunningVariance { 0.3 } else { -0.5 };
            Ok((0..address.n_values()).map(|i| start + (7 * i % 29) as f32 / 29.0).collect())
        }

        fn hash(&self) -> String {
            String::new()
        }
    }

    fn shape(kernel: usize, bias: bool) -> ConvShape {
        ConvShape {
            names: Names::torch("conv"),
            n_in: 6,
            n_out: 4,
            kernel,
            stride: 1,
            padding: Padding::Same,
            depthwise: false,
            bias,
            initial: Initial::GlorotUniform,
        }
    }

    fn input(shape: [usize; 4]) -> Tensor<4> {
        let values: Vec<f32> = (0..shape.iter().product()).map(|i: usize| (i % 23) as f32 / 23.0 - 0.4).collect();
        Tensor::from_data(TensorData::new(values, shape), &Device::flex().autodiff()).require_grad()
    }

    fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.try_into_vec_as().unwrap()
    }

    fn close(found: &[f32], expected: &[f32]) {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() <= 1e-4 * expected.abs().max(1.0), "{found} {expected}");
        }
    }

    #[test]
    fn folding_a_norm_changes_nothing_but_the_rounding() {
        let device = Device::flex();
        let names = Names::torch("norm");
        let norm_shape = Operation::Norm(NormShape { names, n_channels: 4, epsilon: 1e-3, momentum: 0.01 });
        for bias in [false, true] {
            let conv_shape = Operation::Conv(shape(3, bias));
            let mut conv = Node::new(&conv_shape, &Varied, &device).unwrap();
            let mut norm = Node::new(&norm_shape, &Varied, &device).unwrap();
            let image = input([1, 6, 9, 8]).inner();
            let run = |conv: &Node, norm: &Node| {
                let output = conv.forward(std::iter::once(image.clone()));
                values(norm.forward(std::iter::once(output)))
            };
            let before = run(&conv, &norm);
            let names = |node: &Node, shape| node.tensors(shape).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
            assert_eq!(
                names(&norm, &norm_shape),
                ["norm.weight", "norm.bias", "norm.running_mean", "norm.running_var"]
            );
            conv.fold(&norm.take_norm_if(true).unwrap());
            close(&run(&conv, &norm), &before);
            assert_eq!(names(&conv, &conv_shape), ["conv.weight", "conv.bias"]);
            assert_eq!(names(&norm, &norm_shape), [""; 0]);
        }
    }
}
