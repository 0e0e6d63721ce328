//! Windows of some images, side by side as the columns of tiles.

use crate::trained::phases::{Grid, Line, Phases};

/// Images `[n][channels][h][w]` and the windows on them.
#[derive(Clone, Debug)]
pub(super) struct Source<'a> {
    pub values: &'a [f32],
    pub n_channels: usize,
    pub grid: Grid,
}

/// Windows that follow each other in one row of one image.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    pub image: usize,
    pub y: usize,
    pub x: usize,
    pub tile: usize,
    /// In its tile.
    pub column: usize,
    pub len: usize,
}

/// Whether rows that follow each other without a gap count as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Joined {
    WherePossible,
    Never,
}

/// Values that are copied at once.
pub(super) const COPIED: usize = 16;

/// Windows that follow each other.
#[derive(Clone, Debug)]
pub(super) struct Strip {
    pub pieces: Vec<Piece>,
    width: usize,
    /// What the padded planes are made of, by image.
    lines: Vec<(usize, Line)>,
}

/// The images of a thread, and room for their padded planes.
#[derive(Debug)]
pub(super) struct Packer<'a> {
    pub source: &'a Source<'a>,
    pub phases: &'a Phases,
    /// Of the thread's images alone.
    pub values: &'a [f32],
    pub planes: Vec<f32>,
}

impl Packer<'_> {
    pub fn n_windows(&self) -> usize {
        let Source { n_channels, grid, .. } = self.source;
        self.values.len() / (n_channels * grid.size[0] * grid.size[1]) * grid.output[0] * grid.output[1]
    }
}

impl Strip {
    /// The `n` windows from `start` on, for tiles of `width` columns.
    pub fn new(packer: &mut Packer<'_>, start: usize, n: usize, width: usize, rows: Joined) -> Self {
        let (phases, [n_rows, columns]) = (packer.phases, packer.source.grid.output);
        let is_flat = rows == Joined::WherePossible && phases.is_flat(columns);
        let (rows, columns) = if is_flat { (1, n_rows * columns) } else { (n_rows, columns) };
        let mut pieces: Vec<Piece> = Vec::new();
        let mut at = start;
        while at < start + n {
            let (row, x) = (at / columns, at % columns);
            let column = (at - start) % width;
            let len = (columns - x).min(width - column).min(start + n - at).min(COPIED);
            let (image, y) = (row / rows, row % rows);
            pieces.push(Piece { image, y, x, tile: (at - start) / width, column, len });
            at += len;
        }
        let (first, last) = (pieces[0], pieces[pieces.len() - 1]);
        let mut lines = Vec::new();
        if !phases.in_place {
            packer.planes.clear();
            packer.planes.resize((last.image + 1 - first.image) * phases.len + COPIED, 0.0);
            for image in first.image..=last.image {
                let start = if image == first.image { first.y } else { 0 };
                let end = if image == last.image { last.y + 1 } else { rows } + phases.reach;
                let needed = phases.lines.iter().filter(|line| (start..end).contains(&line.row));
                lines.extend(needed.map(|line| (image, *line)));
            }
        }
        Self { pieces, width, lines }
    }

    /// Writes what the windows read of a channel: `[tiles][tile_len]`, of which the first values are `[taps][width]`.
    ///
    /// A copy may write [`COPIED`] values more, over what later taps of the same tile get.
    #[inline(always)]
    pub fn pack(&self, packer: &mut Packer<'_>, channel: usize, tile_len: usize, to: &mut [f32]) {
        let (phases, n_channels, [h, w]) = (packer.phases, packer.source.n_channels, packer.source.grid.size);
        let first_image = self.pieces[0].image;
        let plane = |image: usize| (image * n_channels + channel) * h * w;
        for (image, line) in &self.lines {
            let from = &packer.values[plane(*image)..][..h * w];
            line.copy(from, &mut packer.planes[(image - first_image) * phases.len..][..phases.len]);
        }
        for (tap, offset) in phases.offsets.iter().enumerate() {
            for piece in &self.pieces {
                let offset = offset + piece.y * phases.pitch + piece.x;
                let from = if phases.in_place {
                    &packer.values[plane(piece.image) + offset..]
                } else {
                    &packer.planes[(piece.image - first_image) * phases.len + offset..]
                };
                let to = &mut to[piece.tile * tile_len + tap * self.width + piece.column..];
                match (from.first_chunk::<COPIED>(), to.first_chunk_mut::<COPIED>()) {
                    (Some(from), Some(to)) => *to = *from,
                    _ => to[..piece.len].copy_from_slice(&from[..piece.len]),
                }
            }
        }
    }
}
