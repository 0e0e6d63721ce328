//! Steps of optimizers in one pass over memory, on the threads of the rayon pool that they are called from.
//!
//! A step writes the new weights over their gradient: who holds the old ones need not be asked for a copy, and no other
//! memory is touched.
//!
//! Every operation rounds on its own and in the order in which the formula stands, so that a step is to the bit what the
//! same formula is in whole tensors.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::lanes::Lanes;

/// Values that a thread takes at once.
const PART: usize = 1 << 14;

/// `w = w − learning_rate · g`, given the negative learning rate.
pub fn sgd(weights: &[f32], gradient: &mut [f32], negative_rate: f32) {
    each(Descent { negative_rate }, weights, gradient, []);
}

#[derive(Clone, Copy)]
struct Descent {
    negative_rate: f32,
}

impl Formula<0> for Descent {
    #[inline(always)]
    fn apply<S: Simd>(self, weight: Lanes<S>, gradient: Lanes<S>, []: [Lanes<S>; 0]) -> (Lanes<S>, [Lanes<S>; 0]) {
        (weight + gradient * self.negative_rate, [])
    }
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
    pub fn step(self, weights: &[f32], gradient: &mut [f32], velocity: &mut [f32]) {
        each(self, weights, gradient, [velocity]);
    }
}

impl Formula<1> for Momentum {
    #[inline(always)]
    fn apply<S: Simd>(
        self,
        weight: Lanes<S>,
        gradient: Lanes<S>,
        [velocity]: [Lanes<S>; 1],
    ) -> (Lanes<S>, [Lanes<S>; 1]) {
        let step = gradient * self.negative_rate;
        let velocity = velocity * self.momentum + step;
        let move_by = if self.nesterov { velocity * self.momentum + step } else { velocity };
        (weight + move_by, [velocity])
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
    pub fn step(self, weights: &[f32], gradient: &mut [f32], moments: [&mut [f32]; 2]) {
        each(self, weights, gradient, moments);
    }
}

impl Formula<2> for Adam {
    #[inline(always)]
    fn apply<S: Simd>(
        self,
        weight: Lanes<S>,
        gradient: Lanes<S>,
        [moment_1, moment_2]: [Lanes<S>; 2],
    ) -> (Lanes<S>, [Lanes<S>; 2]) {
        let moment_1 = moment_1 * self.beta_1 + gradient * self.rest_1;
        let moment_2 = moment_2 * self.beta_2 + gradient * gradient * self.rest_2;
        let decayed = match self.decay {
            Some([rate, decay]) => weight - weight * rate * decay,
            None => weight,
        };
        (decayed + moment_1 * self.negative_alpha / (moment_2.sqrt() + self.epsilon), [moment_1, moment_2])
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
    pub fn step(self, weights: &[f32], gradient: &mut [f32], mean_square: &mut [f32]) {
        each(self, weights, gradient, [mean_square]);
    }

    /// With momentum: `b = momentum · b + learning_rate · g / √(a + ε); w = w − b`.
    pub fn step_with_momentum(self, weights: &[f32], gradient: &mut [f32], states: [&mut [f32]; 2], momentum: f32) {
        each(RmsPropWithMomentum { rms_prop: self, momentum }, weights, gradient, states);
    }

    /// How far a weight moves, and the new mean square.
    #[inline(always)]
    fn moved<S: Simd>(self, gradient: Lanes<S>, mean_square: Lanes<S>) -> (Lanes<S>, Lanes<S>) {
        let mean_square = mean_square * self.rho + gradient * gradient * self.rest;
        let root = if self.epsilon_inside_root {
            (mean_square + self.epsilon).sqrt()
        } else {
            mean_square.sqrt() + self.epsilon
        };
        (gradient * self.rate / root, mean_square)
    }
}

impl Formula<1> for RmsProp {
    #[inline(always)]
    fn apply<S: Simd>(
        self,
        weight: Lanes<S>,
        gradient: Lanes<S>,
        [mean_square]: [Lanes<S>; 1],
    ) -> (Lanes<S>, [Lanes<S>; 1]) {
        let (move_by, mean_square) = self.moved(gradient, mean_square);
        (weight - move_by, [mean_square])
    }
}

#[derive(Clone, Copy)]
struct RmsPropWithMomentum {
    rms_prop: RmsProp,
    momentum: f32,
}

impl Formula<2> for RmsPropWithMomentum {
    #[inline(always)]
    fn apply<S: Simd>(
        self,
        weight: Lanes<S>,
        gradient: Lanes<S>,
        [mean_square, velocity]: [Lanes<S>; 2],
    ) -> (Lanes<S>, [Lanes<S>; 2]) {
        let (move_by, mean_square) = self.rms_prop.moved(gradient, mean_square);
        let velocity = velocity * self.momentum + move_by;
        (weight - velocity, [mean_square, velocity])
    }
}

/// What a step makes of weights and their states.
trait Formula<const N: usize>: Copy + Send + Sync {
    /// Always inlined. Left to the compiler to bring into vectors, plain numbers were not in every build, and RMSprop
    /// took sixteen times as long.
    fn apply<S: Simd>(self, weights: Lanes<S>, gradient: Lanes<S>, states: [Lanes<S>; N]) -> (Lanes<S>, [Lanes<S>; N]);
}

/// Takes a step with every weight, its gradient and its states.
fn each<const N: usize>(formula: impl Formula<N>, weights: &[f32], gradient: &mut [f32], states: [&mut [f32]; N]) {
    let n = weights.len();
    assert!(gradient.len() == n && states.iter().all(|state| state.len() == n));
    let mut states = states.map(|state| state.chunks_mut(PART));
    let parts = weights.chunks(PART).zip(gradient.chunks_mut(PART)).map(|(weights, gradient)| Part {
        weights,
        gradient,
        states: states.each_mut().map(|state| state.next().expect("states are as long as weights")),
        formula,
    });
    parts.collect::<Vec<_>>().into_par_iter().for_each(|part| Arch::new().dispatch(part));
}

struct Part<'a, const N: usize, F> {
    weights: &'a [f32],
    gradient: &'a mut [f32],
    states: [&'a mut [f32]; N],
    formula: F,
}

impl<const N: usize, F: Formula<N>> WithSimd for Part<'_, N, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (weights, last_weights) = S::as_simd_f32s(self.weights);
        let (gradient, last_gradient) = S::as_mut_simd_f32s(self.gradient);
        let mut states: [(&mut [S::f32s], &mut [f32]); N] = self.states.map(|state| S::as_mut_simd_f32s(state));
        for i in 0..weights.len() {
            let mut old = [Lanes::new(simd, gradient[i]); N];
            for n in 0..N {
                old[n] = Lanes::new(simd, states[n].0[i]);
            }
            let (moved, after) = self.formula.apply(Lanes::new(simd, weights[i]), Lanes::new(simd, gradient[i]), old);
            gradient[i] = moved.values;
            for n in 0..N {
                states[n].0[i] = after[n].values;
            }
        }
        if !last_weights.is_empty() {
            let load = |values: &[f32]| Lanes::new(simd, simd.partial_load_f32s(values));
            let old = states.each_ref().map(|state| load(state.1));
            let (moved, after) = self.formula.apply(load(last_weights), load(last_gradient), old);
            simd.partial_store_f32s(last_gradient, moved.values);
            for ((_, state), after) in states.iter_mut().zip(after) {
                simd.partial_store_f32s(state, after.values);
            }
        }
    }
}
