//! Optimizers by Keras' formulas; burn's own place epsilon and the learning rate elsewhere.

use burn::optim::{LearningRate, ModuleOptimizer, Optimizer, RecordState, StateSink, StateSource};
use burn::tensor::{Device, Tensor};

use xp_kernels::update as kernels;

use crate::spec::schema::optimizer::{self as schema, Decays};
use crate::train::update::{self, OneState, TwoStates};

/// The optimizer that a spec asks for.
pub fn from_spec(optimizer: &schema::Optimizer) -> ModuleOptimizer {
    match optimizer {
        schema::Optimizer::Sgd(sgd) => ModuleOptimizer::from(Sgd { momentum: sgd.momentum, nesterov: sgd.nesterov }),
        schema::Optimizer::Adam(adam) => ModuleOptimizer::from(Adam {
            beta_1: adam.beta_1,
            beta_2: adam.beta_2,
            epsilon: adam.epsilon,
            weight_decay: 0.0,
            decays: Decays::All,
        }),
        schema::Optimizer::Adamw(adamw) => ModuleOptimizer::from(Adam {
            beta_1: adamw.beta_1,
            beta_2: adamw.beta_2,
            epsilon: adamw.epsilon,
            weight_decay: adamw.weight_decay,
            decays: adamw.decays,
        }),
        schema::Optimizer::Rmsprop(rmsprop) => ModuleOptimizer::from(RmsProp {
            rho: rmsprop.rho,
            momentum: rmsprop.momentum,
            epsilon: rmsprop.epsilon,
            epsilon_inside_sqrt: rmsprop.epsilon_inside_sqrt,
            initial_accumulator: rmsprop.initial_accumulator,
        }),
    }
}

/// `v = momentum · v − learning_rate · g; w = w + v`, or by Nesterov `w = w + momentum · v − learning_rate · g`.
///
/// Source: Keras 3, `keras.optimizers.SGD`.
#[derive(Clone, Copy, Debug)]
pub struct Sgd {
    pub momentum: f64,
    pub nesterov: bool,
}

/// What SGD remembers of a parameter.
#[derive(Clone)]
pub struct SgdState<const D: usize> {
    pub velocity: Tensor<D>,
}

// burn's derive for this trait names burn's own modules, so it cannot be used here.
impl<const D: usize> RecordState for SgdState<D> {
    fn state_flatten(&self, prefix: &str, out: &mut StateSink) {
        out.push_tensor(prefix, "velocity", self.velocity.to_data());
    }

    fn state_unflatten(prefix: &str, src: &mut StateSource, device: &Device) -> Option<Self> {
        Some(Self { velocity: Tensor::from_data(src.take_tensor(prefix, "velocity")?, device) })
    }
}

impl Optimizer for Sgd {
    type State<const D: usize> = SgdState<D>;

    fn step<const D: usize>(
        &self,
        learning_rate: LearningRate,
        tensor: Tensor<D>,
        gradient: Tensor<D>,
        state: Option<SgdState<D>>,
    ) -> (Tensor<D>, Option<SgdState<D>>) {
        if update::is_here(&tensor) {
            match state {
                _ if self.momentum == 0.0 => return (update::sgd(tensor, gradient, -learning_rate), None),
                Some(SgdState { velocity }) => {
                    let [negative_rate, momentum] = [-learning_rate, self.momentum].map(|value| value as f32);
                    let step = kernels::Momentum { negative_rate, momentum, nesterov: self.nesterov };
                    let step = OneState::Momentum(step);
                    let [tensor, velocity] = update::with_one_state(step, tensor, gradient, velocity);
                    return (tensor, Some(SgdState { velocity }));
                }
                None => {}
            }
        }
        let step = gradient.mul_scalar(-learning_rate);
        if self.momentum == 0.0 {
            return (tensor + step, None);
        }
        let velocity = match state {
            Some(state) => state.velocity.mul_scalar(self.momentum) + step.clone(),
            None => step.clone(),
        };
        let move_by = if self.nesterov { velocity.clone().mul_scalar(self.momentum) + step } else { velocity.clone() };
        (tensor + move_by, Some(SgdState { velocity }))
    }

    fn to_device<const D: usize>(state: SgdState<D>, device: &Device) -> SgdState<D> {
        SgdState { velocity: state.velocity.to_device(device) }
    }
}

