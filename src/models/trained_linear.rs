//! Dense layers that train on the CPU: kernels of our own as an operation that burn differentiates.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::nn;
use burn::tensor::Tensor;
use xp_kernels::trained::linear::Linear;

use crate::models::flex::{takes, tensor, values};

/// Fewer units leave most of a vector empty.
const FEWEST_UNITS: usize = 16;

/// `input · weight + bias`.
///
/// Shape: `[n, n_in]` → `[n, units]`.
pub fn linear(layer: &nn::Linear, input: Tensor<2>) -> Tensor<2> {
    let weight = layer.weight.val();
    match &layer.bias {
        Some(bias) if takes(&input) && weight.dims()[1] >= FEWEST_UNITS => {
            let (input, weight, bias) = (input.into_dispatch(), weight.into_dispatch(), bias.val().into_dispatch());
            Tensor::from_dispatch(<Dispatch as Dense>::dense(input, weight, bias))
        }
        _ => layer.forward(input),
    }
}

/// The operation for burn.
#[backend_extension(Flex, Autodiff)]
trait Dense: Backend {
    fn dense(input: FloatTensor<Self>, weight: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl Dense for Flex {
    fn dense(input: FloatTensor<Self>, weight: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self> {
        let [input, weight, bias] = [input, weight, bias].map(|tensor| tensor.to_contiguous());
        let shape = shape(&input, &weight);
        let output = shape.output(values(&input), values(&weight), values(&bias));
        tensor(output, [shape.n_images, shape.n_out])
    }
}

/// The sizes of `[n, n_in]` and `[n_in, units]`.
fn shape(input: &FloatTensor<Flex>, weight: &FloatTensor<Flex>) -> Linear {
    let ([n_images, n_in], [_, n_out]) = (input.shape().dims(), weight.shape().dims());
    Linear { n_images, n_in, n_out }
}

impl<C: CheckpointStrategy> Dense for Autodiff<Flex, C> {
    fn dense(input: FloatTensor<Self>, weight: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self> {
        let nodes = [input.node(), weight.node(), bias.node()];
        let [input, weight] = [input.into_primitive(), weight.into_primitive()].map(|tensor| tensor.to_contiguous());
        let output = Flex::dense(input.clone(), weight.clone(), bias.into_primitive());
        match Gradient.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(preparation) => preparation.finish((input, weight), output),
            OpsKind::UnTracked(preparation) => preparation.finish(output),
        }
    }
}

/// The way back: input, weight and bias are its parents.
#[derive(Debug)]
struct Gradient;

impl Backward<Flex, 3> for Gradient {
    type State = (FloatTensor<Flex>, FloatTensor<Flex>);

    fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let ([of_input, of_weight, of_bias], (input, weight)) = (ops.parents, ops.state);
        let shape = shape(&input, &weight);
        let output = gradients.consume::<Flex>(&ops.node).to_contiguous();
        if let Some(node) = of_weight {
            let gradient = shape.weight_gradient(values(&input), values(&output));
            gradients.register::<Flex>(node.id, tensor(gradient, [shape.n_in, shape.n_out]));
        }
        if let Some(node) = of_bias {
            let gradient = shape.bias_gradient(values(&output));
            gradients.register::<Flex>(node.id, tensor(gradient, [shape.n_out]));
        }
        if let Some(node) = of_input {
            let transposed = Flex::float_transpose(weight);
            gradients.register::<Flex>(node.id, Flex::float_matmul(output, transposed));
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::nn::LinearConfig;
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

    /// burn's own layer is the reference.
    #[test]
    fn outputs_and_gradients_are_those_of_burns_layer() {
        for (n, n_in, units) in [(1, 5, 16), (32, 300, 256), (3, 7, 50), (4, 9, 3)] {
            let mut layer = LinearConfig::new(n_in, units).init(&Device::flex().autodiff());
            layer.weight = layer.weight.map(|weight| whole(weight.dims(), 5).require_grad());
            layer.bias = layer.bias.map(|bias| bias.map(|bias| whole(bias.dims(), 3).require_grad()));
            let run = |forward: &dyn Fn(Tensor<2>) -> Tensor<2>| {
                let input = whole([n, n_in], 7).require_grad();
                let output = forward(input.clone());
                let gradients = (output.clone() * whole(output.dims(), 11)).sum().backward();
                let weight = values(layer.weight.val().grad(&gradients).unwrap());
                let bias = values(layer.bias.as_ref().unwrap().val().grad(&gradients).unwrap());
                [values(output), values(input.grad(&gradients).unwrap()), weight, bias]
            };
            let (found, expected) = (run(&|input| linear(&layer, input)), run(&|input| layer.forward(input)));
            for (part, (found, expected)) in found.iter().zip(&expected).enumerate() {
                assert!(found == expected, "part {part} of {n} {n_in} {units}");
            }
        }
    }

    #[test]
    fn what_needs_no_gradient_gets_none() {
        let layer = LinearConfig::new(5, 20).init(&Device::flex().autodiff());
        let input = whole([2, 5], 7);
        let gradients = linear(&layer, input.clone()).sum().backward();
        assert!(input.grad(&gradients).is_none());
        assert_eq!(values(layer.bias.unwrap().val().grad(&gradients).unwrap()), [2.0; 20]);
    }
}
