//! ReLU6 on the CPU in one pass each way; burn composes it of four, and its gradient of two.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::Tensor;
use xp_kernels::trained::activation;

use crate::models::flex::{takes, tensor, values};

/// `min(max(x, 0), 6)`.
pub fn relu6(input: Tensor<4>) -> Tensor<4> {
    if takes(&input) {
        Tensor::from_dispatch(<Dispatch as Relu6>::relu6(input.into_dispatch()))
    } else {
        input.clamp(0.0, 6.0)
    }
}

/// The operation for burn.
#[backend_extension(Flex, Autodiff)]
trait Relu6: Backend {
    fn relu6(input: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl Relu6 for Flex {
    fn relu6(input: FloatTensor<Self>) -> FloatTensor<Self> {
        let input = input.to_contiguous();
        tensor(activation::relu6(values(&input)), input.shape())
    }
}

impl<C: CheckpointStrategy> Relu6 for Autodiff<Flex, C> {
    fn relu6(input: FloatTensor<Self>) -> FloatTensor<Self> {
        let nodes = [input.node()];
        let input = input.into_primitive().to_contiguous();
        let output = Flex::relu6(input.clone());
        match Gradient.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(preparation) => preparation.finish(input, output),
            OpsKind::UnTracked(preparation) => preparation.finish(output),
        }
    }
}

/// The way back.
#[derive(Debug)]
struct Gradient;

impl Backward<Flex, 1> for Gradient {
    type State = FloatTensor<Flex>;

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let (input, output) = (ops.state, gradients.consume::<Flex>(&ops.node).to_contiguous());
        if let [Some(node)] = ops.parents {
            let gradient = activation::relu6_gradient(values(&input), values(&output));
            gradients.register::<Flex>(node.id, tensor(gradient, input.shape()));
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;

    /// burn's own clamp is the reference, at the edges and for what is no number too.
    #[test]
    fn values_and_gradients_are_those_of_a_clamp() {
        let mut numbers: Vec<f32> = (0..40_000).map(|i: usize| (i * 7 % 97) as f32 / 8.0 - 3.0).collect();
        numbers[..6].copy_from_slice(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, 6.0]);
        let run = |forward: &dyn Fn(Tensor<4>) -> Tensor<4>| {
            let data = TensorData::new(numbers.clone(), [2, 10, 40, 50]);
            let input = Tensor::<4>::from_data(data, &Device::flex().autodiff()).require_grad();
            let output = forward(input.clone());
            let gradients = (output.clone() * output.clone().detach().add_scalar(1.5)).sum().backward();
            [output, Tensor::from_inner(input.grad(&gradients).unwrap())].map(|tensor| {
                tensor.into_data().try_to_vec::<f32>().unwrap().iter().map(|v| v.to_bits()).collect::<Vec<_>>()
            })
        };
        let [found, expected] = [run(&relu6), run(&|input| input.clamp(0.0, 6.0))];
        assert!(found[0] == expected[0] && found[1][1..] == expected[1][1..]);
        assert!(f32::from_bits(found[1][0]).is_nan() && f32::from_bits(expected[1][0]).is_nan());
    }
}
