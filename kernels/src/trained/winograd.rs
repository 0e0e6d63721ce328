//! 3×3 convolutions of stride 1 with 16 products for four output values instead of 36.
//!
//! Source: Lavin and Gray 2016, section 4.1, F(2×2, 3×3): an output tile of 2×2 is `Aᵀ[(G g Gᵀ) ⊙ (Bᵀ d B)]A`, summed over
//! the channels before the last transform.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::tile::{NARROW_ROWS, Tile, Tiled, VECTORS, WIDE_ROWS, in_tiles};
use crate::trained::images::{block, in_groups};
use crate::trained::phases::{Grid, Phases};
use crate::trained::strip::{COPIED, Joined, Packer, Source, Strip};

/// Places of a transformed tile.
const PLACES: usize = 16;

/// Blocks of rows whose sums are in memory at once: panels come from the farther caches once for all of them.
const BLOCKS: usize = 4;

/// Tiles of columns whose sums are in memory at once: weights come from the farther caches once for all of them.
const TILES: usize = 1;

/// Channels whose products are added up at once: with them a panel stays in the nearest cache.
const CHANNELS: usize = 128;

/// Whether it saves more than a quarter of the products of a map of this size.
pub(super) fn saves(output: [usize; 2]) -> bool {
    let tiles = output[0].div_ceil(2) * output[1].div_ceil(2);
    4 * PLACES * tiles < 3 * 9 * output[0] * output[1]
}

/// The sizes of a convolution of this kind.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub n_rows: usize,
    pub n_channels: usize,
    /// Height and width of an input map, and of an output map.
    pub input: [usize; 2],
    pub output: [usize; 2],
    pub before: [usize; 2],
}

/// Writes the convolution of every image: `[n_images, n_rows, h', w']`; a weight is of a row, a channel and a position.
pub(super) fn product(
    n_images: usize,
    sizes: Sizes,
    weight: impl Fn(usize, usize, usize) -> f32 + Sync,
    values: &[f32],
    bias: Option<&[f32]>,
    output: &mut [f32],
) {
    let weights = transformed(sizes, weight);
    let tap = |i: usize| [0, 1].map(|axis| [i / 4, i % 4][axis] as isize - sizes.before[axis] as isize);
    let taps = (0..PLACES).map(tap).collect();
    let grid = Grid { size: sizes.input, step: 2, taps, output: sizes.output.map(|size| size.div_ceil(2)) };
    let phases = Phases::new(&grid);
    let source = Source { values, n_channels: sizes.n_channels, grid };
    in_groups(n_images, &source, output, |values, output| {
        let packer = Packer { source: &source, phases: &phases, values, planes: Vec::new() };
        in_tiles(Group { sizes, weights: &weights, packer, bias, output });
    });
}

/// Kernels `G g Gᵀ`: `[groups of blocks][places][chunks of channels][blocks][channels][rows]`, zeros behind the last row.
fn transformed(sizes: Sizes, weight: impl Fn(usize, usize, usize) -> f32 + Sync) -> Vec<f32> {
    let rows = Tile::here().rows;
    let n_blocks = sizes.n_rows.div_ceil(rows);
    let block_len = PLACES * sizes.n_channels * rows;
    let mut weights = vec![0.0; n_blocks * block_len];
    weights.par_chunks_mut(BLOCKS * block_len).enumerate().for_each(|(group, weights)| {
        Arch::new().dispatch(Transform { sizes, first: group * BLOCKS * rows, weight: &weight, weights });
    });
    weights
}

/// The kernels of some blocks of rows.
struct Transform<'a, F> {
    sizes: Sizes,
    first: usize,
    weight: &'a F,
    weights: &'a mut [f32],
}

impl<F: Fn(usize, usize, usize) -> f32> WithSimd for Transform<'_, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        if S::F32_LANES == 16 { self.run::<WIDE_ROWS>() } else { self.run::<NARROW_ROWS>() }
    }
}

impl<F: Fn(usize, usize, usize) -> f32> Transform<'_, F> {
    #[inline(always)]
    fn run<const ROWS: usize>(self) {
        let n_channels = self.sizes.n_channels;
        let n_blocks = self.weights.len() / (PLACES * n_channels * ROWS);
        for (block, channel) in (0..n_blocks).flat_map(|block| (0..n_channels).map(move |channel| (block, channel))) {
            let first = self.first + block * ROWS;
            let mut kernels = [[0.0; ROWS]; 9];
            for row in first..(first + ROWS).min(self.sizes.n_rows) {
                for (tap, values) in kernels.iter_mut().enumerate() {
                    values[row - first] = (self.weight)(row, channel, tap);
                }
            }
            let mut lines = [[[0.0; ROWS]; 4]; 3];
            for (x, line) in lines.iter_mut().enumerate() {
                *line = four_of(&kernels[x], &kernels[3 + x], &kernels[6 + x]);
            }
            let (chunk, n) = chunk(channel, n_channels);
            let start = (chunk * n_blocks + block * n + channel - chunk) * ROWS;
            let [above, middle, below] = &lines;
            for (y, above) in above.iter().enumerate() {
                let places = four_of(above, &middle[y], &below[y]);
                for (x, values) in places.iter().enumerate() {
                    let start = (y * 4 + x) * n_channels * n_blocks * ROWS + start;
                    self.weights[start..start + ROWS].copy_from_slice(values);
                }
            }
        }
    }
}