/// `m = β₁ m + (1 − β₁) g; v = β₂ v + (1 − β₂) g²; w = w − α m / (√v + ε)` with
/// `α = learning_rate · √(1 − β₂ᵗ) / (1 − β₁ᵗ)`.
///
/// Source: Kingma and Ba 2015, section 2, last paragraph, which is the form of Keras 3, `keras.optimizers.Adam`:
/// ε stands outside the bias correction. With weight decay it is AdamW (Loshchilov and Hutter 2019), as Keras has it:
/// `w = w − learning_rate · weight_decay · w` comes first.
#[derive(Clone, Copy, Debug)]
pub struct Adam {
    pub beta_1: f64,
    pub beta_2: f64,
    pub epsilon: f64,
    pub weight_decay: f64,
    /// A tensor of one axis is a bias, or a norm's scale or shift; any other is a kernel.
    pub decays: Decays,
}

/// What Adam remembers of a parameter.
#[derive(Clone)]
pub struct AdamState<const D: usize> {
    /// Steps taken.
    pub time: usize,
    pub moment_1: Tensor<D>,
    pub moment_2: Tensor<D>,
}

impl<const D: usize> RecordState for AdamState<D> {
    fn state_flatten(&self, prefix: &str, out: &mut StateSink) {
        out.push_scalar(prefix, "time", self.time.into());
        out.push_tensor(prefix, "moment_1", self.moment_1.to_data());
        out.push_tensor(prefix, "moment_2", self.moment_2.to_data());
    }

    fn state_unflatten(prefix: &str, src: &mut StateSource, device: &Device) -> Option<Self> {
        Some(Self {
            time: src.take_scalar(prefix, "time")?.try_into().ok()?,
            moment_1: Tensor::from_data(src.take_tensor(prefix, "moment_1")?, device),
            moment_2: Tensor::from_data(src.take_tensor(prefix, "moment_2")?, device),
        })
    }
}

impl Adam {
    fn alpha(&self, learning_rate: f64, time: usize) -> f64 {
        let power = time as f64;
        learning_rate * (1.0 - self.beta_2.powf(power)).sqrt() / (1.0 - self.beta_1.powf(power))
    }

    /// The decay of a tensor of so many axes.
    fn decay(&self, n_axes: usize) -> f64 {
        if self.decays == Decays::All || n_axes > 1 { self.weight_decay } else { 0.0 }
    }

    fn kernel(&self, learning_rate: f64, time: usize, decay: f64) -> kernels::Adam {
        kernels::Adam {
            negative_alpha: -self.alpha(learning_rate, time) as f32,
            beta_1: self.beta_1 as f32,
            beta_2: self.beta_2 as f32,
            rest_1: (1.0 - self.beta_1) as f32,
            rest_2: (1.0 - self.beta_2) as f32,
            epsilon: self.epsilon as f32,
            decay: (decay != 0.0).then_some([learning_rate as f32, decay as f32]),
        }
    }
}

impl Optimizer for Adam {
    type State<const D: usize> = AdamState<D>;

    fn step<const D: usize>(
        &self,
        learning_rate: LearningRate,
        tensor: Tensor<D>,
        gradient: Tensor<D>,
        state: Option<AdamState<D>>,
    ) -> (Tensor<D>, Option<AdamState<D>>) {
        let state = match state {
            Some(state) if update::is_here(&tensor) => {
                let time = state.time + 1;
                let (step, moments) = (
                    TwoStates::Adam(self.kernel(learning_rate, time, self.decay(D))),
                    [state.moment_1, state.moment_2],
                );
                let [tensor, moment_1, moment_2] = update::with_two_states(step, tensor, gradient, moments);
                return (tensor, Some(AdamState { time, moment_1, moment_2 }));
            }
            state => state,
        };
        let moment_1 = gradient.clone().mul_scalar(1.0 - self.beta_1);
        let moment_2 = gradient.square().mul_scalar(1.0 - self.beta_2);
        let (time, moment_1, moment_2) = match state {
            Some(state) => (
                state.time + 1,
                state.moment_1.mul_scalar(self.beta_1) + moment_1,
                state.moment_2.mul_scalar(self.beta_2) + moment_2,
            ),
            None => (1, moment_1, moment_2),
        };
        let alpha = self.alpha(learning_rate, time);
        let step = moment_1.clone().mul_scalar(-alpha) / moment_2.clone().sqrt().add_scalar(self.epsilon);
        let tensor = match self.decay(D) {
            0.0 => tensor,
            decay => tensor.clone() - tensor.mul_scalar(learning_rate).mul_scalar(decay),
        };
        (tensor + step, Some(AdamState { time, moment_1, moment_2 }))
    }

