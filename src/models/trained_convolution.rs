//! Convolutions that train on the CPU: kernels of our own as an operation that burn differentiates.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::nn::conv::Conv2d;
use burn::nn::{BatchNorm, PaddingConfig2d};
use burn::tensor::Tensor;
use xp_kernels::trained::{Shape, bias_gradient, input_gradient, kernel_gradient, output};

use crate::models::flex::{takes, tensor, values};

/// A convolution, where the device is the CPU and the sizes are of a kind that the kernels know; else `None`.
///
/// Shape: `[n, n_in, h, w]` → `[n, n_out, h', w']`.
pub fn convolved(conv: &Conv2d, input: &Tensor<4>) -> Option<Tensor<4>> {
    let shape = shape_here(conv, input)?;
    let bias = conv.bias.as_ref().map(|bias| bias.val());
    Some(run(shape, input, conv.weight.val(), bias))
}

/// A convolution and a norm by fixed statistics after it, as one convolution; `None` as for [`convolved`].
///
/// The norm becomes part of kernel and bias, which costs as little as they are small; their gradients go through it.
pub fn convolved_and_normed(conv: &Conv2d, norm: &BatchNorm, input: &Tensor<4>) -> Option<Tensor<4>> {
    let (shape, device) = (shape_here(conv, input)?, input.device());
    let [mean, variance] = [&norm.running_mean, &norm.running_var].map(|state| state.value().to_device(&device));
    let scale = norm.gamma.val() / variance.add_scalar(norm.epsilon).sqrt();
    let shift = match &conv.bias {
        Some(bias) => bias.val() - mean,
        None => mean.neg(),
    };
    let bias = norm.beta.val() + shift * scale.clone();
    let kernel = conv.weight.val() * scale.reshape([shape.n_out, 1, 1, 1]);
    Some(run(shape, input, kernel, Some(bias)))
}

fn run(shape: Shape, input: &Tensor<4>, kernel: Tensor<4>, bias: Option<Tensor<1>>) -> Tensor<4> {
    let bias = bias.unwrap_or_else(|| Tensor::zeros([shape.n_out], &input.device()));
    let (input, kernel, bias) = (input.clone().into_dispatch(), kernel.into_dispatch(), bias.into_dispatch());
    Tensor::from_dispatch(<Dispatch as Convolve>::convolve(input, kernel, bias, shape))
}

fn shape_here(conv: &Conv2d, input: &Tensor<4>) -> Option<Shape> {
    takes(input).then(|| shape(conv, input.dims())).flatten()
}

/// The sizes of a convolution; `None` for windows that are not square and for groups of several channels.
fn shape(conv: &Conv2d, [n_images, n_in, h, w]: [usize; 4]) -> Option<Shape> {
    let [n_out, n_read, ..] = conv.weight.dims();
    let ([kernel, kernel_x], [stride, stride_x]) = (conv.kernel_size, conv.stride);
    let depthwise = conv.groups > 1;
    let is_known = kernel == kernel_x
        && stride == stride_x
        && conv.dilation == [1, 1]
        && if depthwise { conv.groups == n_in && n_out == n_in && n_read == 1 } else { n_read == n_in };
    // Zeros before and after the map, along one axis.
    let around = |size: usize, before: usize, after: usize| match conv.padding {
        PaddingConfig2d::Valid => (0, 0),
        PaddingConfig2d::Explicit(..) => (before, after),
        PaddingConfig2d::Same => {
            let zeros = ((size.div_ceil(stride) - 1) * stride + kernel).saturating_sub(size);
            (zeros / 2, zeros - zeros / 2)
        }
    };
    let (top, left, bottom, right) = match conv.padding {
        PaddingConfig2d::Explicit(top, left, bottom, right) => (top, left, bottom, right),
        _ => (0, 0, 0, 0),
    };
    let (rows, columns) = (around(h, top, bottom), around(w, left, right));
    let size = |size: usize, (before, after): (usize, usize)| {
        (size + before + after).checked_sub(kernel).map(|room| room / stride + 1)
    };
    let output = [size(h, rows)?, size(w, columns)?];
    let before = [rows.0, columns.0];
    is_known.then_some(Shape { n_images, n_in, n_out, input: [h, w], output, kernel, stride, before, depthwise })
}

/// The operation for burn.
#[backend_extension(Flex, Autodiff)]
trait Convolve: Backend {
    fn convolve(
        input: FloatTensor<Self>,
        kernel: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        shape: Shape,
    ) -> FloatTensor<Self>;
}