/// A column of `G g`.
#[inline(always)]
fn four_of<const ROWS: usize>(a: &[f32; ROWS], b: &[f32; ROWS], c: &[f32; ROWS]) -> [[f32; ROWS]; 4] {
    let mut places = [*a, [0.0; ROWS], [0.0; ROWS], *c];
    for i in 0..ROWS {
        let sum = a[i] + c[i];
        places[1][i] = 0.5 * (sum + b[i]);
        places[2][i] = 0.5 * (sum - b[i]);
    }
    places
}

/// The chunk of a channel: its first, and how many there are.
fn chunk(channel: usize, n_channels: usize) -> (usize, usize) {
    let first = channel / CHANNELS * CHANNELS;
    (first, CHANNELS.min(n_channels - first))
}

struct Group<'a> {
    sizes: Sizes,
    weights: &'a [f32],
    packer: Packer<'a>,
    bias: Option<&'a [f32]>,
    output: &'a mut [f32],
}

impl Tiled for Group<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, const ROWS: usize>(mut self, simd: S) {
        let width = VECTORS * S::F32_LANES;
        let n_channels = self.sizes.n_channels;
        let n_windows = self.packer.n_windows();
        let (panel_len, window_len) = (PLACES * n_channels * width, PLACES * width + COPIED);
        let mut panels = vec![0.0; TILES * panel_len];
        let mut windows = vec![0.0; TILES * window_len];
        let mut sums = vec![0.0; TILES * BLOCKS * PLACES * ROWS * width];
        let mut pixels = vec![0.0; TILES * 4 * width];
        for start in (0..n_windows).step_by(TILES * width) {
            let n = (n_windows - start).min(TILES * width);
            let n_tiles = n.div_ceil(width);
            let strip = Strip::new(&mut self.packer, start, n, width, Joined::Never);
            for channel in 0..n_channels {
                strip.pack(&mut self.packer, channel, window_len, &mut windows);
                let panels = panels.chunks_exact_mut(panel_len);
                for (windows, panels) in windows.chunks_exact(window_len).zip(panels).take(n_tiles) {
                    input::<S>(simd, windows, &mut panels[channel * width..], n_channels * width);
                }
            }
            for (group, weights) in self.weights.chunks(BLOCKS * PLACES * n_channels * ROWS).enumerate() {
                let sums_len = weights.len() / n_channels * width;
                let sums = &mut sums[..n_tiles * sums_len];
                sums.fill(0.0);
                let last = (n - (n_tiles - 1) * width).div_ceil(S::F32_LANES);
                products::<S, ROWS>(simd, n_channels, weights, &panels[..n_tiles * panel_len], sums, last);
                let first = group * BLOCKS * ROWS;
                for row in first..(first + sums_len / (PLACES * width)).min(self.sizes.n_rows) {
                    for (sums, pixels) in sums.chunks_exact(sums_len).zip(pixels.chunks_exact_mut(4 * width)) {
                        output::<S>(simd, &sums[(row - first) * width..], sums_len / PLACES, pixels);
                    }
                    self.write(&strip, row, &pixels, width);
                }
            }
        }
    }
}

impl Group<'_> {
    /// Brings the output tiles of a row of weights into its map: pixels `[tiles][4][width]`.
    #[inline(always)]
    fn write(&mut self, strip: &Strip, row: usize, pixels: &[f32], width: usize) {
        let Sizes { n_rows, output: [h, w], .. } = self.sizes;
        let bias = self.bias.map_or(0.0, |bias| bias[row]);
        for piece in &strip.pieces {
            let map = &mut self.output[(piece.image * n_rows + row) * h * w..][..h * w];
            let pixels = &pixels[piece.tile * 4 * width..][..4 * width];
            for (y, pixels) in pixels.chunks_exact(2 * width).enumerate().take(h - 2 * piece.y) {
                let line = &mut map[(2 * piece.y + y) * w..][..w][2 * piece.x..];
                let (left, right) = pixels.split_at(width);
                let tiles = left[piece.column..].iter().zip(&right[piece.column..]).take(piece.len);
                for (values, (left, right)) in line.chunks_mut(2).zip(tiles) {
                    values[0] = left + bias;
                    if let Some(value) = values.get_mut(1) {
                        *value = right + bias;
                    }
                }
            }
        }
    }
}