    fn to_device<const D: usize>(state: AdamState<D>, device: &Device) -> AdamState<D> {
        AdamState {
            time: state.time,
            moment_1: state.moment_1.to_device(device),
            moment_2: state.moment_2.to_device(device),
        }
    }
}

/// `a = ρ a + (1 − ρ) g²; w = w − learning_rate · g / √(a + ε)`; with momentum `b = momentum · b + …; w = w − b`.
///
/// Source: Keras 3, `keras.optimizers.RMSprop`; with ε outside the root Keras 2.0.8's.
#[derive(Clone, Copy, Debug)]
pub struct RmsProp {
    pub rho: f64,
    pub momentum: f64,
    pub epsilon: f64,
    pub epsilon_inside_sqrt: bool,
    /// The mean square before the first step.
    pub initial_accumulator: f64,
}

/// What RMSprop remembers of a parameter.
#[derive(Clone)]
pub struct RmsPropState<const D: usize> {
    pub mean_square: Tensor<D>,
    /// `None` without momentum.
    pub velocity: Option<Tensor<D>>,
}

impl<const D: usize> RecordState for RmsPropState<D> {
    fn state_flatten(&self, prefix: &str, out: &mut StateSink) {
        out.push_tensor(prefix, "mean_square", self.mean_square.to_data());
        if let Some(velocity) = &self.velocity {
            out.push_tensor(prefix, "velocity", velocity.to_data());
        }
    }

    fn state_unflatten(prefix: &str, src: &mut StateSource, device: &Device) -> Option<Self> {
        Some(Self {
            mean_square: Tensor::from_data(src.take_tensor(prefix, "mean_square")?, device),
            velocity: src.take_tensor(prefix, "velocity").map(|data| Tensor::from_data(data, device)),
        })
    }
}

impl RmsProp {
    fn kernel(&self, learning_rate: f64) -> kernels::RmsProp {
        kernels::RmsProp {
            rate: learning_rate as f32,
            rho: self.rho as f32,
            rest: (1.0 - self.rho) as f32,
            epsilon: self.epsilon as f32,
            epsilon_inside_root: self.epsilon_inside_sqrt,
        }
    }
}

impl Optimizer for RmsProp {
    type State<const D: usize> = RmsPropState<D>;

    fn step<const D: usize>(
        &self,
        learning_rate: LearningRate,
        tensor: Tensor<D>,
        gradient: Tensor<D>,
        state: Option<RmsPropState<D>>,
    ) -> (Tensor<D>, Option<RmsPropState<D>>) {
        let state = match state {
            Some(RmsPropState { mean_square, velocity: None }) if self.momentum == 0.0 && update::is_here(&tensor) => {
                let step = OneState::RmsProp(self.kernel(learning_rate));
                let [tensor, mean_square] = update::with_one_state(step, tensor, gradient, mean_square);
                return (tensor, Some(RmsPropState { mean_square, velocity: None }));
            }
            Some(RmsPropState { mean_square, velocity: Some(velocity) })
                if self.momentum != 0.0 && update::is_here(&tensor) =>
            {
                let step = TwoStates::RmsProp(self.kernel(learning_rate), self.momentum as f32);
                let [tensor, mean_square, velocity] =
                    update::with_two_states(step, tensor, gradient, [mean_square, velocity]);
                return (tensor, Some(RmsPropState { mean_square, velocity: Some(velocity) }));
            }
            state => state,
        };
        let square = gradient.clone().square().mul_scalar(1.0 - self.rho);
        let (mean_square, velocity) = match state {
            Some(state) => (state.mean_square.mul_scalar(self.rho) + square, state.velocity),
            None => (square.add_scalar(self.rho * self.initial_accumulator), None),
        };
        let root = if self.epsilon_inside_sqrt {
            mean_square.clone().add_scalar(self.epsilon).sqrt()
        } else {
            mean_square.clone().sqrt().add_scalar(self.epsilon)
        };
        let step = gradient.mul_scalar(learning_rate) / root;
        if self.momentum == 0.0 {
            return (tensor - step, Some(RmsPropState { mean_square, velocity: None }));
        }
        let velocity = match velocity {
            Some(velocity) => velocity.mul_scalar(self.momentum) + step,
            None => step,
        };
        (tensor - velocity.clone(), Some(RmsPropState { mean_square, velocity: Some(velocity) }))
    }

