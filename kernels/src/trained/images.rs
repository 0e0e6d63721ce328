//! Products of weights with the windows of images: outputs, and gradients of inputs.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::tile::{NARROW_ROWS, VECTORS, WIDE_ROWS};
use crate::trained::phases::{Grid, Phases};
use crate::trained::product::{add, add_to, tile, zeros};
use crate::trained::rows::{Chunk, Rows};

/// Images `[n][channels][h][w]` and the windows on them.
#[derive(Clone, Debug)]
pub(super) struct Source<'a> {
    pub values: &'a [f32],
    pub n_channels: usize,
    pub grid: Grid,
}

/// Where a window's sum goes in its map.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    /// Height and width of the map.
    pub size: [usize; 2],
    pub first: [usize; 2],
    pub step: usize,
}

/// Values that are copied at once.
const COPIED: usize = 16;

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
    let n_windows = source.grid.output[0] * source.grid.output[1];
    if n_windows * n_images * rows.lines.n_rows == 0 {
        return;
    }
    let n = group(n_images, n_windows);
    let image_len = source.values.len() / n_images;
    let output_len = output.len() / n_images;
    let groups = output.par_chunks_mut(n * output_len).zip(source.values.par_chunks(n * image_len));
    groups.for_each(|(output, values)| {
        Arch::new().dispatch(Group { rows, source: &source, phases: &phases, bias, target, values, output });
    });
}

/// Images that a thread takes at once: few tiles should be half empty, and no thread idle for long.
fn group(n_images: usize, n_windows: usize) -> usize {
    let (width, lanes, threads) = (tile().width, tile().lanes, rayon::current_num_threads());
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

/// Windows that follow each other in one row of one image.
#[derive(Clone, Copy, Debug)]
struct Piece {
    image: usize,
    /// Of a window's place in its padded plane, without the offset of a tap.
    from: usize,
    /// In its tile.
    column: usize,
    tile: usize,
    /// In the target's map.
    to: usize,
    len: usize,
}

struct Group<'a> {
    rows: &'a Rows,
    source: &'a Source<'a>,
    phases: &'a Phases,
    bias: Option<&'a [f32]>,
    target: Target,
    /// Of the group's images alone.
    values: &'a [f32],
    output: &'a mut [f32],
}

impl WithSimd for Group<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        if S::F32_LANES == 16 { self.run::<S, WIDE_ROWS>(simd) } else { self.run::<S, NARROW_ROWS>(simd) }
    }
}

