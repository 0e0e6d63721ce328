//! The gradient of a 3×3 kernel of stride 1, with 16 products for four output values instead of 36.
//!
//! It is the way back of [`crate::trained::winograd`]: from a tile's `Aᵀ[(G g Gᵀ) ⊙ (Bᵀ d B)]A` follows the kernel's
//! gradient `Gᵀ[(A y Aᵀ) ⊙ (Bᵀ d B)]G`, summed over the tiles of all images before the last transform.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::tile::{NARROW_ROWS, Tile, Tiled, VECTORS, WIDE_ROWS, in_tiles};
use crate::trained::Shape;
use crate::trained::images::block;
use crate::trained::phases::{Grid, Phases};

/// Places of a transformed tile.
const PLACES: usize = 16;

/// Blocks of output channels that a thread takes at once, at most: their sums should stay in the second cache.
const MAX_BLOCKS: usize = 8;

/// Tiles whose products are added up at once: with them a panel stays in the nearest cache.
const TILES: usize = 128;

/// Shape: → `[n_out, n_in, 3, 3]`.
pub(super) fn gradient(shape: &Shape, input: &[f32], output_gradient: &[f32]) -> Vec<f32> {
    let (tile, n_images) = (Tile::here(), shape.n_images);
    let mut gradient = vec![0.0; shape.n_kernel()];
    if input.is_empty() || output_gradient.is_empty() {
        return gradient;
    }
    let tiles = shape.output.map(|size| size.div_ceil(2));
    let grid = |side: usize, size: [usize; 2], before: [usize; 2]| {
        let tap = |i: usize| [0, 1].map(|axis| [i / side, i % side][axis] as isize - before[axis] as isize);
        Grid { size, step: 2, taps: (0..side * side).map(tap).collect(), output: tiles }
    };
    let inputs = Phases::new(&grid(4, shape.input, shape.before));
    let outputs = Phases::new(&grid(2, shape.output, [0, 0]));
    let windows = inputs.interleaved(input, n_images, shape.n_in, tile.width);
    let windows = transformed(&inputs, tiles, n_images, tile.width, &windows, Kind::Windows);
    let values = outputs.interleaved(output_gradient, n_images, shape.n_out, tile.rows);
    let values = transformed(&outputs, tiles, n_images, tile.rows, &values, Kind::Values);
    let n_tiles = n_images * tiles[0] * tiles[1];
    let blocks = (shape.n_out.div_ceil(tile.rows) / (4 * rayon::current_num_threads())).clamp(1, MAX_BLOCKS);
    let parts = gradient.par_chunks_mut(blocks * tile.rows * shape.n_in * 9);
    parts.zip(values.par_chunks(blocks * PLACES * n_tiles * tile.rows)).for_each(|(gradient, values)| {
        in_tiles(Part { n_in: shape.n_in, n_tiles, windows: &windows, values, gradient });
    });
    gradient
}

/// What is transformed.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// `Bᵀ d B` of 4×4 input pixels.
    Windows,
    /// `A y Aᵀ` of 2×2 output values.
    Values,
}

/// Pixels `[channels / width][n_images][pixels][width]` as `[channels / width][16][n_images · tiles][width]`.
fn transformed(
    phases: &Phases,
    tiles: [usize; 2],
    n_images: usize,
    width: usize,
    pixels: &[f32],
    kind: Kind,
) -> Vec<f32> {
    let n_tiles = n_images * tiles[0] * tiles[1];
    let image_len = phases.len * width;
    let mut places = vec![0.0; pixels.len() / (image_len * n_images) * PLACES * n_tiles * width];
    let channels = places.par_chunks_mut(PLACES * n_tiles * width).zip(pixels.par_chunks(n_images * image_len));
    channels.for_each(|(places, pixels)| {
        Arch::new().dispatch(Transform { phases, tiles, width, pixels, kind, places });
    });
    places
}

struct Transform<'a> {
    phases: &'a Phases,
    tiles: [usize; 2],
    width: usize,
    pixels: &'a [f32],
    kind: Kind,
    places: &'a mut [f32],
}