impl Convolve for Flex {
    fn convolve(
        input: FloatTensor<Self>,
        kernel: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        shape: Shape,
    ) -> FloatTensor<Self> {
        let [input, kernel, bias] = [input, kernel, bias].map(|tensor| tensor.to_contiguous());
        let values = output(&shape, values(&input), values(&kernel), Some(values(&bias)));
        tensor(values, [shape.n_images, shape.n_out, shape.output[0], shape.output[1]])
    }
}

impl<C: CheckpointStrategy> Convolve for Autodiff<Flex, C> {
    fn convolve(
        input: FloatTensor<Self>,
        kernel: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        shape: Shape,
    ) -> FloatTensor<Self> {
        let nodes = [input.node(), kernel.node(), bias.node()];
        let [input, kernel] = [input.into_primitive(), kernel.into_primitive()].map(|tensor| tensor.to_contiguous());
        let output = Flex::convolve(input.clone(), kernel.clone(), bias.into_primitive(), shape);
        match Gradient.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(preparation) => preparation.finish((input, kernel, shape), output),
            OpsKind::UnTracked(preparation) => preparation.finish(output),
        }
    }
}

/// The way back of a convolution: input, kernel and bias are its parents.
#[derive(Debug)]
struct Gradient;

impl Backward<Flex, 3> for Gradient {
    type State = (FloatTensor<Flex>, FloatTensor<Flex>, Shape);

    fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let ([of_input, of_kernel, of_bias], (input, kernel, shape)) = (ops.parents, ops.state);
        let output = gradients.consume::<Flex>(&ops.node).to_contiguous();
        if let Some(node) = of_input {
            let gradient = input_gradient(&shape, values(&kernel), values(&output));
            let [h, w] = shape.input;
            gradients.register::<Flex>(node.id, tensor(gradient, [shape.n_images, shape.n_in, h, w]));
        }
        if let Some(node) = of_kernel {
            let gradient = kernel_gradient(&shape, values(&input), values(&output));
            let n_read = if shape.depthwise { 1 } else { shape.n_in };
            let gradient = tensor(gradient, [shape.n_out, n_read, shape.kernel, shape.kernel]);
            gradients.register::<Flex>(node.id, gradient);
        }
        if let Some(node) = of_bias {
            let gradient = bias_gradient(&shape, values(&output));
            gradients.register::<Flex>(node.id, tensor(gradient, [shape.n_out]));
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::module::{Module, RunningState};
    use burn::nn::BatchNormConfig;
    use burn::nn::conv::Conv2dConfig;
    use burn::tensor::{Device, TensorData};

    use super::*;

    /// Whole numbers small enough that every sum is exact in whatever order.
    fn whole<const D: usize>(shape: [usize; D], factor: usize) -> Tensor<D> {
        let values: Vec<f32> = (0..shape.iter().product()).map(|i: usize| (factor * i % 13) as f32 - 6.0).collect();
        Tensor::from_data(TensorData::new(values, shape), &Device::flex().autodiff())
    }

    fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.try_into_vec_as().unwrap()
    }

    fn explicit(before: usize, after: usize) -> PaddingConfig2d {
        PaddingConfig2d::Explicit(before, before, after, after)
    }

    /// Outputs and gradients of input, kernel and bias; burn's own convolution is the reference.
    fn agrees_with_burn(config: &Conv2dConfig, input: [usize; 4]) {
        let mut conv = config.init(&Device::flex().autodiff());
        conv.weight = conv.weight.map(|weight| whole(weight.dims(), 5).require_grad());
        conv.bias = conv.bias.map(|bias| bias.map(|bias| whole(bias.dims(), 3).require_grad()));
        let run = |forward: &dyn Fn(Tensor<4>) -> Tensor<4>| {
            let input = whole(input, 7).require_grad();
            let output = forward(input.clone());
            let gradients = (output.clone() * whole(output.dims(), 11)).sum().backward();
            let kernel = values(conv.weight.val().grad(&gradients).unwrap());
            let bias = conv.bias.as_ref().map(|bias| values(bias.val().grad(&gradients).unwrap()));
            [values(output), values(input.grad(&gradients).unwrap()), kernel, bias.unwrap_or_default()]
        };
        let found = run(&|input| convolved(&conv, &input).unwrap());
        let expected = run(&|input| conv.forward(input));
        for (part, (found, expected)) in found.iter().zip(&expected).enumerate() {
            assert!(found == expected, "part {part} of {config:?}");
        }
    }

