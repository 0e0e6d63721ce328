//! Convolutions whose every output pixel sees all input channels.

use pulp::Simd;

use crate::map::{Map, SLACK};
use crate::tile::{Products, Sums, Tile, Tiled, VECTORS, accumulate, in_tiles};
use crate::window::{Before, Clamp, Window};

/// A convolution with its weights laid out for this machine.
#[derive(Clone, Debug)]
pub struct Convolution {
    n_in: usize,
    n_out: usize,
    window: Window,
    /// `[n_out / rows][n_in][kernel²][rows]`, with zeros behind the last channel.
    weights: Vec<f32>,
    /// As many as there are rows in all blocks.
    bias: Vec<f32>,
    rows: usize,
    clamp: Clamp,
}

/// Products of a tile before its sums go back to memory: what they read should stay in the nearest cache.
const PRODUCTS_PER_TILE: usize = 288;

/// Values of a strip of the output, all channels together, and of the input below it.
const STRIP_VALUES: usize = 128 << 10;

impl Convolution {
    /// Lays out a kernel `[n_out, n_in, kernel, kernel]` and a bias `[n_out]`.
    pub fn new(kernel: &[f32], bias: &[f32], n_in: usize, window: Window, clamp: Clamp) -> Self {
        let (n_out, rows) = (bias.len(), Tile::here().rows);
        let area = window.kernel * window.kernel;
        assert_eq!(kernel.len(), n_out * n_in * area, "a kernel has a value for every input channel and position");
        let n_blocks = n_out.div_ceil(rows);
        let mut weights = vec![0.0; n_blocks * n_in * area * rows];
        for (channel, kernel) in kernel.chunks_exact(n_in * area).enumerate() {
            let block = &mut weights[channel / rows * n_in * area * rows..];
            for (i, value) in kernel.iter().enumerate() {
                block[i * rows + channel % rows] = *value;
            }
        }
        let mut padded = bias.to_vec();
        padded.resize(n_blocks * rows, 0.0);
        Self { n_in, n_out, window, weights, bias: padded, rows, clamp }
    }

    /// The kernel `[n_out, n_in, kernel, kernel]`, as it was given.
    pub fn kernel(&self) -> Vec<f32> {
        let n_products = self.n_in * self.window.kernel * self.window.kernel;
        let value = |channel: usize, i: usize| {
            self.weights[(channel / self.rows * n_products + i) * self.rows + channel % self.rows]
        };
        (0..self.n_out).flat_map(|channel| (0..n_products).map(move |i| value(channel, i))).collect()
    }

    /// The bias `[n_out]`.
    pub fn bias(&self) -> &[f32] {
        &self.bias[..self.n_out]
    }

    /// Writes the output of one image; `output.extent` says its size and its border, see [`Window::phases`].
    pub fn run(&self, input: &Map, before: Before, output: &mut Map, scratch: &mut Vec<f32>) {
        let (from, to) = (input.extent, output.extent);
        assert_eq!((from.n_channels, to.n_channels), (self.n_in, self.n_out));
        match self.window.in_place(from, before, to) {
            Some(place) => self.dispatch(&input.values[place.start..], from.plane(), &place.offsets, output),
            None => {
                let phases = self.window.phases(to);
                scratch.clear();
                scratch.resize(from.n_channels * phases.plane + SLACK, 0.0);
                for (channel, plane) in scratch.chunks_exact_mut(phases.plane).take(from.n_channels).enumerate() {
                    self.window.split(input, channel, before, to, plane);
                }
                self.dispatch(scratch, phases.plane, &phases.offsets, output);
            }
        }
        output.clear_border();
    }

    fn dispatch(&self, input: &[f32], plane: usize, offsets: &[usize], output: &mut Map) {
        in_tiles(Run { convolution: self, input, plane, offsets, output });
    }
}

struct Run<'a> {
    convolution: &'a Convolution,
    input: &'a [f32],
    plane: usize,
    offsets: &'a [usize],
    output: &'a mut Map,
}

impl Tiled for Run<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, const ROWS: usize>(mut self, simd: S) {
        let Convolution { n_in, n_out, .. } = *self.convolution;
        assert_eq!(self.convolution.rows, ROWS);
        let tile = VECTORS * S::F32_LANES;
        let n_flat = self.output.extent.n_flat();
        let strip = (STRIP_VALUES / (n_in + n_out)).div_ceil(tile).max(1) * tile;
        let channels = (PRODUCTS_PER_TILE / self.offsets.len()).max(1);
        for start in (0..n_flat).step_by(strip) {
            let end = (start + strip).min(n_flat);
            for first in (0..n_in).step_by(channels) {
                let part = first..(first + channels).min(n_in);
                for block in 0..n_out.div_ceil(ROWS) {
                    let mut at = start;
                    while at < end {
                        match (end - at).div_ceil(S::F32_LANES) {
                            1 => self.tile::<S, ROWS, 1>(simd, block, &part, at),
                            2 => self.tile::<S, ROWS, 2>(simd, block, &part, at),
                            _ => self.tile::<S, ROWS, VECTORS>(simd, block, &part, at),
                        }
                        at += tile;
                    }
                }
            }
        }
    }
}