impl WithSimd for Transform<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        match (self.kind, self.width) {
            (Kind::Windows, 48) => self.windows::<48>(),
            (Kind::Windows, 24) => self.windows::<24>(),
            (Kind::Windows, 12) => self.windows::<12>(),
            (Kind::Windows, _) => self.windows::<VECTORS>(),
            (Kind::Values, WIDE_ROWS) => self.values::<WIDE_ROWS>(),
            (Kind::Values, _) => self.values::<NARROW_ROWS>(),
        }
    }
}

impl Transform<'_> {
    #[inline(always)]
    fn windows<const WIDTH: usize>(self) {
        self.each::<WIDTH, 16>(
            #[inline(always)]
            |pixels| {
                let mut columns = [[[0.0; WIDTH]; 4]; 4];
                for (x, column) in columns.iter_mut().enumerate() {
                    *column = spread(pixels[x], pixels[4 + x], pixels[8 + x], pixels[12 + x]);
                }
                let mut lines = [[[0.0; WIDTH]; 4]; 4];
                for (y, line) in lines.iter_mut().enumerate() {
                    *line = spread(&columns[0][y], &columns[1][y], &columns[2][y], &columns[3][y]);
                }
                lines
            },
        );
    }

    #[inline(always)]
    fn values<const WIDTH: usize>(self) {
        self.each::<WIDTH, 4>(
            #[inline(always)]
            |pixels| {
                let (left, right) = (four_of(pixels[0], pixels[2]), four_of(pixels[1], pixels[3]));
                let mut lines = [[[0.0; WIDTH]; 4]; 4];
                for (y, line) in lines.iter_mut().enumerate() {
                    *line = four_of(&left[y], &right[y]);
                }
                lines
            },
        );
    }

    /// Writes what becomes of each tile's pixels.
    #[inline(always)]
    fn each<const WIDTH: usize, const N: usize>(self, places: impl Fn([&[f32; WIDTH]; N]) -> [[[f32; WIDTH]; 4]; 4]) {
        let [rows, columns] = self.tiles;
        let (pixels, _) = self.pixels.as_chunks::<WIDTH>();
        let (to, _) = self.places.as_chunks_mut::<WIDTH>();
        let n_tiles = to.len() / PLACES;
        for (image, pixels) in pixels.chunks_exact(self.phases.len).enumerate() {
            for (y, x) in (0..rows).flat_map(|y| (0..columns).map(move |x| (y, x))) {
                let mut window = [&pixels[0]; N];
                for (pixel, offset) in window.iter_mut().zip(&self.phases.offsets) {
                    *pixel = &pixels[y * self.phases.pitch + x + offset];
                }
                let lines = places(window);
                let tile = (image * rows + y) * columns + x;
                for (place, value) in lines.as_flattened().iter().enumerate() {
                    to[place * n_tiles + tile] = *value;
                }
            }
        }
    }
}

/// A column of `Bᵀ d`.
#[inline(always)]
fn spread<const WIDTH: usize>(
    a: &[f32; WIDTH],
    b: &[f32; WIDTH],
    c: &[f32; WIDTH],
    d: &[f32; WIDTH],
) -> [[f32; WIDTH]; 4] {
    let mut places = [[0.0; WIDTH]; 4];
    for i in 0..WIDTH {
        places[0][i] = a[i] - c[i];
        places[1][i] = b[i] + c[i];
        places[2][i] = c[i] - b[i];
        places[3][i] = b[i] - d[i];
    }
    places
}

/// A column of `A y`.
#[inline(always)]
fn four_of<const WIDTH: usize>(a: &[f32; WIDTH], b: &[f32; WIDTH]) -> [[f32; WIDTH]; 4] {
    let mut places = [*a, [0.0; WIDTH], [0.0; WIDTH], [0.0; WIDTH]];
    for i in 0..WIDTH {
        places[1][i] = a[i] + b[i];
        places[2][i] = a[i] - b[i];
        places[3][i] = -b[i];
    }
    places
}

/// The gradients of some output channels.
struct Part<'a> {
    n_in: usize,
    n_tiles: usize,
    /// `[n_in / width][16][tiles][width]`.
    windows: &'a [f32],
    /// `[blocks][16][tiles][rows]`.
    values: &'a [f32],
    gradient: &'a mut [f32],
}

