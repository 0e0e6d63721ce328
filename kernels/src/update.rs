//! Steps of optimizers in one pass over memory, on the threads of the rayon pool that they are called from.
//!
//! Every operation rounds on its own and in the order in which the formula stands, so that a step is to the bit what the
//! same formula is in whole tensors.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// Values that a thread takes at once.
const PART: usize = 1 << 14;

/// `w = w − learning_rate · g`, given the negative learning rate.
pub fn sgd(weights: &mut [f32], gradient: &[f32], negative_rate: f32) {
    each(weights, gradient, [], |weight, gradient, []| *weight += gradient * negative_rate);
}

/// Gradient descent with momentum.
#[derive(Clone, Copy, Debug)]
pub struct Momentum {
    pub negative_rate: f32,
    pub momentum: f32,
    pub nesterov: bool,
}

impl Momentum {
    /// `v = momentum · v − learning_rate · g; w = w + v`, or by Nesterov `w = w + (momentum · v − learning_rate · g)`.
    pub fn step(self, weights: &mut [f32], gradient: &[f32], velocity: &mut [f32]) {
        let Self { negative_rate, momentum, .. } = self;
        if self.nesterov {
            each(weights, gradient, [velocity], |weight, gradient, [velocity]| {
                let step = gradient * negative_rate;
                *velocity = *velocity * momentum + step;
                *weight += *velocity * momentum + step;
            });
        } else {
            each(weights, gradient, [velocity], |weight, gradient, [velocity]| {
                *velocity = *velocity * momentum + gradient * negative_rate;
                *weight += *velocity;
            });
        }
    }
}

/// `m = β₁ m + (1 − β₁) g; v = β₂ v + (1 − β₂) g²; w = (w − learning_rate · decay · w) − α m / (√v + ε)`.
#[derive(Clone, Copy, Debug)]
pub struct Adam {
    pub negative_alpha: f32,
    pub beta_1: f32,
    pub beta_2: f32,
    /// `1 − β₁` and `1 − β₂`.
    pub rest_1: f32,
    pub rest_2: f32,
    pub epsilon: f32,
    /// The learning rate and the decay, where there is one.
    pub decay: Option<[f32; 2]>,
}

impl Adam {
    pub fn step(self, weights: &mut [f32], gradient: &[f32], moment_1: &mut [f32], moment_2: &mut [f32]) {
        match self.decay {
            Some([rate, decay]) => {
                self.each(weights, gradient, [moment_1, moment_2], |weight| weight - weight * rate * decay);
            }
            None => self.each(weights, gradient, [moment_1, moment_2], |weight| weight),
        }
    }

    fn each(
        self,
        weights: &mut [f32],
        gradient: &[f32],
        moments: [&mut [f32]; 2],
        decayed: impl Fn(f32) -> f32 + Sync,
    ) {
        each(weights, gradient, moments, |weight, gradient, [moment_1, moment_2]| {
            *moment_1 = *moment_1 * self.beta_1 + gradient * self.rest_1;
            *moment_2 = *moment_2 * self.beta_2 + gradient * gradient * self.rest_2;
            *weight = decayed(*weight) + *moment_1 * self.negative_alpha / (moment_2.sqrt() + self.epsilon);
        });
    }
}

/// `a = ρ a + (1 − ρ) g²; w = w − learning_rate · g / √(a + ε)`, with ε outside the root when asked for.
#[derive(Clone, Copy, Debug)]
pub struct RmsProp {
    pub rate: f32,
    pub rho: f32,
    /// `1 − ρ`.
    pub rest: f32,
    pub epsilon: f32,
    pub epsilon_inside_root: bool,
}

impl RmsProp {
    pub fn step(self, weights: &mut [f32], gradient: &[f32], mean_square: &mut [f32]) {
        let Self { epsilon, .. } = self;
        if self.epsilon_inside_root {
            self.each(weights, gradient, mean_square, |square| (square + epsilon).sqrt());
        } else {
            self.each(weights, gradient, mean_square, |square| square.sqrt() + epsilon);
        }
    }

    fn each(self, weights: &mut [f32], gradient: &[f32], mean_square: &mut [f32], root: impl Fn(f32) -> f32 + Sync) {
        each(weights, gradient, [mean_square], |weight, gradient, [square]| {
            *square = *square * self.rho + gradient * gradient * self.rest;
            *weight -= gradient * self.rate / root(*square);
        });
    }

    /// With momentum: `b = momentum · b + learning_rate · g / √(a + ε); w = w − b`.
    pub fn step_with_momentum(
        self,
        weights: &mut [f32],
        gradient: &[f32],
        mean_square: &mut [f32],
        velocity: &mut [f32],
        momentum: f32,
    ) {
        let Self { epsilon, epsilon_inside_root, .. } = self;
        each(weights, gradient, [mean_square, velocity], |weight, gradient, [square, velocity]| {
            *square = *square * self.rho + gradient * gradient * self.rest;
            let root = if epsilon_inside_root { (*square + epsilon).sqrt() } else { square.sqrt() + epsilon };
            *velocity = *velocity * momentum + gradient * self.rate / root;
            *weight -= *velocity;
        });
    }
}

/// Calls for every weight with its gradient and its states.
fn each<const N: usize>(
    weights: &mut [f32],
    gradient: &[f32],
    states: [&mut [f32]; N],
    step: impl Fn(&mut f32, f32, [&mut f32; N]) + Sync,
) {
    assert!(gradient.len() == weights.len() && states.iter().all(|state| state.len() == weights.len()));
    let mut states = states.map(|state| state.chunks_mut(PART));
    let parts = weights.chunks_mut(PART).zip(gradient.chunks(PART));
    let parts = parts.map(|(weights, gradient)| Part {
        weights,
        gradient,
        states: states.each_mut().map(|state| state.next().expect("states are as long as weights")),
        step: &step,
    });
    parts.collect::<Vec<_>>().into_par_iter().for_each(|part| Arch::new().dispatch(part));
}

struct Part<'a, const N: usize, F> {
    weights: &'a mut [f32],
    gradient: &'a [f32],
    states: [&'a mut [f32]; N],
    step: &'a F,
}

impl<const N: usize, F: Fn(&mut f32, f32, [&mut f32; N])> WithSimd for Part<'_, N, F> {
    type Output = ();

    /// Plain numbers, which the compiler brings into the machine's vectors.
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let n = self.weights.len();
        let (weights, gradient) = (&mut self.weights[..n], &self.gradient[..n]);
        let mut states = self.states.map(|state| &mut state[..n]);
        for i in 0..n {
            (self.step)(&mut weights[i], gradient[i], states.each_mut().map(|state| &mut state[i]));
        }
    }
}
