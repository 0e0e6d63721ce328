//! A convolution with its bias, norm and activation, as tensors.

use burn::module::{Module, Param, RunningState};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, PaddingConfig2d};
use burn::tensor::{Device, Tensor, TensorData, activation};

use crate::models::layer::{Activation, ConvShape, NormShape};
use crate::models::parameters::{Parameters, ParametersError, param, tensor};

/// A convolution with what follows it.
#[derive(Module, Debug)]
pub struct Conv {
    conv: Conv2d,
    /// `None` where there is none, and once it is folded into the convolution.
    norm: Option<BatchNorm>,
    #[module(skip)]
    activation: Activation,
}

/// A row's tensors by stored name, those of its norm apart.
#[derive(Debug, Default)]
pub struct LayerTensors {
    /// Kernel and, where there is one, bias.
    pub conv: Vec<(String, TensorData)>,
    /// Scale, shift, running mean, running variance.
    pub norm: Vec<(String, TensorData)>,
}

impl LayerTensors {
    pub fn all(self) -> impl Iterator<Item = (String, TensorData)> {
        self.conv.into_iter().chain(self.norm)
    }
}

impl Conv {
    /// Reads its tensors from `parameters`.
    pub fn new(shape: &ConvShape, parameters: &dyn Parameters, device: &Device) -> Result<Self, ParametersError> {
        let config = Conv2dConfig::new([shape.n_in, shape.n_out], [shape.kernel; 2])
            .with_stride([shape.stride; 2])
            .with_groups(if shape.depthwise { shape.n_in } else { 1 })
            .with_padding(PaddingConfig2d::Same)
            .with_bias(false);
        let mut conv = config.init(device);
        conv.weight = param(&shape.kernel(), parameters, device)?;
        conv.bias = shape.bias().map(|bias| param(&bias, parameters, device)).transpose()?;
        let norm = shape.norm.as_ref().map(|norm| batch_norm(norm, shape.n_out, parameters, device)).transpose()?;
        Ok(Self { conv, norm, activation: shape.activation })
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
        match self.activation {
            Activation::Identity => output,
            Activation::Relu => activation::relu(output),
            Activation::Relu6 => output.clamp(0.0, 6.0),
        }
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
        let output = match &self.conv.bias {
            Some(bias) => pixels.matmul(kernel) + bias.val().unsqueeze_dim(0),
            None => pixels.matmul(kernel),
        };
        output.reshape([n, h, w, n_out]).permute([0, 3, 1, 2])
    }

    /// Keeps the norm in inference mode, its scale and shift untrained.
    pub fn with_frozen_norm(mut self) -> Self {
        self.norm = self.norm.map(Module::freeze);
        self
    }

    /// The same function in inference mode with the norm as part of the kernel and a bias: fewer passes over the output.
    pub fn folded(mut self) -> Self {
        let Some(norm) = self.norm.take() else { return self };
        let deviation = norm.running_var.value_sync().add_scalar(norm.epsilon).sqrt();
        let scale = norm.gamma.val() / deviation;
        let mean = norm.running_mean.value_sync();
        let mean = match &self.conv.bias {
            Some(bias) => mean - bias.val(),
            None => mean,
        };
        let bias = norm.beta.val() - mean * scale.clone();
        let [n_out] = scale.dims();
        self.conv.weight = Param::from_tensor(self.conv.weight.val() * scale.reshape([n_out, 1, 1, 1]));
        self.conv.bias = Some(Param::from_tensor(bias));
        self
    }

    /// Its tensors; a norm that is folded leaves its shift's name to the bias that it became a part of.
    pub fn tensors(&self, shape: &ConvShape) -> LayerTensors {
        let norm_names = shape.norm.as_ref().map(|norm| norm.tensors(shape.n_out).map(|address| address.name));
        let bias_name = shape.bias().map(|address| address.name);
        let (bias_name, norm) = match (norm_names, &self.norm) {
            (Some([scale, shift, mean, variance]), Some(norm)) => {
                let tensors = vec![
                    (scale, norm.gamma.val().into_data()),
                    (shift, norm.beta.val().into_data()),
                    (mean, norm.running_mean.value_sync().into_data()),
                    (variance, norm.running_var.value_sync().into_data()),
                ];
                (bias_name, tensors)
            }
            (Some([_, shift, ..]), None) => (Some(shift), Vec::new()),
            (None, _) => (bias_name, Vec::new()),
        };
        let kernel = (shape.kernel().name, self.conv.weight.val().into_data());
        let bias = self.conv.bias.as_ref().map(|bias| bias.val().into_data());
        LayerTensors { conv: std::iter::once(kernel).chain(bias_name.zip(bias)).collect(), norm }
    }
}

