//! Steps of optimizers on the CPU in one pass over memory: kernels of our own, behind burn's tensors.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{DType, Device, Tensor};
use xp_kernels::update::{Adam, Momentum, RmsProp};

/// Whether steps on this tensor can be taken here.
pub fn is_here<const D: usize>(weights: &Tensor<D>) -> bool {
    weights.device() == Device::flex() && weights.dtype() == DType::F32
}

/// A step without a state, given the negative learning rate.
pub fn sgd<const D: usize>(weights: Tensor<D>, gradient: Tensor<D>, negative_rate: f64) -> Tensor<D> {
    let weights = weights.into_dispatch();
    Tensor::from_dispatch(<Dispatch as Update>::sgd(weights, gradient.into_dispatch(), negative_rate as f32))
}

/// Weights and velocity after a step.
pub fn momentum<const D: usize>(
    step: Momentum,
    weights: Tensor<D>,
    gradient: Tensor<D>,
    velocity: Tensor<D>,
) -> [Tensor<D>; 2] {
    let [weights, gradient, velocity] = [weights, gradient, velocity].map(Tensor::into_dispatch);
    let (weights, velocity) = <Dispatch as Update>::momentum(weights, gradient, velocity, step);
    [weights, velocity].map(Tensor::from_dispatch)
}

/// Weights and moments after a step.
pub fn adam<const D: usize>(
    step: Adam,
    weights: Tensor<D>,
    gradient: Tensor<D>,
    moments: [Tensor<D>; 2],
) -> [Tensor<D>; 3] {
    let [weights, gradient] = [weights, gradient].map(Tensor::into_dispatch);
    let [moment_1, moment_2] = moments.map(Tensor::into_dispatch);
    let (weights, moment_1, moment_2) = <Dispatch as Update>::adam(weights, gradient, moment_1, moment_2, step);
    [weights, moment_1, moment_2].map(Tensor::from_dispatch)
}

/// Weights and mean square after a step.
pub fn rms_prop<const D: usize>(
    step: RmsProp,
    weights: Tensor<D>,
    gradient: Tensor<D>,
    mean_square: Tensor<D>,
) -> [Tensor<D>; 2] {
    let [weights, gradient, mean_square] = [weights, gradient, mean_square].map(Tensor::into_dispatch);
    let (weights, mean_square) = <Dispatch as Update>::rms_prop(weights, gradient, mean_square, step);
    [weights, mean_square].map(Tensor::from_dispatch)
}

/// Weights, mean square and velocity after a step.
pub fn rms_prop_with_momentum<const D: usize>(
    step: RmsProp,
    momentum: f64,
    weights: Tensor<D>,
    gradient: Tensor<D>,
    states: [Tensor<D>; 2],
) -> [Tensor<D>; 3] {
    let [weights, gradient] = [weights, gradient].map(Tensor::into_dispatch);
    let [square, velocity] = states.map(Tensor::into_dispatch);
    let momentum = momentum as f32;
    let (weights, square, velocity) =
        <Dispatch as Update>::rms_prop_with_momentum(weights, gradient, square, velocity, step, momentum);
    [weights, square, velocity].map(Tensor::from_dispatch)
}

/// The steps for burn.
#[backend_extension(Flex)]
trait Update: Backend {
    fn sgd(weights: FloatTensor<Self>, gradient: FloatTensor<Self>, negative_rate: f32) -> FloatTensor<Self>;

