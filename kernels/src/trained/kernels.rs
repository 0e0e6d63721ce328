//! The gradient of a kernel: sums over the pixels of a batch.

use pulp::Simd;
use rayon::prelude::*;

use crate::tile::{Tile, Tiled, VECTORS, in_tiles};
use crate::trained::Shape;
use crate::trained::phases::Phases;
use crate::trained::product::{add, add_to, zeros};

/// Values of the images that a tile goes over before its sums go back to memory: they should stay in the nearest cache.
const IMAGE_VALUES: usize = 6 << 10;

/// Blocks of output channels times positions of the kernel that a thread takes at once: their sums should stay in the
/// second cache.
const MAX_SUMS: usize = 36;

/// Shape: → `[n_out, n_in, kernel, kernel]`.
pub(super) fn gradient(shape: &Shape, phases: &Phases, input: &[f32], output_gradient: &[f32]) -> Vec<f32> {
    let (tile, n_images) = (Tile::here(), shape.n_images);
    let mut gradient = vec![0.0; shape.n_kernel()];
    if gradient.is_empty() || input.is_empty() || output_gradient.is_empty() {
        return gradient;
    }
    let pixels = phases.interleaved(input, n_images, shape.n_in, tile.width);
    let outputs = Phases::identity(shape.output).interleaved(output_gradient, n_images, shape.n_out, tile.rows);
    let blocks = (shape.n_out.div_ceil(tile.rows) / (4 * rayon::current_num_threads()))
        .clamp(1, MAX_SUMS / shape.n_taps().min(MAX_SUMS));
    let kernel_len = shape.n_in * shape.n_taps();
    let output_len = n_images * shape.output[0] * shape.output[1];
    let parts = gradient.par_chunks_mut(blocks * tile.rows * kernel_len);
    parts.zip(outputs.par_chunks(blocks * tile.rows * output_len)).for_each(|(gradient, outputs)| {
        in_tiles(Part { shape, phases, pixels: &pixels, outputs, gradient });
    });
    gradient
}

/// The gradients of some output channels.
struct Part<'a> {
    shape: &'a Shape,
    phases: &'a Phases,
    /// `[n_in / width][n_images][pixels][width]`.
    pixels: &'a [f32],
    /// `[blocks][n_images][h' · w'][rows]`.
    outputs: &'a [f32],
    gradient: &'a mut [f32],
}

impl Tiled for Part<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, const ROWS: usize>(mut self, simd: S) {
        let width = VECTORS * S::F32_LANES;
        let n_images = self.shape.n_images;
        let tile_len = n_images * self.phases.len * width;
        let n_blocks = self.outputs.len() / self.block_len::<ROWS>();
        let mut sums = vec![0.0; n_blocks * self.shape.n_taps() * ROWS * width];
        for (tile, pixels) in self.pixels.chunks_exact(tile_len).enumerate() {
            sums.fill(0.0);
            let n_channels = (self.shape.n_in - tile * width).min(width);
            match n_channels.div_ceil(S::F32_LANES) {
                1 => self.tile::<S, ROWS, 1>(simd, pixels, &mut sums),
                2 => self.tile::<S, ROWS, 2>(simd, pixels, &mut sums),
                _ => self.tile::<S, ROWS, VECTORS>(simd, pixels, &mut sums),
            }
            self.write::<ROWS>(tile * width..tile * width + n_channels, width, &sums);
        }
    }
}

impl Part<'_> {
    fn block_len<const ROWS: usize>(&self) -> usize {
        self.shape.n_images * self.shape.output[0] * self.shape.output[1] * ROWS
    }

    /// Adds up what some input channels give: sums `[blocks][taps][rows][width]`.
    #[inline(always)]
    fn tile<S: Simd, const ROWS: usize, const N: usize>(&self, simd: S, pixels: &[f32], sums: &mut [f32]) {
        let width = VECTORS * S::F32_LANES;
        let Self { shape, phases, .. } = self;
        let [rows, columns] = shape.output;
        // Images that follow each other without a gap are one.
        let (rows, columns, image) = match phases.is_flat(columns) {
            true => (1, IMAGE_VALUES / width, IMAGE_VALUES / width),
            false => (rows, columns, phases.len),
        };
        let n = (IMAGE_VALUES / (image * width)).max(1);
        for (chunk, pixels) in pixels.chunks(n * image * width).enumerate() {
            let blocks = self.outputs.chunks_exact(self.block_len::<ROWS>());
            for (outputs, sums) in blocks.zip(sums.chunks_exact_mut(shape.n_taps() * ROWS * width)) {
                let outputs = &outputs[chunk * n * rows * columns * ROWS..];
                for (offset, memory) in phases.offsets.iter().zip(sums.chunks_exact_mut(ROWS * width)) {
                    let mut sums = zeros::<S, ROWS, N>(simd);
                    for (pixels, outputs) in pixels.chunks(image * width).zip(outputs.chunks(rows * columns * ROWS)) {
                        for (y, outputs) in outputs.chunks(columns * ROWS).enumerate() {
                            let pixels = &pixels[(y * phases.pitch + offset) * width..];
                            add::<S, ROWS, N>(simd, outputs, &pixels[..outputs.len() / ROWS * width], &mut sums);
                        }
                    }
                    add_to::<S, ROWS, N>(simd, &sums, memory);
                }
            }
        }
    }

    fn write<const ROWS: usize>(&mut self, channels: std::ops::Range<usize>, width: usize, sums: &[f32]) {
        let n_taps = self.shape.n_taps();
        for (row, kernel) in self.gradient.chunks_exact_mut(self.shape.n_in * n_taps).enumerate() {
            let sums = &sums[row / ROWS * n_taps * ROWS * width + row % ROWS * width..];
            let kernel = kernel[channels.start * n_taps..channels.end * n_taps].chunks_exact_mut(n_taps);
            for (channel, kernel) in kernel.enumerate() {
                let sums = sums[channel..].iter().step_by(ROWS * width);
                kernel.iter_mut().zip(sums).for_each(|(value, sum)| *value = *sum);
            }
        }
    }
}