impl Run<'_> {
    #[inline(always)]
    fn tile<S: Simd, const ROWS: usize, const N: usize>(
        &mut self,
        simd: S,
        block: usize,
        channels: &std::ops::Range<usize>,
        at: usize,
    ) {
        let Convolution { n_in, n_out, weights, bias, clamp, .. } = self.convolution;
        let n_offsets = self.offsets.len();
        let weights = &weights[(block * n_in + channels.start) * n_offsets * ROWS..];
        let weights = &weights[..channels.len() * n_offsets * ROWS];
        let rows = block * ROWS..((block + 1) * ROWS).min(*n_out);
        let plane = self.output.extent.plane();
        let start = self.output.extent.origin() + at;
        let values = &mut self.output.values;
        let mut sums: Sums<S, ROWS, N> = [[simd.splat_f32s(0.0); N]; ROWS];
        for (row, sums) in rows.clone().zip(&mut sums) {
            if channels.start == 0 {
                sums.fill(simd.splat_f32s(bias[row]));
            } else {
                let start = row * plane + start;
                let (before, _) = S::as_simd_f32s(&values[start..start + N * S::F32_LANES]);
                sums.copy_from_slice(before);
            }
        }
        let products = Products {
            weights,
            input: &self.input[channels.start * self.plane + at..],
            plane: self.plane,
            n_channels: channels.len(),
            offsets: self.offsets,
        };
        let mut sums = accumulate::<S, ROWS, N>(simd, products, sums);
        if channels.end == *n_in {
            let (low, high) = (simd.splat_f32s(clamp.low), simd.splat_f32s(clamp.high));
            // The sum stands last, so that a NaN stays one.
            sums.iter_mut().flatten().for_each(|sum| *sum = simd.min_f32s(high, simd.max_f32s(low, *sum)));
        }
        for (row, sums) in rows.zip(&sums) {
            let start = row * plane + start;
            let (after, _) = S::as_mut_simd_f32s(&mut values[start..start + N * S::F32_LANES]);
            after.copy_from_slice(sums);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map::Extent;

    /// Whole numbers small enough that every sum is exact in whatever order.
    fn whole(i: usize) -> f32 {
        (i * 7 % 13) as f32 - 6.0
    }

    /// Sums as they are defined, in f64.
    fn defined(
        x: &[f32],
        from: Extent,
        kernel: &[f32],
        bias: &[f32],
        window: Window,
        before: Before,
        [h, w]: [usize; 2],
    ) -> Vec<f32> {
        let Window { kernel: side, stride } = window;
        let mut output = Vec::new();
        for (o, bias) in bias.iter().enumerate() {
            for (y, x_out) in (0..h).flat_map(|y| (0..w).map(move |x| (y, x))) {
                let mut sum = f64::from(*bias);
                for (c, i) in (0..from.n_channels).flat_map(|c| (0..side * side).map(move |i| (c, i))) {
                    let row = (y * stride + i / side).checked_sub(before[0]).filter(|row| *row < from.height);
                    let column = (x_out * stride + i % side).checked_sub(before[1]).filter(|x| *x < from.width);
                    let Some((row, column)) = row.zip(column) else { continue };
                    let weight = kernel[(o * from.n_channels + c) * side * side + i];
                    sum += f64::from(weight) * f64::from(x[(c * from.height + row) * from.width + column]);
                }
                output.push((sum as f32).clamp(-20.0, 30.0));
            }
        }
        output
    }

    #[test]
    fn every_window_is_the_sum_it_is_defined_as() {
        for (kernel, stride, before, border) in [
            (3, 1, [1, 1], 1),
            (3, 1, [1, 1], 2),
            (3, 1, [0, 0], 0),
            (1, 1, [0, 0], 0),
            (1, 2, [0, 0], 1),
            (3, 2, [0, 1], 1),
            (3, 2, [1, 1], 0),
            (5, 1, [2, 2], 2),
            (7, 2, [3, 3], 0),
        ] {
            for (height, width, n_in, n_out) in [(9, 8, 3, 5), (20, 31, 40, 17), (7, 7, 2, 8)] {
                let out = |size: usize, before: usize| {
                    let after = if before == 0 && kernel == 3 && stride == 1 { 0 } else { kernel / 2 };
                    (size + before + after - kernel) / stride + 1
                };
                let from = Extent { n_channels: n_in, height, width, border };
                let size = [out(height, before[0]), out(width, before[1])];
                let border_out = border.max(Window { kernel, stride }.reach());
                let to = Extent { n_channels: n_out, height: size[0], width: size[1], border: border_out };
                let x: Vec<f32> = (0..n_in * height * width).map(whole).collect();
                let weights: Vec<f32> = (0..n_out * n_in * kernel * kernel).map(|i| whole(3 * i + 1)).collect();
                let bias: Vec<f32> = (0..n_out).map(whole).collect();
                let window = Window { kernel, stride };
                let convolution = Convolution::new(&weights, &bias, n_in, window, Clamp { low: -20.0, high: 30.0 });
                // What a buffer held before must not matter.
                let mut output = Map::new(to, vec![f32::NAN; to.len()]);
                assert_eq!((convolution.kernel(), convolution.bias()), (weights.clone(), &bias[..]));
                let input = Map::from_planes(&x, from, vec![f32::NAN; from.len()]);
                convolution.run(&input, before, &mut output, &mut vec![f32::NAN; 10]);
                let mut planes = vec![0.0; n_out * size[0] * size[1]];
                output.write_planes(&mut planes);
                let expected = defined(&x, from, &weights, &bias, window, before, size);
                assert_eq!(planes, expected, "{kernel}×{kernel}/{stride} {before:?} {height}×{width} {n_in} {n_out}");
            }
        }
    }
}
