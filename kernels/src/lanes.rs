//! A vector of values with the operators of numbers, for formulas that are read more than they are tuned.

use std::ops::{Add, Div, Mul, Sub};

use pulp::Simd;

/// As many values as the machine's vectors hold. Every operation rounds on its own.
#[derive(Clone, Copy)]
pub(crate) struct Lanes<S: Simd> {
    simd: S,
    pub(crate) values: S::f32s,
}

// Always inlined, so that they are compiled for the vector unit: a call would be as slow as the rest of a loop.
impl<S: Simd> Lanes<S> {
    #[inline(always)]
    pub(crate) fn new(simd: S, values: S::f32s) -> Self {
        Self { simd, values }
    }

    #[inline(always)]
    fn all(self, value: f32) -> S::f32s {
        self.simd.splat_f32s(value)
    }

    #[inline(always)]
    pub(crate) fn sqrt(self) -> Self {
        Self { values: self.simd.sqrt_f32s(self.values), ..self }
    }
}

impl<S: Simd> Add for Lanes<S> {
    type Output = Self;

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self { values: self.simd.add_f32s(self.values, other.values), ..self }
    }
}

impl<S: Simd> Add<f32> for Lanes<S> {
    type Output = Self;

    #[inline(always)]
    fn add(self, other: f32) -> Self {
        Self { values: self.simd.add_f32s(self.values, self.all(other)), ..self }
    }
}

impl<S: Simd> Sub for Lanes<S> {
    type Output = Self;

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Self { values: self.simd.sub_f32s(self.values, other.values), ..self }
    }
}

impl<S: Simd> Mul for Lanes<S> {
    type Output = Self;

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        Self { values: self.simd.mul_f32s(self.values, other.values), ..self }
    }
}

impl<S: Simd> Mul<f32> for Lanes<S> {
    type Output = Self;

    #[inline(always)]
    fn mul(self, other: f32) -> Self {
        Self { values: self.simd.mul_f32s(self.values, self.all(other)), ..self }
    }
}

impl<S: Simd> Div for Lanes<S> {
    type Output = Self;

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        Self { values: self.simd.div_f32s(self.values, other.values), ..self }
    }
}
