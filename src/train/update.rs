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
    let (weights, gradient) = (weights.into_dispatch(), gradient.into_dispatch());
    Tensor::from_dispatch(<Dispatch as Update>::sgd(weights, gradient, negative_rate as f32))
}

/// A formula that remembers one value of each weight.
#[derive(Clone, Copy, Debug)]
pub enum OneState {
    /// The velocity.
    Momentum(Momentum),
    /// The mean square.
    RmsProp(RmsProp),
}

/// A formula that remembers two values of each weight.
#[derive(Clone, Copy, Debug)]
pub enum TwoStates {
    /// The moments.
    Adam(Adam),
    /// The mean square and the velocity, given the momentum.
    RmsProp(RmsProp, f32),
}

/// Weights and state after a step.
pub fn with_one_state<const D: usize>(
    step: OneState,
    weights: Tensor<D>,
    gradient: Tensor<D>,
    state: Tensor<D>,
) -> [Tensor<D>; 2] {
    let [weights, gradient, state] = [weights, gradient, state].map(Tensor::into_dispatch);
    let (weights, state) = <Dispatch as Update>::with_one_state(weights, gradient, state, step);
    [weights, state].map(Tensor::from_dispatch)
}

/// Weights and states after a step.
pub fn with_two_states<const D: usize>(
    step: TwoStates,
    weights: Tensor<D>,
    gradient: Tensor<D>,
    states: [Tensor<D>; 2],
) -> [Tensor<D>; 3] {
    let [weights, gradient] = [weights, gradient].map(Tensor::into_dispatch);
    let [first, second] = states.map(Tensor::into_dispatch);
    let (weights, first, second) = <Dispatch as Update>::with_two_states(weights, gradient, first, second, step);
    [weights, first, second].map(Tensor::from_dispatch)
}

/// The steps for burn. burn-train holds the weights during a step, and nobody the gradient: the new weights take its
/// storage.
#[backend_extension(Flex)]
trait Update: Backend {
    fn sgd(weights: FloatTensor<Self>, gradient: FloatTensor<Self>, negative_rate: f32) -> FloatTensor<Self>;

    fn with_one_state(
        weights: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        state: FloatTensor<Self>,
        step: OneState,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    fn with_two_states(
        weights: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        step: TwoStates,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

impl Update for Flex {
    fn sgd(weights: FloatTensor<Self>, gradient: FloatTensor<Self>, negative_rate: f32) -> FloatTensor<Self> {
        let [weights, mut gradient] = [weights, gradient].map(whole);
        xp_kernels::update::sgd(weights.storage(), gradient.storage_mut(), negative_rate);
        gradient
    }

    fn with_one_state(
        weights: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        state: FloatTensor<Self>,
        step: OneState,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let [weights, mut gradient, mut state] = [weights, gradient, state].map(whole);
        let (w, g, s) = (weights.storage(), gradient.storage_mut(), state.storage_mut());
        match step {
            OneState::Momentum(step) => step.step(w, g, s),
            OneState::RmsProp(step) => step.step(w, g, s),
        }
        (gradient, state)
    }

    fn with_two_states(
        weights: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        step: TwoStates,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let [weights, mut gradient] = [weights, gradient].map(whole);
        let [mut first, mut second] = [first, second].map(whole);
        let (w, g) = (weights.storage(), gradient.storage_mut());
        let states = [first.storage_mut(), second.storage_mut()];
        match step {
            TwoStates::Adam(step) => step.step(w, g, states),
            TwoStates::RmsProp(step, momentum) => step.step_with_momentum(w, g, states, momentum),
        }
        (gradient, first, second)
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
    use crate::spec::schema::optimizer::Decays;
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
            let decays = Decays::All;
            let adam = optimizer::Adam { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-7, weight_decay, decays };
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
        let (weights, gradient) = (tensor(&values(10, 7)), tensor(&values(10, 3)));
        let held = [weights.clone(), gradient.clone()];
        let moved = sgd(weights, gradient, -1.0);
        let of = |tensor: &Tensor<1>| tensor.to_data().try_to_vec::<f32>().unwrap();
        assert_eq!(held.each_ref().map(of), [values(10, 7), values(10, 3)]);
        assert!(of(&moved) != values(10, 7));
    }
}