fn batch_norm(
    shape: &NormShape,
    n_channels: usize,
    parameters: &dyn Parameters,
    device: &Device,
) -> Result<BatchNorm, ParametersError> {
    let [scale, shift, mean, variance] = shape.tensors(n_channels);
    let config = BatchNormConfig::new(n_channels).with_epsilon(shape.epsilon).with_momentum(shape.momentum);
    let mut norm = config.init(device);
    norm.gamma = param(&scale, parameters, device)?;
    norm.beta = param(&shift, parameters, device)?;
    norm.running_mean = RunningState::new(tensor(&mean, parameters, &device.clone().inner())?);
    norm.running_var = RunningState::new(tensor(&variance, parameters, &device.clone().inner())?);
    Ok(norm)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::parameters::{Initial, Role, TensorAddress};

    /// Values that differ from each other; variances are positive.
    struct Varied;

    impl Parameters for Varied {
        fn values(&self, address: &TensorAddress) -> Result<Vec<f32>, ParametersError> {
            let start = if address.role == Role::RunningVariance { 0.3 } else { -0.5 };
            Ok((0..address.n_values()).map(|i| start + (7 * i % 29) as f32 / 29.0).collect())
        }

        fn hash(&self) -> String {
            String::new()
        }
    }

    fn shape(kernel: usize, bias: bool, norm: bool) -> ConvShape {
        ConvShape {
            name: "conv".into(),
            n_in: 6,
            n_out: 4,
            kernel,
            stride: 1,
            depthwise: false,
            bias,
            norm: norm.then(|| NormShape { name: "norm".into(), epsilon: 1e-3, momentum: 0.01 }),
            activation: Activation::Relu,
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

    /// burn's own convolution is the reference.
    #[test]
    fn a_pointwise_convolution_and_its_gradients_are_a_matrix_product() {
        for bias in [false, true] {
            let conv = Conv::new(&shape(1, bias, false), &Varied, &Device::flex().autodiff()).unwrap();
            let run = |forward: &dyn Fn(Tensor<4>) -> Tensor<4>| {
                let input = input([2, 6, 3, 5]);
                let output = forward(input.clone());
                let gradients = (output.clone() * output.clone()).sum().backward();
                let kernel = conv.conv.weight.val().grad(&gradients).unwrap();
                let bias = conv.conv.bias.as_ref().map(|bias| values(bias.val().grad(&gradients).unwrap()));
                let input = values(input.grad(&gradients).unwrap());
                [values(output), input, values(kernel), bias.unwrap_or_default()]
            };
            let product = run(&|input| conv.forward_as_product(input));
            let convolution = run(&|input| conv.conv.forward(input));
            for (product, convolution) in product.iter().zip(&convolution) {
                close(product, convolution);
            }
        }
    }

    #[test]
    fn folding_the_norm_changes_nothing_but_the_rounding() {
        for (bias, norm) in [(false, false), (false, true), (true, false), (true, true)] {
            let shape = shape(3, bias, norm);
            let conv = Conv::new(&shape, &Varied, &Device::flex()).unwrap();
            let image = input([1, 6, 9, 8]).inner();
            let folded = conv.clone().folded();
            close(&values(folded.forward(image.clone())), &values(conv.forward(image)));
            let names = |conv: &Conv| conv.tensors(&shape).all().map(|(name, _)| name).collect::<Vec<_>>().join(" ");
            let bias = if bias { "conv.bias " } else { "" };
            let norm_names = if norm { "norm.weight norm.bias norm.running_mean norm.running_var" } else { "" };
            assert_eq!(names(&conv), format!("conv.weight {bias}{norm_names}").trim_end());
            let bias = if norm { "norm.bias" } else { bias };
            assert_eq!(names(&folded), format!("conv.weight {bias}").trim_end());
        }
    }
}