/// Sums over the channels of a strip: weights `[places][chunks][blocks][channels][ROWS]`, panels
/// `[tiles][places][channels][width]`, sums `[tiles][places][blocks][ROWS][width]`; of the last tile so many vectors count.
#[inline(always)]
fn products<S: Simd, const ROWS: usize>(
    simd: S,
    n_channels: usize,
    weights: &[f32],
    panels: &[f32],
    sums: &mut [f32],
    last: usize,
) {
    let width = VECTORS * S::F32_LANES;
    let place = weights.len() / PLACES;
    let n_blocks = place / (n_channels * ROWS);
    let n_tiles = panels.len() / (PLACES * n_channels * width);
    for (i, weights) in weights.chunks_exact(place).enumerate() {
        for (chunk, weights) in weights.chunks(CHANNELS * n_blocks * ROWS).enumerate() {
            let n = weights.len() / (n_blocks * ROWS);
            for tile in 0..n_tiles {
                let start = ((tile * PLACES + i) * n_channels + chunk * CHANNELS) * width;
                let panel = &panels[start..start + n * width];
                let sums = &mut sums[(tile * PLACES + i) * n_blocks * ROWS * width..];
                let blocks = weights.chunks_exact(n * ROWS).zip(sums.chunks_exact_mut(ROWS * width));
                match if tile + 1 == n_tiles { last } else { VECTORS } {
                    1 => blocks.for_each(|(rows, sums)| block::<S, ROWS, 1>(simd, rows, panel, sums)),
                    2 => blocks.for_each(|(rows, sums)| block::<S, ROWS, 2>(simd, rows, panel, sums)),
                    _ => blocks.for_each(|(rows, sums)| block::<S, ROWS, VECTORS>(simd, rows, panel, sums)),
                }
            }
        }
    }
}

/// `Bᵀ d B` of a channel's windows `[16][width]`, into 16 panels that are `stride` apart.
#[inline(always)]
fn input<S: Simd>(simd: S, windows: &[f32], panels: &mut [f32], stride: usize) {
    let (windows, _) = S::as_simd_f32s(windows);
    for i in 0..VECTORS {
        let mut columns = [[simd.splat_f32s(0.0); 4]; 4];
        for (x, column) in columns.iter_mut().enumerate() {
            let [a, b, c, d] = [0, 4, 8, 12].map(|y| windows[(y + x) * VECTORS + i]);
            *column = spread(simd, a, b, c, d);
        }
        let [first, second, third, fourth] = columns;
        for (y, a) in first.into_iter().enumerate() {
            let line = spread(simd, a, second[y], third[y], fourth[y]);
            for (x, value) in line.into_iter().enumerate() {
                let start = (y * 4 + x) * stride + i * S::F32_LANES;
                let (to, _) = S::as_mut_simd_f32s(&mut panels[start..start + S::F32_LANES]);
                to[0] = value;
            }
        }
    }
}

/// A column of `Bᵀ d`.
#[inline(always)]
fn spread<S: Simd>(simd: S, a: S::f32s, b: S::f32s, c: S::f32s, d: S::f32s) -> [S::f32s; 4] {
    [simd.sub_f32s(a, c), simd.add_f32s(b, c), simd.sub_f32s(c, b), simd.sub_f32s(b, d)]
}

/// `Aᵀ m A` of a row's sums, 16 that are `stride` apart, as pixels `[2][2][width]`.
#[inline(always)]
fn output<S: Simd>(simd: S, sums: &[f32], stride: usize, pixels: &mut [f32]) {
    let (pixels, _) = S::as_mut_simd_f32s(pixels);
    for i in 0..VECTORS {
        let mut columns = [[simd.splat_f32s(0.0); 2]; 4];
        for (x, both) in columns.iter_mut().enumerate() {
            let mut column = [simd.splat_f32s(0.0); 4];
            for (y, value) in column.iter_mut().enumerate() {
                let start = (y * 4 + x) * stride + i * S::F32_LANES;
                let (vectors, _) = S::as_simd_f32s(&sums[start..start + S::F32_LANES]);
                *value = vectors[0];
            }
            let [a, b, c, d] = column;
            *both = gather(simd, a, b, c, d);
        }
        let [first, second, third, fourth] = columns;
        for (y, a) in first.into_iter().enumerate() {
            let [left, right] = gather(simd, a, second[y], third[y], fourth[y]);
            pixels[(y * 2) * VECTORS + i] = left;
            pixels[(y * 2 + 1) * VECTORS + i] = right;
        }
    }
}

/// A column of `Aᵀ m`.
#[inline(always)]
fn gather<S: Simd>(simd: S, a: S::f32s, b: S::f32s, c: S::f32s, d: S::f32s) -> [S::f32s; 2] {
    [simd.add_f32s(a, simd.add_f32s(b, c)), simd.sub_f32s(b, simd.add_f32s(c, d))]
}
