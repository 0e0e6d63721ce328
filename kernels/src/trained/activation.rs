//! Activations of whole batches and their gradients, one pass each.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// Values that a thread takes at once.
const PART: usize = 1 << 14;

/// `min(max(x, 0), 6)`; a NaN stays one.
pub fn relu6(values: &[f32]) -> Vec<f32> {
    each(values, values, |value, _| value.clamp(0.0, 6.0))
}

/// The gradient of [`relu6`]'s input, from the input and the output's gradient: at the edges, and for a NaN, it passes.
pub fn relu6_gradient(values: &[f32], gradient: &[f32]) -> Vec<f32> {
    each(values, gradient, |value, gradient| match value {
        value if value < 0.0 => 0.0,
        value if value > 6.0 => 0.0,
        _ => gradient,
    })
}

fn each(values: &[f32], others: &[f32], value_of: impl Fn(f32, f32) -> f32 + Sync) -> Vec<f32> {
    assert_eq!(values.len(), others.len());
    let mut results = vec![0.0; values.len()];
    let parts = results.par_chunks_mut(PART).zip(values.par_chunks(PART)).zip(others.par_chunks(PART));
    parts.for_each(|((results, values), others)| {
        Arch::new().dispatch(Part { results, values, others, value_of: &value_of });
    });
    results
}

struct Part<'a, F> {
    results: &'a mut [f32],
    values: &'a [f32],
    others: &'a [f32],
    value_of: &'a F,
}

impl<F: Fn(f32, f32) -> f32> WithSimd for Part<'_, F> {
    type Output = ();

    /// Plain numbers, which the compiler brings into the machine's vectors.
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for ((result, value), other) in self.results.iter_mut().zip(self.values).zip(self.others) {
            *result = (self.value_of)(*value, *other);
        }
    }
}
