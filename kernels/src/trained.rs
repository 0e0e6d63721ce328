//! Convolutions of batches and their gradients, for layers whose weights change at every step.
//!
//! Everything is in planes, `[images][channels][rows][columns]` without anything around them, and runs on the threads of
//! the rayon pool that it is called from. Weights are laid out anew at each call. The order of a value's additions is
//! fixed by the sizes of the convolution and the machine's vector unit, never by the number of threads; that of an output
//! or of an input's gradient depends on no other image either.

pub mod activation;
mod depthwise;
mod images;
mod kernels;
pub mod linear;
mod phases;
mod planes;
mod product;
mod rows;
mod strip;
mod winograd;
mod winograd_kernels;

use rayon::prelude::*;

use phases::{Grid, Phases};
use strip::Source;

/// A convolution of a batch: its sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub n_images: usize,
    pub n_in: usize,
    pub n_out: usize,
    /// Height and width of an input map, and of an output map.
    pub input: [usize; 2],
    pub output: [usize; 2],
    /// Kernel height and width.
    pub kernel: usize,
    pub stride: usize,
    /// Zeros before the first row and the first column.
    pub before: [usize; 2],
    /// Every output channel sees its own input channel alone.
    pub depthwise: bool,
}

impl Shape {
    pub fn n_input(&self) -> usize {
        self.n_images * self.n_in * self.input[0] * self.input[1]
    }

    pub fn n_output(&self) -> usize {
        self.n_images * self.n_out * self.output[0] * self.output[1]
    }

    /// Values of the kernel `[n_out, n_in, kernel, kernel]`, or `[n_out, 1, kernel, kernel]` of a depthwise one.
    pub fn n_kernel(&self) -> usize {
        self.n_out * self.n_read() * self.n_taps()
    }

    /// Whether [`winograd`] is worth its transforms, for maps of this size.
    fn is_winograd(&self, output: [usize; 2]) -> bool {
        let is_wide = self.n_in.min(self.n_out) >= 32 && self.before.iter().all(|before| *before < 3);
        !self.depthwise && self.kernel == 3 && self.stride == 1 && is_wide && winograd::saves(output)
    }

    /// Input channels that an output channel sees.
    fn n_read(&self) -> usize {
        if self.depthwise { 1 } else { self.n_in }
    }

    fn n_taps(&self) -> usize {
        self.kernel * self.kernel
    }

    /// The input pixels of every output pixel.
    fn forward(&self) -> Grid {
        let tap = |i: usize| {
            [(i / self.kernel) as isize - self.before[0] as isize, (i % self.kernel) as isize - self.before[1] as isize]
        };
        Grid { size: self.input, step: self.stride, taps: (0..self.n_taps()).map(tap).collect(), output: self.output }
    }

    /// The output pixels that every input pixel goes into, by phase of the stride: the phase, its grid, and the position
    /// in the kernel of each of its taps.
    fn backward(&self) -> impl Iterator<Item = ([usize; 2], Grid, Vec<usize>)> {
        let phases = (0..self.stride * self.stride).map(|i| [i / self.stride, i % self.stride]);
        phases.filter_map(move |phase| {
            // Along one axis: the positions that this phase meets, each with how many output pixels away it does.
            let axis = |axis: usize| {
                let before = phase[axis] + self.before[axis];
                let positions = (0..self.kernel).filter(move |position| position % self.stride == before % self.stride);
                positions.map(move |position| (position, (before as isize - position as isize) / self.stride as isize))
            };
            let taps = axis(0).flat_map(|y| axis(1).map(move |x| (y.0 * self.kernel + x.0, [y.1, x.1])));
            let (positions, taps): (Vec<usize>, Vec<[isize; 2]>) = taps.unzip();
            let output = [0, 1].map(|axis| (self.input[axis].saturating_sub(phase[axis])).div_ceil(self.stride));
            let is_empty = taps.is_empty() || output.contains(&0);
            (!is_empty).then_some((phase, Grid { size: self.output, step: 1, taps, output }, positions))
        })
    }

    fn check(&self, input: Option<&[f32]>, kernel: Option<&[f32]>, output: Option<&[f32]>) {
        assert!(!self.depthwise || self.n_in == self.n_out, "a depthwise convolution keeps its channels");
        for (found, expected) in [(input, self.n_input()), (kernel, self.n_kernel()), (output, self.n_output())] {
            assert!(found.is_none_or(|found| found.len() == expected), "a batch has as many values as its shape says");
        }
    }
}

