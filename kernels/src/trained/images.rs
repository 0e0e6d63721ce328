//! Products of weights with the windows of images: outputs, and gradients of inputs.

use pulp::Simd;
use rayon::prelude::*;

use crate::tile::{Tile, Tiled, VECTORS, in_tiles};
use crate::trained::phases::Phases;
use crate::trained::product::{add, add_to, zeros};
use crate::trained::rows::Rows;
use crate::trained::strip::{COPIED, Joined, Packer, Piece, Source, Strip};

/// Where a window's sum goes in its map.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    /// Height and width of the map.
    pub size: [usize; 2],
    pub first: [usize; 2],
    pub step: usize,
}

/// Tiles whose sums are in memory at once: weights come from the farther caches once for all of them.
const TILES: usize = 3;

/// Writes a sum for every row of weights and every window.
///
/// Shape: → `[n_images, rows, target h, target w]`.
pub(super) fn product(
    n_images: usize,
    rows: &Rows,
    source: Source<'_>,
    bias: Option<&[f32]>,
    target: Target,
    output: &mut [f32],
) {
    let phases = Phases::new(&source.grid);
    in_groups(n_images, &source, output, |values, output| {
        let packer = Packer { source: &source, phases: &phases, values, planes: Vec::new() };
        in_tiles(Group { rows, packer, bias, target, output });
    });
}

/// Calls for some images at a time, on several threads, with their part of the source and of the output.
pub(super) fn in_groups(
    n_images: usize,
    source: &Source<'_>,
    output: &mut [f32],
    call: impl Fn(&[f32], &mut [f32]) + Sync,
) {
    let n_windows = source.grid.output[0] * source.grid.output[1];
    if n_windows == 0 || source.values.is_empty() || output.is_empty() {
        return;
    }
    let n = group(n_images, n_windows);
    let (image_len, output_len) = (source.values.len() / n_images, output.len() / n_images);
    let groups = output.par_chunks_mut(n * output_len).zip(source.values.par_chunks(n * image_len));
    groups.for_each(|(output, values)| call(values, output));
}

/// Images that a thread takes at once: few tiles should be half empty, and no thread idle for long.
fn group(n_images: usize, n_windows: usize) -> usize {
    let (Tile { width, lanes, .. }, threads) = (Tile::here(), rayon::current_num_threads());
    let cost = |n: usize| {
        // In hundredths of a vector's column; few vectors in a tile use the unit less well.
        let rest = match (n * n_windows % width).div_ceil(lanes) {
            0 => 0,
            1 => 150,
            2 => 220,
            _ => 300,
        };
        let tiles = n * n_windows / width * 300 + rest;
        (4 * n_images.div_ceil(n).div_ceil(threads) + 1) * tiles
    };
    (1..=n_images).min_by_key(|&n| cost(n)).unwrap_or(1)
}

struct Group<'a> {
    rows: &'a Rows,
    packer: Packer<'a>,
    bias: Option<&'a [f32]>,
    target: Target,
    output: &'a mut [f32],
}

impl Tiled for Group<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, const ROWS: usize>(mut self, simd: S) {
        let width = VECTORS * S::F32_LANES;
        let n_taps = self.rows.lines.n_taps;
        let n_windows = self.packer.n_windows();
        let n_sums = self.rows.n_blocks * ROWS * width;
        let joined = if self.target.step == 1 { Joined::WherePossible } else { Joined::Never };
        let (mut panels, mut sums) = (Vec::new(), Vec::new());
        for start in (0..n_windows).step_by(TILES * width) {
            let n = (n_windows - start).min(TILES * width);
            let strip = Strip::new(&mut self.packer, start, n, width, joined);
            sums.clear();
            sums.resize(n.div_ceil(width) * n_sums, 0.0);
            for chunk in self.rows.chunks() {
                let n_products = chunk.n_channels * n_taps;
                let panel = n_products * width + COPIED;
                panels.resize(n.div_ceil(width) * panel, 0.0);
                for channel in 0..chunk.n_channels {
                    let to = &mut panels[channel * n_taps * width..];
                    strip.pack(&mut self.packer, chunk.first_channel + channel, panel, to);
                }
                for (tile, (panel, sums)) in panels.chunks_exact(panel).zip(sums.chunks_exact_mut(n_sums)).enumerate() {
                    let panel = &panel[..n_products * width];
                    let blocks = chunk.values.chunks_exact(n_products * ROWS).zip(sums.chunks_exact_mut(ROWS * width));
                    match (n - tile * width).div_ceil(S::F32_LANES) {
                        1 => blocks.for_each(|(rows, sums)| block::<S, ROWS, 1>(simd, rows, panel, sums)),
                        2 => blocks.for_each(|(rows, sums)| block::<S, ROWS, 2>(simd, rows, panel, sums)),
                        _ => blocks.for_each(|(rows, sums)| block::<S, ROWS, VECTORS>(simd, rows, panel, sums)),
                    }
                }
            }
            self.write(&strip.pieces, &sums, n_sums, width);
        }
    }
}

impl Group<'_> {
    /// Brings the sums of a strip into the maps.
    fn write(&mut self, pieces: &[Piece], sums: &[f32], n_sums: usize, width: usize) {
        let Target { size, first, step } = self.target;
        let n_rows = self.rows.lines.n_rows;
        for row in 0..n_rows {
            let bias = self.bias.map_or(0.0, |bias| bias[row]);
            for piece in pieces {
                let sums = &sums[piece.tile * n_sums + row * width + piece.column..][..piece.len];
                let to = (first[0] + piece.y * step) * size[1] + first[1] + piece.x * step;
                let map = &mut self.output[(piece.image * n_rows + row) * size[0] * size[1] + to..];
                if step == 1 {
                    map[..piece.len].iter_mut().zip(sums).for_each(|(value, sum)| *value = sum + bias);
                } else {
                    map.iter_mut().step_by(step).zip(sums).for_each(|(value, sum)| *value = sum + bias);
                }
            }
        }
    }
}

/// A tile: one block of rows, one panel.
#[inline(always)]
pub(super) fn block<S: Simd, const ROWS: usize, const N: usize>(
    simd: S,
    rows: &[f32],
    panel: &[f32],
    memory: &mut [f32],
) {
    let mut sums = zeros::<S, ROWS, N>(simd);
    add::<S, ROWS, N>(simd, rows, panel, &mut sums);
    add_to::<S, ROWS, N>(simd, &sums, memory);
}
