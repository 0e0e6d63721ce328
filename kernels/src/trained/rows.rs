//! The weights of a product, laid out for its tiles.

use rayon::prelude::*;

use crate::tile::Tile;

/// The sizes of a product's weights.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lines {
    pub n_rows: usize,
    pub n_channels: usize,
    pub n_taps: usize,
}

/// Weights `[chunks][blocks][channels · taps][rows of a block]`, with zeros behind the last row.
#[derive(Clone, Debug)]
pub(super) struct Rows {
    pub lines: Lines,
    pub n_blocks: usize,
    values: Vec<f32>,
    /// Channels of a chunk, but for the last.
    channels: usize,
    /// Rows of a block.
    rows: usize,
}

/// Products of a chunk: with them a tile's columns stay in the nearest cache.
const PRODUCTS: usize = 128;

/// The weights of some channels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunk<'a> {
    pub first_channel: usize,
    pub n_channels: usize,
    /// `[blocks][channels · taps][rows of a block]`.
    pub values: &'a [f32],
}

impl Lines {
    /// Lays out the weights of a row, a channel and a tap each.
    pub fn laid_out(self, weight: impl Fn(usize, usize, usize) -> f32 + Sync) -> Rows {
        let Self { n_rows, n_channels, n_taps } = self;
        let rows = Tile::here().rows;
        let n_blocks = n_rows.div_ceil(rows);
        let channels = (PRODUCTS / n_taps).clamp(1, n_channels);
        let chunk_len = n_blocks * channels * n_taps * rows;
        let mut values = vec![0.0; n_blocks * n_channels * n_taps * rows];
        values.par_chunks_mut(chunk_len).enumerate().for_each(|(chunk, values)| {
            let first = chunk * channels;
            for (block, values) in values.chunks_exact_mut(values.len() / n_blocks).enumerate() {
                for row in block * rows..((block + 1) * rows).min(n_rows) {
                    let column = values.iter_mut().skip(row % rows).step_by(rows);
                    let weights = (0..).flat_map(|channel| (0..n_taps).map(move |tap| (channel, tap)));
                    for (value, (channel, tap)) in column.zip(weights) {
                        *value = weight(row, first + channel, tap);
                    }
                }
            }
        });
        Rows { lines: self, n_blocks, values, channels, rows }
    }
}

impl Rows {
    pub fn chunks(&self) -> impl Iterator<Item = Chunk<'_>> {
        let chunk_len = self.n_blocks * self.channels * self.lines.n_taps * self.rows;
        self.values.chunks(chunk_len).enumerate().map(move |(chunk, values)| {
            let first_channel = chunk * self.channels;
            let n_channels = self.channels.min(self.lines.n_channels - first_channel);
            Chunk { first_channel, n_channels, values }
        })
    }
}
