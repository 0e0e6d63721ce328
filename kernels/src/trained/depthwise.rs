//! Depthwise convolutions and the gradients of their kernels, with neighbouring channels in a vector.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::tile::Tile;
use crate::trained::Shape;
use crate::trained::images::Target;
use crate::trained::phases::Phases;
use crate::trained::strip::Source;

/// Windows whose sums are in registers at once.
const WINDOWS: usize = 4;

/// Positions of a kernel whose sums are in registers at once.
const TAPS: usize = 9;

/// Writes the sum of every window, where a target has one.
///
/// Shape: → `[n_images, channels, target h, target w]`.
pub(super) fn add(
    n_images: usize,
    source: Source<'_>,
    weight: impl Fn(usize, usize) -> f32,
    bias: Option<&[f32]>,
    target: Target,
    output: &mut [f32],
) {
    let phases = Phases::new(&source.grid);
    let (n_channels, n_taps, lanes) = (source.n_channels, phases.offsets.len(), Tile::here().lanes);
    let [h, w] = source.grid.size;
    if output.is_empty() || source.values.is_empty() {
        return;
    }
    let mut weights = vec![0.0; n_channels.next_multiple_of(lanes) * n_taps];
    for (channel, tap) in (0..n_channels).flat_map(|channel| (0..n_taps).map(move |tap| (channel, tap))) {
        weights[(channel / lanes * n_taps + tap) * lanes + channel % lanes] = weight(channel, tap);
    }
    let mut padded = bias.map_or_else(Vec::new, <[f32]>::to_vec);
    padded.resize(n_channels.next_multiple_of(lanes), 0.0);
    let images = source.values.par_chunks(n_channels * h * w);
    let outputs = output.par_chunks_mut(n_channels * target.size[0] * target.size[1]);
    assert_eq!(images.len(), n_images);
    let n_windows = source.grid.output;
    images.zip(outputs).for_each_init(Vec::new, |scratch, (image, output)| {
        let (weights, bias, phases) = (&weights[..], &padded[..], &phases);
        Arch::new().dispatch(Image { phases, n_windows, target, weights, bias, image, plane: h * w, output, scratch });
    });
}

/// One image, all channels.
struct Image<'a> {
    phases: &'a Phases,
    n_windows: [usize; 2],
    target: Target,
    /// `[channels / lanes][taps][lanes]`.
    weights: &'a [f32],
    /// Padded to whole vectors.
    bias: &'a [f32],
    image: &'a [f32],
    plane: usize,
    output: &'a mut [f32],
    scratch: &'a mut Vec<f32>,
}

impl WithSimd for Image<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { phases, n_windows: [rows, columns], plane, .. } = self;
        let lanes = S::F32_LANES;
        self.scratch.clear();
        self.scratch.resize((phases.len + rows * columns) * lanes, 0.0);
        let (pixels, sums) = self.scratch.split_at_mut(phases.len * lanes);
        let target_plane = self.target.size[0] * self.target.size[1];
        let weights = self.weights.chunks_exact(phases.offsets.len() * lanes);
        let blocks = weights.zip(self.bias.chunks_exact(lanes)).zip(self.output.chunks_mut(lanes * target_plane));
        for (((weights, bias), output), planes) in blocks.zip(self.image.chunks(lanes * plane)) {
            phases.interleave(planes, plane, lanes, pixels);
            let (weights, _) = S::as_simd_f32s(weights);
            let (bias, _) = S::as_simd_f32s(bias);
            let (pixels, _) = S::as_simd_f32s(pixels);
            let (vectors, _) = S::as_mut_simd_f32s(sums);
            for (y, sums) in vectors.chunks_exact_mut(columns).enumerate() {
                for (i, sums) in sums.chunks_mut(WINDOWS).enumerate() {
                    let start = y * phases.pitch + i * WINDOWS;
                    match sums.len() {
                        WINDOWS => windows::<S, WINDOWS>(simd, weights, bias[0], &pixels[start..], phases, sums),
                        3 => windows::<S, 3>(simd, weights, bias[0], &pixels[start..], phases, sums),
                        2 => windows::<S, 2>(simd, weights, bias[0], &pixels[start..], phases, sums),
                        _ => windows::<S, 1>(simd, weights, bias[0], &pixels[start..], phases, sums),
                    }
                }
            }
            write(self.target, self.n_windows, lanes, sums, output);
        }
    }
}