    fn to_device<const D: usize>(state: RmsPropState<D>, device: &Device) -> RmsPropState<D> {
        RmsPropState {
            mean_square: state.mean_square.to_device(device),
            velocity: state.velocity.map(|velocity| velocity.to_device(device)),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn floats(value: &Value) -> Vec<f32> {
        value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect()
    }

    fn tensor(values: Vec<f32>) -> Tensor<1> {
        Tensor::from_floats(values.as_slice(), &Device::flex())
    }

    /// Takes the golden file's steps and compares every one with NumPy's.
    fn follows_numpy<O: Optimizer>(optimizer: &O, golden: &Value, case: &Value) {
        let factor_from = golden["lr_factor_from_step"].as_u64().unwrap() as usize;
        let mut weights = tensor(floats(&golden["start"]));
        let mut state = None;
        for (i, gradient) in golden["gradients"].as_array().unwrap().iter().enumerate() {
            let factor = if i >= factor_from { golden["lr_factor"].as_f64().unwrap() } else { 1.0 };
            let learning_rate = case["lr"].as_f64().unwrap() * factor;
            (weights, state) = optimizer.step(learning_rate, weights, tensor(floats(gradient)), state);
            assert_eq!(case["params_after_step"][i].as_array().unwrap().len(), weights.dims()[0]);
            let found: Vec<f32> = weights.clone().try_into_vec_as().unwrap();
            for (found, expected) in found.iter().zip(floats(&case["params_after_step"][i])) {
                assert!((found - expected).abs() <= 2e-6 * expected.abs().max(1.0), "step {i}: {found} {expected}");
            }
        }
    }

    /// Without a gradient a step is the decay alone: `w − 0.1 · 0.5 · w`.
    #[test]
    fn biases_and_norms_do_not_decay_unless_asked_for() {
        let adam = |decays| Adam { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-7, weight_decay: 0.5, decays };
        let device = Device::flex();
        for (decays, of_bias) in [(Decays::Kernels, 2.0), (Decays::All, 1.9)] {
            let (mut bias, mut kernel) =
                (Tensor::<1>::full([2], 2.0, &device), Tensor::<2>::full([1, 2], 2.0, &device));
            let (mut bias_state, mut kernel_state) = (None, None);
            // The second step takes the kernel of one pass.
            for step in 1..=2 {
                let (no_bias, no_kernel) = (Tensor::zeros([2], &device), Tensor::zeros([1, 2], &device));
                (bias, bias_state) = adam(decays).step(0.1, bias, no_bias, bias_state);
                (kernel, kernel_state) = adam(decays).step(0.1, kernel, no_kernel, kernel_state);
                let value = |data: burn::tensor::TensorData| data.try_to_vec::<f32>().unwrap()[0];
                let expected = [of_bias, 1.9].map(|factor: f32| 2.0 * (factor / 2.0).powi(step));
                let found = [value(bias.to_data()), value(kernel.to_data())];
                assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{decays:?} {found:?}");
            }
        }
    }

    #[test]
    fn every_step_agrees_with_keras_formulas_in_numpy() {
        let golden: Value = serde_json::from_str(include_str!("../../tests/fixtures/optimizer_golden.json")).unwrap();
        let mut n_checked = 0;
        for case in golden["cases"].as_array().unwrap() {
            let number = |key: &str| case[key].as_f64().unwrap();
            let flag = |key: &str| case[key].as_bool().unwrap();
            match case["optimizer"].as_str().unwrap() {
                "sgd" => {
                    let sgd = Sgd { momentum: number("momentum"), nesterov: flag("nesterov") };
                    follows_numpy(&sgd, &golden, case);
                }
                "rmsprop" => {
                    let [rho, momentum, epsilon, initial_accumulator] =
                        ["rho", "momentum", "eps", "initial"].map(number);
                    let epsilon_inside_sqrt = flag("inside");
                    let rmsprop = RmsProp { rho, momentum, epsilon, epsilon_inside_sqrt, initial_accumulator };
                    follows_numpy(&rmsprop, &golden, case);
                }
                _ => {
                    let [beta_1, beta_2, epsilon] = ["beta_1", "beta_2", "eps"].map(number);
                    let weight_decay = case["weight_decay"].as_f64().unwrap_or(0.0);
                    let decays = Decays::All;
                    follows_numpy(&Adam { beta_1, beta_2, epsilon, weight_decay, decays }, &golden, case);
                }
            }
            n_checked += 1;
        }
        assert_eq!(n_checked, 9);
    }
}