impl Tiled for Part<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, const ROWS: usize>(self, simd: S) {
        let width = VECTORS * S::F32_LANES;
        let n_blocks = self.values.len() / (PLACES * self.n_tiles * ROWS);
        // `[16][blocks][ROWS][width]`.
        let mut sums = vec![0.0; PLACES * n_blocks * ROWS * width];
        for (tile, windows) in self.windows.chunks_exact(PLACES * self.n_tiles * width).enumerate() {
            sums.fill(0.0);
            let n = (self.n_in - tile * width).min(width);
            match n.div_ceil(S::F32_LANES) {
                1 => self.products::<S, ROWS, 1>(simd, windows, &mut sums),
                2 => self.products::<S, ROWS, 2>(simd, windows, &mut sums),
                _ => self.products::<S, ROWS, VECTORS>(simd, windows, &mut sums),
            }
            for (row, kernel) in self.gradient.chunks_exact_mut(self.n_in * 9).enumerate() {
                let kernel = &mut kernel[tile * width * 9..(tile * width + n) * 9];
                let (sums, stride) = (&sums[row * width..], n_blocks * ROWS * width);
                match width {
                    48 => write::<48>(sums, stride, kernel),
                    24 => write::<24>(sums, stride, kernel),
                    12 => write::<12>(sums, stride, kernel),
                    _ => write::<VECTORS>(sums, stride, kernel),
                }
            }
        }
    }
}

impl Part<'_> {
    #[inline(always)]
    fn products<S: Simd, const ROWS: usize, const N: usize>(&self, simd: S, windows: &[f32], sums: &mut [f32]) {
        let width = VECTORS * S::F32_LANES;
        let n_tiles = self.n_tiles;
        let n_blocks = sums.len() / (PLACES * ROWS * width);
        let places = windows.chunks_exact(n_tiles * width).zip(sums.chunks_exact_mut(n_blocks * ROWS * width));
        for (place, (windows, sums)) in places.enumerate() {
            for (chunk, panel) in windows.chunks(TILES * width).enumerate() {
                for (i, sums) in sums.chunks_exact_mut(ROWS * width).enumerate() {
                    let values = &self.values[((i * PLACES + place) * n_tiles + chunk * TILES) * ROWS..];
                    block::<S, ROWS, N>(simd, &values[..panel.len() / width * ROWS], panel, sums);
                }
            }
        }
    }
}

/// `Gᵀ M G` of a row's sums, 16 that are `stride` apart, as `[channels][9]`.
#[inline(always)]
fn write<const WIDTH: usize>(sums: &[f32], stride: usize, kernel: &mut [f32]) {
    let mut places = [[0.0; WIDTH]; PLACES];
    for (place, values) in places.iter_mut().enumerate() {
        values.copy_from_slice(&sums[place * stride..place * stride + WIDTH]);
    }
    let mut columns = [[[0.0; WIDTH]; 3]; 4];
    for (x, column) in columns.iter_mut().enumerate() {
        *column = three_of(&places[x], &places[4 + x], &places[8 + x], &places[12 + x]);
    }
    let [first, second, third, fourth] = &columns;
    for (y, first) in first.iter().enumerate() {
        for (x, values) in three_of(first, &second[y], &third[y], &fourth[y]).iter().enumerate() {
            let to = kernel[y * 3 + x..].iter_mut().step_by(9);
            to.zip(values).for_each(|(to, value)| *to = *value);
        }
    }
}

/// A column of `Gᵀ M`.
#[inline(always)]
fn three_of<const WIDTH: usize>(
    a: &[f32; WIDTH],
    b: &[f32; WIDTH],
    c: &[f32; WIDTH],
    d: &[f32; WIDTH],
) -> [[f32; WIDTH]; 3] {
    let mut values = [[0.0; WIDTH]; 3];
    for i in 0..WIDTH {
        let half = 0.5 * (b[i] + c[i]);
        values[0][i] = a[i] + half;
        values[1][i] = 0.5 * (b[i] - c[i]);
        values[2][i] = half + d[i];
    }
    values
}