    fn momentum(
        weights: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        velocity: FloatTensor<Self>,
        step: Momentum,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    fn adam(
        weights: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        moment_1: FloatTensor<Self>,
        moment_2: FloatTensor<Self>,
        step: Adam,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    fn rms_prop(
        weights: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        mean_square: FloatTensor<Self>,
        step: RmsProp,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    fn rms_prop_with_momentum(
        weights: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        mean_square: FloatTensor<Self>,
        velocity: FloatTensor<Self>,
        step: RmsProp,
        momentum: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

impl Update for Flex {
    fn sgd(weights: FloatTensor<Self>, gradient: FloatTensor<Self>, negative_rate: f32) -> FloatTensor<Self> {
        let (mut weights, gradient) = (whole(weights), whole(gradient));
        xp_kernels::update::sgd(weights.storage_mut(), gradient.storage(), negative_rate);
        weights
    }

    fn momentum(
        weights: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        velocity: FloatTensor<Self>,
        step: Momentum,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let [mut weights, gradient, mut velocity] = [weights, gradient, velocity].map(whole);
        step.step(weights.storage_mut(), gradient.storage(), velocity.storage_mut());
        (weights, velocity)
    }

    fn adam(
        weights: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        moment_1: FloatTensor<Self>,
        moment_2: FloatTensor<Self>,
        step: Adam,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let [mut weights, gradient, mut moment_1, mut moment_2] = [weights, gradient, moment_1, moment_2].map(whole);
        step.step(weights.storage_mut(), gradient.storage(), moment_1.storage_mut(), moment_2.storage_mut());
        (weights, moment_1, moment_2)
    }

    fn rms_prop(
        weights: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        mean_square: FloatTensor<Self>,
        step: RmsProp,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let [mut weights, gradient, mut mean_square] = [weights, gradient, mean_square].map(whole);
        step.step(weights.storage_mut(), gradient.storage(), mean_square.storage_mut());
        (weights, mean_square)
    }

    fn rms_prop_with_momentum(
        weights: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        mean_square: FloatTensor<Self>,
        velocity: FloatTensor<Self>,
        step: RmsProp,
        momentum: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let [mut weights, gradient, mut square, mut velocity] = [weights, gradient, mean_square, velocity].map(whole);
        let states = (square.storage_mut(), velocity.storage_mut());
        step.step_with_momentum(weights.storage_mut(), gradient.storage(), states.0, states.1, momentum);
        (weights, square, velocity)
    }
}

/// The tensor as all of its storage, row-major; the storage is copied where it is not, or not its own alone.
fn whole(tensor: FloatTensor<Flex>) -> FloatTensor<Flex> {
    let tensor = if tensor.is_contiguous() { tensor } else { tensor.to_contiguous() };
    match tensor.as_slice::<f32>() {
        Some(values) if values.len() == tensor.storage::<f32>().len() => tensor,
        _ => <FloatTensor<Flex>>::from_data(tensor.into_data()),
    }
}

#[cfg(test)]
mod tests {
    use burn::optim::Optimizer;

    use super::*;
    use crate::train::optimizer;

    /// More values than a thread takes at once, among them zeros.
    fn values(n: usize, factor: usize) -> Vec<f32> {
        (0..n).map(|i| (i * factor % 101) as f32 / 37.0 - 1.0).collect()
    }

    fn tensor(values: &[f32]) -> Tensor<1> {
        Tensor::from_floats(values, &Device::flex())
    }

    /// Three steps of an optimizer as it is, and with tensors that `as_tensors` keeps away from the kernels.
    fn agrees_to_the_bit<O: Optimizer>(optimizer: &O, as_tensors: impl Fn(Tensor<1>, Tensor<1>, usize) -> Tensor<1>) {
        let n = 40_000;
        let (mut weights, mut expected) = (tensor(&values(n, 7)), tensor(&values(n, 7)));
        let mut state = None;
        for step in 0..3 {
            let gradient = tensor(&values(n, 11 + step));
            (weights, state) = optimizer.step(1e-3, weights, gradient.clone(), state);
            expected = as_tensors(expected, gradient, step);
            let [found, expected] = [&weights, &expected].map(|tensor| tensor.to_data().try_to_vec::<f32>().unwrap());
            assert!(found == expected, "step {step}");
        }
    }

    #[test]
    fn steps_are_to_the_bit_those_of_whole_tensors() {
        agrees_to_the_bit(&optimizer::Sgd { momentum: 0.0, nesterov: false }, |weights, gradient, _| {
            weights + gradient.mul_scalar(-1e-3)
        });
        for nesterov in [false, true] {
            let velocity = std::cell::RefCell::new(None::<Tensor<1>>);
            agrees_to_the_bit(&optimizer::Sgd { momentum: 0.9, nesterov }, |weights, gradient, _| {
                let step = gradient.mul_scalar(-1e-3);
                let moved = match velocity.take() {
                    Some(velocity) => velocity.mul_scalar(0.9) + step.clone(),
                    None => step.clone(),
                };
                velocity.replace(Some(moved.clone()));
                weights + if nesterov { moved.mul_scalar(0.9) + step } else { moved }
            });
        }
        for weight_decay in [0.0, 0.01] {
            let adam = optimizer::Adam { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-7, weight_decay };
            let moments = std::cell::RefCell::new(None::<[Tensor<1>; 2]>);
            agrees_to_the_bit(&adam, |weights, gradient, step| {
                let new = [gradient.clone().mul_scalar(1.0 - 0.9), gradient.square().mul_scalar(1.0 - 0.999)];
                let [first, second] = match moments.take() {
                    Some([first, second]) => {
                        let [new_1, new_2] = new;
                        [first.mul_scalar(0.9) + new_1, second.mul_scalar(0.999) + new_2]
                    }
                    None => new,
                };
                moments.replace(Some([first.clone(), second.clone()]));
                let power = step as f64 + 1.0;
                let alpha = 1e-3 * (1.0 - 0.999_f64.powf(power)).sqrt() / (1.0 - 0.9_f64.powf(power));
                let weights = match weight_decay {
                    0.0 => weights,
                    decay => weights.clone() - weights.mul_scalar(1e-3).mul_scalar(decay),
                };
                weights + first.mul_scalar(-alpha) / second.sqrt().add_scalar(1e-7)
            });
        }
    }

    #[test]
    fn steps_of_rms_prop_are_to_the_bit_those_of_whole_tensors() {
        for (momentum, epsilon_inside_sqrt) in [(0.0, true), (0.0, false), (0.9, true), (0.9, false)] {
            let (rho, epsilon, initial_accumulator) = (0.9, 1e-7, 0.5);
            let rms_prop = optimizer::RmsProp { rho, momentum, epsilon, epsilon_inside_sqrt, initial_accumulator };
            let states = std::cell::RefCell::new(None::<[Tensor<1>; 2]>);
            agrees_to_the_bit(&rms_prop, |weights, gradient, _| {
                let new = gradient.clone().square().mul_scalar(1.0 - rho);
                let before = states.take();
                let square = match &before {
                    Some([square, _]) => square.clone().mul_scalar(rho) + new,
                    None => new.add_scalar(rho * initial_accumulator),
                };
                let root = match epsilon_inside_sqrt {
                    true => square.clone().add_scalar(epsilon).sqrt(),
                    false => square.clone().sqrt().add_scalar(epsilon),
                };
                let step = gradient.mul_scalar(1e-3) / root;
                let velocity = match before {
                    Some([_, velocity]) => velocity.mul_scalar(momentum) + step,
                    None => step,
                };
                states.replace(Some([square, velocity.clone()]));
                weights - velocity
            });
        }
    }

    #[test]
    fn a_tensor_that_others_hold_stays_as_it_is() {
        let weights = tensor(&values(10, 7));
        let held = weights.clone();
        let moved = sgd(weights, tensor(&values(10, 3)), -1.0);
        assert_eq!(held.to_data().try_to_vec::<f32>().unwrap(), values(10, 7));
        assert!(moved.to_data().try_to_vec::<f32>().unwrap() != values(10, 7));
    }
}