/// The output: `[n_images, n_out, h', w']`.
pub fn output(shape: &Shape, input: &[f32], kernel: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
    shape.check(Some(input), Some(kernel), None);
    let mut output = vec![0.0; shape.n_output()];
    if shape.is_winograd(shape.output) {
        let Shape { n_in, n_out, before, .. } = *shape;
        let (input_size, output_size) = (shape.input, shape.output);
        let sizes = winograd::Sizes { n_rows: n_out, n_channels: n_in, input: input_size, output: output_size, before };
        let weight = |row, channel, tap| kernel[(row * n_in + channel) * 9 + tap];
        winograd::product(shape.n_images, sizes, weight, input, bias, &mut output);
        return output;
    }
    let source = Source { values: input, n_channels: shape.n_in, grid: shape.forward() };
    let target = images::Target { size: shape.output, first: [0, 0], step: 1 };
    let n_taps = shape.n_taps();
    if shape.depthwise {
        let weight = |channel: usize, tap: usize| kernel[channel * n_taps + tap];
        depthwise::add(shape.n_images, source, weight, bias, target, &mut output);
    } else {
        let lines = rows::Lines { n_rows: shape.n_out, n_channels: shape.n_in, n_taps };
        let rows = lines.laid_out(|row, channel, tap| kernel[(row * shape.n_in + channel) * n_taps + tap]);
        images::product(shape.n_images, &rows, source, bias, target, &mut output);
    }
    output
}

/// The gradient of the input, from the output's: `[n_images, n_in, h, w]`.
pub fn input_gradient(shape: &Shape, kernel: &[f32], output_gradient: &[f32]) -> Vec<f32> {
    shape.check(None, Some(kernel), Some(output_gradient));
    let mut gradient = vec![0.0; shape.n_input()];
    if shape.is_winograd(shape.input) {
        let Shape { n_in, n_out, .. } = *shape;
        let (input, output, before) = (shape.output, shape.input, shape.before.map(|before| 2 - before));
        let sizes = winograd::Sizes { n_rows: n_in, n_channels: n_out, input, output, before };
        let weight = |row, channel, tap| kernel[(channel * n_in + row) * 9 + 8 - tap];
        winograd::product(shape.n_images, sizes, weight, output_gradient, None, &mut gradient);
        return gradient;
    }
    for (first, grid, positions) in shape.backward() {
        let n_taps = shape.n_taps();
        let source = Source { values: output_gradient, n_channels: shape.n_out, grid };
        let target = images::Target { size: shape.input, first, step: shape.stride };
        if shape.depthwise {
            let weight = |channel: usize, tap: usize| kernel[channel * n_taps + positions[tap]];
            depthwise::add(shape.n_images, source, weight, None, target, &mut gradient);
        } else {
            let lines = rows::Lines { n_rows: shape.n_in, n_channels: shape.n_out, n_taps: positions.len() };
            let at = |row, channel, tap: usize| kernel[(channel * shape.n_in + row) * n_taps + positions[tap]];
            images::product(shape.n_images, &lines.laid_out(at), source, None, target, &mut gradient);
        }
    }
    gradient
}

/// The gradient of the kernel, summed over the batch: as the kernel.
pub fn kernel_gradient(shape: &Shape, input: &[f32], output_gradient: &[f32]) -> Vec<f32> {
    shape.check(Some(input), None, Some(output_gradient));
    // With fewer channels the transforms take as long as they save.
    if shape.n_in.min(shape.n_out) >= 384 && shape.is_winograd(shape.output) {
        return winograd_kernels::gradient(shape, input, output_gradient);
    }
    let phases = Phases::new(&shape.forward());
    if shape.depthwise {
        depthwise::kernel_gradient(shape, &phases, input, output_gradient)
    } else {
        kernels::gradient(shape, &phases, input, output_gradient)
    }
}

/// The gradient of the bias, summed over the batch: `[n_out]`.
pub fn bias_gradient(shape: &Shape, output_gradient: &[f32]) -> Vec<f32> {
    shape.check(None, None, Some(output_gradient));
    let plane = shape.output[0] * shape.output[1];
    let channel = |channel: usize| {
        let planes = output_gradient.chunks_exact(plane).skip(channel).step_by(shape.n_out);
        planes.map(|plane| plane.iter().sum::<f32>()).sum()
    };
    (0..shape.n_out).into_par_iter().with_min_len(16).map(channel).collect()
}

#[cfg(test)]
mod tests;