#[inline(always)]
fn windows<S: Simd, const N: usize>(
    simd: S,
    weights: &[S::f32s],
    bias: S::f32s,
    pixels: &[S::f32s],
    phases: &Phases,
    output: &mut [S::f32s],
) {
    let mut sums = [bias; N];
    for (weight, offset) in weights.iter().zip(&phases.offsets) {
        let pixels = &pixels[*offset..*offset + N];
        for (sum, pixel) in sums.iter_mut().zip(pixels) {
            *sum = simd.mul_add_f32s(*weight, *pixel, *sum);
        }
    }
    output.copy_from_slice(&sums);
}

/// Brings `[windows][lanes]` into the planes of up to so many channels.
#[inline(always)]
fn write(target: Target, [rows, columns]: [usize; 2], lanes: usize, sums: &[f32], output: &mut [f32]) {
    let Target { size, first, step } = target;
    for (channel, plane) in output.chunks_exact_mut(size[0] * size[1]).enumerate() {
        for y in 0..rows {
            let start = (first[0] + y * step) * size[1] + first[1];
            let sums = sums[y * columns * lanes + channel..].iter().step_by(lanes).take(columns);
            plane[start..].iter_mut().step_by(step).zip(sums).for_each(|(value, sum)| *value = *sum);
        }
    }
}

/// Shape: → `[n_out, 1, kernel, kernel]`.
pub(super) fn kernel_gradient(shape: &Shape, phases: &Phases, input: &[f32], output_gradient: &[f32]) -> Vec<f32> {
    let mut gradient = vec![0.0; shape.n_kernel()];
    if gradient.is_empty() || input.is_empty() || output_gradient.is_empty() {
        return gradient;
    }
    let outputs = Phases::identity(shape.output);
    let blocks = gradient.par_chunks_mut(Tile::here().lanes * shape.n_taps());
    blocks.enumerate().for_each_init(Vec::new, |scratch, (block, gradient)| {
        let part = Block { shape, phases, outputs: &outputs, input, output_gradient, block, gradient, scratch };
        Arch::new().dispatch(part);
    });
    gradient
}

/// The kernels of a vector's channels.
struct Block<'a> {
    shape: &'a Shape,
    phases: &'a Phases,
    outputs: &'a Phases,
    input: &'a [f32],
    output_gradient: &'a [f32],
    block: usize,
    gradient: &'a mut [f32],
    scratch: &'a mut Vec<f32>,
}

impl WithSimd for Block<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { shape, phases, outputs, .. } = self;
        let lanes = S::F32_LANES;
        let first = self.block * lanes;
        let n = lanes.min(shape.n_in - first);
        let n_taps = shape.n_taps();
        // Behind the last position the first is taken again, and left out below.
        let offsets: Vec<usize> = (0..n_taps.next_multiple_of(TAPS)).map(|tap| phases.offsets[tap % n_taps]).collect();
        self.scratch.clear();
        self.scratch.resize((phases.len + outputs.len + offsets.len()) * lanes, 0.0);
        let (pixels, rest) = self.scratch.split_at_mut(phases.len * lanes);
        let (gradients, sums) = rest.split_at_mut(outputs.len * lanes);
        for image in 0..shape.n_images {
            let planes = image * shape.n_in + first;
            let plane = shape.input[0] * shape.input[1];
            phases.interleave(&self.input[planes * plane..][..n * plane], plane, lanes, pixels);
            let plane = outputs.len;
            outputs.interleave(&self.output_gradient[planes * plane..][..n * plane], plane, lanes, gradients);
            let (pixels, _) = S::as_simd_f32s(pixels);
            let (gradients, _) = S::as_simd_f32s(gradients);
            let (sums, _) = S::as_mut_simd_f32s(sums);
            let (offsets, _) = offsets.as_chunks::<TAPS>();
            let (sums, _) = sums.as_chunks_mut::<TAPS>();
            for (sums, offsets) in sums.iter_mut().zip(offsets) {
                let mut local = [simd.splat_f32s(0.0); TAPS];
                for (y, gradients) in gradients.chunks_exact(shape.output[1]).enumerate() {
                    let pixels = &pixels[y * phases.pitch..];
                    let pixels: [&[S::f32s]; TAPS] =
                        std::array::from_fn(|tap| &pixels[offsets[tap]..offsets[tap] + gradients.len()]);
                    for (x, gradient) in gradients.iter().enumerate() {
                        for (sum, pixels) in local.iter_mut().zip(&pixels) {
                            *sum = simd.mul_add_f32s(*gradient, pixels[x], *sum);
                        }
                    }
                }
                sums.iter_mut().zip(local).for_each(|(sum, of_image)| *sum = simd.add_f32s(*sum, of_image));
            }
        }
        for (channel, kernel) in self.gradient.chunks_exact_mut(n_taps).enumerate() {
            let sums = sums[channel..].iter().step_by(lanes);
            kernel.iter_mut().zip(sums).for_each(|(value, sum)| *value = *sum);
        }
    }
}