impl Group<'_> {
    #[inline(always)]
    fn run<S: Simd, const ROWS: usize>(mut self, simd: S) {
        let width = VECTORS * S::F32_LANES;
        let [h, w] = self.source.grid.size;
        let n_images = self.values.len() / (self.source.n_channels * h * w);
        let n_windows = n_images * self.source.grid.output[0] * self.source.grid.output[1];
        let n_sums = self.rows.n_blocks * ROWS * width;
        let (mut planes, mut panels, mut sums) = (Vec::new(), Vec::new(), Vec::new());
        for start in (0..n_windows).step_by(TILES * width) {
            let n = (n_windows - start).min(TILES * width);
            let pieces = self.pieces(start, n, width);
            let images = pieces[0].image..pieces[pieces.len() - 1].image + 1;
            sums.clear();
            sums.resize(n.div_ceil(width) * n_sums, 0.0);
            planes.clear();
            planes.resize(images.len() * self.phases.len + COPIED, 0.0);
            for chunk in self.rows.chunks() {
                let n_products = chunk.n_channels * self.rows.lines.n_taps;
                self.pack(chunk, &pieces, images.start, width, &mut planes, &mut panels);
                let panels = panels.chunks_exact(n_products * width + COPIED).zip(sums.chunks_exact_mut(n_sums));
                for (tile, (panel, sums)) in panels.enumerate() {
                    let panel = &panel[..n_products * width];
                    let blocks = chunk.values.chunks_exact(n_products * ROWS).zip(sums.chunks_exact_mut(ROWS * width));
                    match (n - tile * width).div_ceil(S::F32_LANES) {
                        1 => blocks.for_each(|(rows, sums)| block::<S, ROWS, 1>(simd, rows, panel, sums)),
                        2 => blocks.for_each(|(rows, sums)| block::<S, ROWS, 2>(simd, rows, panel, sums)),
                        _ => blocks.for_each(|(rows, sums)| block::<S, ROWS, VECTORS>(simd, rows, panel, sums)),
                    }
                }
            }
            self.write(&pieces, &sums, n_sums, width);
        }
    }

    /// The windows from `start` on, in pieces that can be copied at once.
    fn pieces(&self, start: usize, n: usize, width: usize) -> Vec<Piece> {
        let [rows, columns] = self.source.grid.output;
        // Rows that follow each other without a gap are one.
        let whole = self.phases.in_place && self.phases.pitch == columns && self.target.step == 1;
        let columns = if whole { rows * columns } else { columns };
        let Target { size, first, step } = self.target;
        let mut pieces = Vec::new();
        let mut at = start;
        while at < start + n {
            let (row, x) = (at / columns, at % columns);
            let (image, y) = if whole { (row, 0) } else { (row / rows, row % rows) };
            let column = (at - start) % width;
            let len = (columns - x).min(width - column).min(start + n - at).min(COPIED);
            let to = (first[0] + y * step) * size[1] + first[1] + x * step;
            let from = y * self.phases.pitch + x;
            pieces.push(Piece { image, from, column, tile: (at - start) / width, to, len });
            at += len;
        }
        pieces
    }

    /// Writes a chunk's windows as panels `[tiles][channels · taps][width]`.
    #[inline(always)]
    fn pack(
        &self,
        chunk: Chunk<'_>,
        pieces: &[Piece],
        first_image: usize,
        width: usize,
        planes: &mut [f32],
        panels: &mut Vec<f32>,
    ) {
        let (phases, n_taps) = (self.phases, self.rows.lines.n_taps);
        let [h, w] = self.source.grid.size;
        let last = pieces[pieces.len() - 1];
        // A copy may write behind a panel's end, where nothing reads.
        let panel = chunk.n_channels * n_taps * width + COPIED;
        panels.resize((last.tile + 1) * panel, 0.0);
        for channel in 0..chunk.n_channels {
            let plane = |image: usize| (image * self.source.n_channels + chunk.first_channel + channel) * h * w;
            if !phases.in_place {
                for image in first_image..=last.image {
                    let from = &self.values[plane(image)..][..h * w];
                    let to = &mut planes[(image - first_image) * phases.len..][..phases.len];
                    phases.lines.iter().for_each(|line| line.copy(from, to));
                }
            }
            for (tap, offset) in phases.offsets.iter().enumerate() {
                let product = channel * n_taps + tap;
                for piece in pieces {
                    let from = if phases.in_place {
                        &self.values[plane(piece.image) + piece.from + offset..]
                    } else {
                        &planes[(piece.image - first_image) * phases.len + piece.from + offset..]
                    };
                    let to = &mut panels[piece.tile * panel + product * width + piece.column..];
                    match (from.first_chunk::<COPIED>(), to.first_chunk_mut::<COPIED>()) {
                        (Some(from), Some(to)) => *to = *from,
                        _ => to[..piece.len].copy_from_slice(&from[..piece.len]),
                    }
                }
            }
        }
    }

    /// Brings the sums of a strip into the maps.
    fn write(&mut self, pieces: &[Piece], sums: &[f32], n_sums: usize, width: usize) {
        let plane = self.target.size[0] * self.target.size[1];
        let n_rows = self.rows.lines.n_rows;
        for row in 0..n_rows {
            let bias = self.bias.map_or(0.0, |bias| bias[row]);
            for piece in pieces {
                let sums = &sums[piece.tile * n_sums + row * width + piece.column..][..piece.len];
                let map = &mut self.output[(piece.image * n_rows + row) * plane + piece.to..];
                if self.target.step == 1 {
                    map[..piece.len].iter_mut().zip(sums).for_each(|(value, sum)| *value = sum + bias);
                } else {
                    let values = map.iter_mut().step_by(self.target.step);
                    values.zip(sums).for_each(|(value, sum)| *value = sum + bias);
                }
            }
        }
    }
}

/// A tile: one block of rows, one panel.
#[inline(always)]
fn block<S: Simd, const ROWS: usize, const N: usize>(simd: S, rows: &[f32], panel: &[f32], memory: &mut [f32]) {
    let mut sums = zeros::<S, ROWS, N>(simd);
    add::<S, ROWS, N>(simd, rows, panel, &mut sums);
    add_to::<S, ROWS, N>(simd, &sums, memory);
}
