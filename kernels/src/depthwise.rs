//! Convolutions whose every output channel sees the input channel of its own number.

use pulp::{Arch, Simd, WithSimd};

use crate::map::{Map, SLACK};
use crate::tile::{Products, Sums, accumulate};
use crate::window::{Before, Clamp, Window};

/// A depthwise convolution.
#[derive(Clone, Debug)]
pub struct Depthwise {
    window: Window,
    /// `[channels][kernel²]`.
    weights: Vec<f32>,
    bias: Vec<f32>,
    clamp: Clamp,
}

/// Vectors of pixels that are summed side by side, so that no sum waits for the one before.
const VECTORS: usize = 8;

impl Depthwise {
    /// Takes a kernel `[channels, kernel, kernel]` and a bias `[channels]`.
    pub fn new(kernel: &[f32], bias: &[f32], window: Window, clamp: Clamp) -> Self {
        let area = window.kernel * window.kernel;
        assert_eq!(kernel.len(), bias.len() * area, "a kernel has a value for every channel and position");
        Self { window, weights: kernel.to_vec(), bias: bias.to_vec(), clamp }
    }

    /// The kernel `[channels, kernel, kernel]`.
    pub fn kernel(&self) -> &[f32] {
        &self.weights
    }

    /// The bias `[channels]`.
    pub fn bias(&self) -> &[f32] {
        &self.bias
    }

    /// Writes the output of one image; `output.extent` says its size and its border, see [`Window::phases`].
    pub fn run(&self, input: &Map, before: Before, output: &mut Map, scratch: &mut Vec<f32>) {
        let (from, to) = (input.extent, output.extent);
        assert_eq!([from.n_channels, to.n_channels], [self.bias.len(); 2]);
        let place = self.window.in_place(from, before, to);
        let phases = match place {
            Some(_) => None,
            None => Some(self.window.phases(to)),
        };
        for channel in 0..to.n_channels {
            let (input, offsets) = match (&place, &phases) {
                (Some(place), _) => (&input.values[channel * from.plane() + place.start..], &place.offsets),
                (None, None) => unreachable!("a window that is not in place has its phases"),
                (None, Some(phases)) => {
                    scratch.clear();
                    scratch.resize(phases.plane + SLACK, 0.0);
                    self.window.split(input, channel, before, to, &mut scratch[..phases.plane]);
                    (&scratch[..], &phases.offsets)
                }
            };
            let start = channel * to.plane() + to.origin();
            let area = offsets.len();
            Arch::new().dispatch(Channel {
                weights: &self.weights[channel * area..(channel + 1) * area],
                bias: self.bias[channel],
                clamp: self.clamp,
                input,
                offsets,
                n_flat: to.n_flat(),
                output: &mut output.values[start..],
            });
        }
        output.clear_border();
    }
}

struct Channel<'a> {
    weights: &'a [f32],
    bias: f32,
    clamp: Clamp,
    input: &'a [f32],
    offsets: &'a [usize],
    n_flat: usize,
    output: &'a mut [f32],
}

impl WithSimd for Channel<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let mut at = 0;
        while at < self.n_flat {
            match (self.n_flat - at).div_ceil(S::F32_LANES) {
                0..4 => at += self.tile::<S, 1>(simd, at),
                4..VECTORS => at += self.tile::<S, 4>(simd, at),
                _ => at += self.tile::<S, VECTORS>(simd, at),
            }
        }
    }
}

impl Channel<'_> {
    /// Returns how many pixels it has done.
    #[inline(always)]
    fn tile<S: Simd, const N: usize>(&mut self, simd: S, at: usize) -> usize {
        let sums: Sums<S, 1, N> = [[simd.splat_f32s(self.bias); N]];
        let products = Products {
            weights: self.weights,
            input: &self.input[at..],
            plane: 0,
            n_channels: 1,
            offsets: self.offsets,
        };
        let [sums] = accumulate(simd, products, sums);
        let (low, high) = (simd.splat_f32s(self.clamp.low), simd.splat_f32s(self.clamp.high));
        let (output, _) = S::as_mut_simd_f32s(&mut self.output[at..at + N * S::F32_LANES]);
        for (value, sum) in output.iter_mut().zip(sums) {
            *value = simd.min_f32s(high, simd.max_f32s(low, sum));
        }
        N * S::F32_LANES
    }
}