    #[test]
    fn outputs_and_gradients_are_those_of_burns_convolution() {
        let same = PaddingConfig2d::Same;
        for (kernel, stride, padding) in [
            (1, 1, PaddingConfig2d::Valid),
            (1, 2, PaddingConfig2d::Valid),
            (3, 1, same.clone()),
            (3, 2, same.clone()),
            (3, 2, explicit(1, 1)),
            (3, 2, PaddingConfig2d::Valid),
            (5, 1, same.clone()),
            (5, 2, same),
            (5, 2, explicit(2, 2)),
        ] {
            for (groups, n_out, bias) in [(1, 10, true), (1, 9, false), (6, 6, true), (6, 6, false)] {
                let config = Conv2dConfig::new([6, n_out], [kernel; 2]).with_stride([stride; 2]).with_groups(groups);
                let config = config.with_padding(padding.clone()).with_bias(bias);
                agrees_with_burn(&config, [2, 6, 7, 8]);
                agrees_with_burn(&config, [3, 6, 5, 5]);
            }
        }
    }

    /// The convolution and burn's norm after each other are the reference.
    #[test]
    fn a_norm_by_fixed_statistics_is_part_of_the_convolution() {
        let device = Device::flex().autodiff();
        let positive = |factor: usize| whole([9], factor).inner().add_scalar(7.0).div_scalar(5.0);
        for bias in [true, false] {
            let mut conv = Conv2dConfig::new([6, 9], [3; 2]).with_bias(bias).init(&device);
            conv.weight = conv.weight.map(|weight| whole(weight.dims(), 5).require_grad());
            let mut norm = BatchNormConfig::new(9).init(&device);
            norm.running_mean = RunningState::new(positive(3));
            norm.running_var = RunningState::new(positive(5));
            norm.gamma = norm.gamma.map(|gamma| whole(gamma.dims(), 7));
            norm.beta = norm.beta.map(|beta| whole(beta.dims(), 2));
            let norm = norm.freeze();
            let gradients = |forward: &dyn Fn(Tensor<4>) -> Tensor<4>| {
                let input = whole([2, 6, 7, 8], 7).require_grad();
                let output = forward(input.clone());
                let gradients = (output.clone() * whole(output.dims(), 11)).sum().backward();
                assert!(norm.gamma.val().grad(&gradients).is_none());
                let kernel = values(conv.weight.val().grad(&gradients).unwrap());
                let bias = conv.bias.as_ref().map(|bias| values(bias.val().grad(&gradients).unwrap()));
                [values(output), values(input.grad(&gradients).unwrap()), kernel, bias.unwrap_or_default()]
            };
            let found = gradients(&|input| convolved_and_normed(&conv, &norm, &input).unwrap());
            let expected = gradients(&|input| norm.forward(conv.forward(input)));
            for (found, expected) in found.iter().zip(&expected) {
                let largest = expected.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
                assert_eq!(found.len(), expected.len());
                for (found, expected) in found.iter().zip(expected) {
                    assert!((found - expected).abs() <= 1e-5 * largest, "{found} {expected}");
                }
            }
        }
    }

    #[test]
    fn what_needs_no_gradient_gets_none() {
        let mut conv = Conv2dConfig::new([3, 4], [3; 2]).init(&Device::flex().autodiff());
        conv.weight = conv.weight.set_require_grad(false);
        let input = whole([2, 3, 5, 5], 7);
        let output = convolved(&conv, &input).unwrap();
        let gradients = output.sum().backward();
        assert!(input.grad(&gradients).is_none() && conv.weight.val().grad(&gradients).is_none());
        assert_eq!(values(conv.bias.unwrap().val().grad(&gradients).unwrap()), [18.0; 4]);
    }

    #[test]
    fn windows_that_the_kernels_do_not_know_are_left_to_burn() {
        let input = whole([1, 4, 5, 5], 7);
        for config in [
            Conv2dConfig::new([4, 4], [3, 1]),
            Conv2dConfig::new([4, 4], [3, 3]).with_groups(2),
            Conv2dConfig::new([4, 8], [3, 3]).with_groups(4),
            Conv2dConfig::new([4, 4], [3, 3]).with_dilation([2, 2]),
            Conv2dConfig::new([4, 4], [3, 3]).with_stride([1, 2]),
        ] {
            assert!(convolved(&config.init(&input.device()), &input).is_none(), "{config:?}");
        }
    }
}
