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
    /// `None` once it is folded into the convolution.
    norm: Option<BatchNorm>,
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
        Ok(Self { conv, norm: Some(norm), relu6: shape.relu6 })
    }

    /// Shape: `[n, n_in, h, w]` → `[n, n_out, ⌈h / stride⌉, ⌈w / stride⌉]`.
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let output = if self.is_pointwise() && input.device().is_autodiff() {
            self.forward_as_product(input)
        } else {
            self.conv.forward(input)
        };
        let output = match &self.norm {
            Some(norm) => norm.forward(output),
            None => output,
        };
        if self.relu6 { output.clamp(0.0, 6.0) } else { output }
    }

    fn is_pointwise(&self) -> bool {
        self.conv.kernel_size == [1, 1] && self.conv.stride == [1, 1] && self.conv.groups == 1
    }

    /// A pointwise convolution as one matrix product over all pixels of the batch.
    ///
    /// burn's gradient of a convolution's kernel is itself a convolution with a kernel as large as the map, which here
    /// would be thousands of thin products; the gradients of a product are two products as large as itself.
    fn forward_as_product(&self, input: Tensor<4>) -> Tensor<4> {
        let [n, n_in, h, w] = input.dims();
        let [n_out, ..] = self.conv.weight.dims();
        let pixels = input.permute([0, 2, 3, 1]).reshape([n * h * w, n_in]);
        let kernel = self.conv.weight.val().reshape([n_out, n_in]).transpose();
        pixels.matmul(kernel).reshape([n, h, w, n_out]).permute([0, 3, 1, 2])
    }

    /// Keeps the norm in inference mode, its scale and shift untrained.
    pub fn with_frozen_norm(mut self) -> Self {
        self.norm = self.norm.map(Module::freeze);
        self
    }

    /// The same function in inference mode with the norm as part of the kernel and a bias: fewer passes over the output.
    fn folded(mut self) -> Self {
        let Some(norm) = self.norm.take() else { return self };
        let deviation = norm.running_var.value_sync().add_scalar(norm.epsilon).sqrt();
        let scale = norm.gamma.val() / deviation;
        let bias = norm.beta.val() - norm.running_mean.value_sync() * scale.clone();
        let [n_out] = scale.dims();
        self.conv.weight = Param::from_tensor(self.conv.weight.val() * scale.reshape([n_out, 1, 1, 1]));
        self.conv.bias = Some(Param::from_tensor(bias));
        self
    }

    /// Its tensors by stored name: kernel, scale, shift, running mean, running variance; kernel and shift once folded.
    fn tensors(&self, shape: &ConvShape) -> Vec<(String, TensorData)> {
        let [kernel, scale, shift, mean, variance] = shape.tensors().map(|address| address.name);
        let mut tensors = vec![(kernel, self.conv.weight.val().into_data())];
        if let Some(norm) = &self.norm {
            tensors.extend([
                (scale, norm.gamma.val().into_data()),
                (shift, norm.beta.val().into_data()),
                (mean, norm.running_mean.value_sync().into_data()),
                (variance, norm.running_var.value_sync().into_data()),
            ]);
        } else if let Some(bias) = &self.conv.bias {
            tensors.push((shift, bias.val().into_data()));
        }
        tensors
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

    /// The same function in inference mode, its norms folded into its convolutions.
    pub fn folded(mut self) -> Self {
        self.convs = self.convs.into_iter().map(ConvNorm::folded).collect();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::efficientnet_lite::lite0;
    use crate::models::parameters::RandomParameters;

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

    /// burn's own convolution is the reference.
    #[test]
    fn a_pointwise_convolution_and_its_gradients_are_a_matrix_product() {
        let shape = lite0().convs().find(|conv| conv.name == "blocks.1.0.conv_pwl").unwrap().clone();
        let device = Device::flex().autodiff();
        let conv = ConvNorm::new(&shape, &RandomParameters { seed: 1 }, &device).unwrap();
        let run = |forward: &dyn Fn(Tensor<4>) -> Tensor<4>| {
            let input = input([2, shape.n_in, 3, 5]);
            let output = forward(input.clone());
            let gradients = (output.clone() * output.clone()).sum().backward();
            let kernel = conv.conv.weight.val().grad(&gradients).unwrap();
            [values(output), values(input.grad(&gradients).unwrap()), values(kernel)]
        };
        let product = run(&|input| conv.forward_as_product(input));
        let convolution = run(&|input| conv.conv.forward(input));
        for (product, convolution) in product.iter().zip(&convolution) {
            close(product, convolution);
        }
    }

    #[test]
    fn folding_the_norms_changes_nothing_but_the_rounding() {
        let device = Device::flex();
        let unit = Unit::new(&lite0().units[0], &RandomParameters { seed: 1 }, &device).unwrap();
        let image = input([1, 3, 9, 8]).inner();
        close(&values(unit.clone().folded().forward(image.clone())), &values(unit.forward(image)));
    }
}
