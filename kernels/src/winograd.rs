//! 3×3 convolutions with a quarter of the products: Winograd's F(4×4, 3×3).
//!
//! A tile of 6×6 input pixels gives 4×4 output pixels. Kernels and tiles are brought into a space in which a convolution
//! is a product for each of 36 places; there, tiles are the columns of matrix products over the channels.
//! Source: Lavin and Gray 2015, "Fast Algorithms for Convolutional Neural Networks", section 4.3.
//!
//! Additions are in another order than in [`crate::convolution`], so that results differ in their last bits; they depend
//! as little on the size of a map or batch as there.

use pulp::{Arch, Simd};

use crate::map::Map;
use crate::tile::{Products, Sums, Tile, Tiled, VECTORS, accumulate, in_tiles};
use crate::window::Clamp;

/// Input pixels of a tile along an axis, and output pixels.
const IN: usize = 6;
const OUT: usize = 4;
const N_PLACES: usize = IN * IN;

/// Most tiles whose products are computed together, where a row of tiles has no more: they should stay in the second
/// cache.
const MAX_TILES: usize = 100;

/// A convolution whose kernels are in Winograd's space.
#[derive(Clone, Debug)]
pub struct Winograd {
    n_in: usize,
    n_out: usize,
    /// `[36][n_out / rows][n_in][rows]`.
    weights: Vec<f32>,
    bias: Vec<f32>,
    rows: usize,
    clamp: Clamp,
}

/// A thread's buffers.
#[derive(Clone, Debug, Default)]
pub struct Buffers {
    /// `[36][n_in][tiles]`.
    tiles: Vec<f32>,
    /// `[36][n_out][tiles]`.
    products: Vec<f32>,
    /// Rows of one channel on the way.
    rows: Vec<f32>,
}

impl Winograd {
    /// Transforms a kernel `[n_out, n_in, 3, 3]`; the bias is `[n_out]`.
    pub fn new(kernel: &[f32], bias: &[f32], n_in: usize, clamp: Clamp) -> Self {
        let (n_out, rows) = (bias.len(), Tile::here().rows);
        assert_eq!(kernel.len(), n_out * n_in * 9, "a kernel has nine values for every pair of channels");
        let n_blocks = n_out.div_ceil(rows);
        let mut weights = vec![0.0; N_PLACES * n_blocks * n_in * rows];
        for (i, kernel) in kernel.chunks_exact(9).enumerate() {
            let (channel, input) = (i / n_in, i % n_in);
            for (place, value) in transformed_kernel(kernel).into_iter().enumerate() {
                let block = place * n_blocks + channel / rows;
                weights[(block * n_in + input) * rows + channel % rows] = value;
            }
        }
        Self { n_in, n_out, weights, bias: bias.to_vec(), rows, clamp }
    }

    /// Products of a pair of channels for a map of this size, those for padded tiles included; a direct convolution has
    /// nine for every pixel.
    pub fn n_products(height: usize, width: usize) -> usize {
        let n_tiles = height.div_ceil(OUT) * width.div_ceil(OUT);
        N_PLACES * n_tiles.next_multiple_of(16)
    }

    /// Writes the output of one image: as large as the input, which one zero stands around.
    pub fn run(&self, input: &Map, output: &mut Map, buffers: &mut Buffers) {
        let (from, to) = (input.extent, output.extent);
        assert_eq!((from.n_channels, to.n_channels), (self.n_in, self.n_out));
        assert_eq!((from.height, from.width), (to.height, to.width));
        let (n_down, n_across) = (from.height.div_ceil(OUT), from.width.div_ceil(OUT));
        let n_at_once = rows_at_once(n_down, n_across);
        for first in (0..n_down).step_by(n_at_once) {
            let n_down = n_at_once.min(n_down - first);
            let chunk = Chunk { first, n_down, n_across, pitch: (n_down * n_across).next_multiple_of(16) };
            resize(&mut buffers.tiles, N_PLACES * self.n_in * chunk.pitch);
            resize(&mut buffers.products, N_PLACES * self.n_out * chunk.pitch);
            Arch::new().dispatch(|| self.tiles_from(input, chunk, buffers));
            in_tiles(Multiply { winograd: self, pitch: chunk.pitch, buffers });
            Arch::new().dispatch(|| self.pixels_into(output, chunk, buffers));
        }
        output.clear_border();
    }

    /// Brings the tiles of all channels into Winograd's space.
    #[inline(always)]
    fn tiles_from(&self, input: &Map, chunk: Chunk, buffers: &mut Buffers) {
        let Chunk { first, n_down, n_across, pitch } = chunk;
        let (height, width) = (input.extent.height, input.extent.width);
        // One pixel before the row and one behind, in whole groups of four, twice: a tile reads six.
        let n_columns = (n_across + 1) * OUT;
        let Buffers { tiles, rows, .. } = buffers;
        resize(rows, 2 * IN * n_columns);
        let (pixels, phases) = rows.split_at_mut(IN * n_columns);
        for channel in 0..self.n_in {
            for down in 0..n_down {
                for (i, line) in pixels.chunks_exact_mut(n_columns).enumerate() {
                    line.fill(0.0);
                    let y = ((first + down) * OUT + i).checked_sub(1).filter(|y| *y < height);
                    if let Some(y) = y {
                        line[1..=width].copy_from_slice(input.row(channel, y));
                    }
                }
                vertically(pixels, n_columns);
                for (i, line) in pixels.chunks_exact(n_columns).enumerate() {
                    let (phases, n) = (&mut phases[..n_columns], n_across + 1);
                    apart(line, phases, n);
                    let at = |j: usize| ((i * IN + j) * self.n_in + channel) * pitch + down * n_across;
                    horizontally(phases, n, n_across, tiles, at);
                }
            }
        }
    }

    /// Brings products back into pixels.
    #[inline(always)]
    fn pixels_into(&self, output: &mut Map, chunk: Chunk, buffers: &mut Buffers) {
        let Chunk { first, n_down, n_across, pitch } = chunk;
        let (height, width) = (output.extent.height, output.extent.width);
        let Buffers { products, rows, .. } = buffers;
        resize(rows, OUT * IN * pitch + OUT * pitch);
        let (lines, phases) = rows.split_at_mut(OUT * IN * pitch);
        for channel in 0..self.n_out {
            // Down the columns of the 6×6 places, for all tiles at once.
            for j in 0..IN {
                let column: [&[f32]; IN] = std::array::from_fn(|i| {
                    let start = ((i * IN + j) * self.n_out + channel) * pitch;
                    &products[start..start + pitch]
                });
                let mut lines = lines.chunks_exact_mut(pitch).skip(j).step_by(IN);
                let mut next = || lines.next().expect("four rows of six");
                let outputs = [next(), next(), next(), next()];
                back(column, outputs, 0.0, Clamp::NONE);
            }
            for (i, places) in lines.chunks_exact(IN * pitch).enumerate() {
                let row: [&[f32]; IN] = std::array::from_fn(|j| &places[j * pitch..(j + 1) * pitch]);
                let mut parts = phases.chunks_exact_mut(pitch);
                let mut next = || parts.next().expect("four pixels of a tile");
                back(row, [next(), next(), next(), next()], self.bias[channel], self.clamp);
                for down in 0..n_down {
                    let y = (first + down) * OUT + i;
                    if y >= height {
                        continue;
                    }
                    let part = |j: usize| &phases[j * pitch + down * n_across..j * pitch + (down + 1) * n_across];
                    let row = output.row_mut(channel, y);
                    let whole = width / OUT * OUT;
                    let pixels = row[..whole].chunks_exact_mut(OUT);
                    for (pixels, (((a, b), c), d)) in pixels.zip(part(0).iter().zip(part(1)).zip(part(2)).zip(part(3)))
                    {
                        pixels.copy_from_slice(&[*a, *b, *c, *d]);
                    }
                    for (j, pixel) in row[whole..].iter_mut().enumerate() {
                        *pixel = part(j)[whole / OUT];
                    }
                }
            }
        }
    }
}

/// Rows of tiles that leave the fewest places of vectors empty.
fn rows_at_once(n_down: usize, n_across: usize) -> usize {
    let most = (MAX_TILES / n_across).clamp(1, n_down);
    let n_padded = |n_rows: usize| {
        let (n_whole, rest) = (n_down / n_rows, n_down % n_rows);
        n_whole * (n_rows * n_across).next_multiple_of(16) + (rest * n_across).next_multiple_of(16)
    };
    (1..=most).min_by_key(|n_rows| n_padded(*n_rows)).unwrap_or(1)
}

/// Rows of tiles that are computed together.
#[derive(Clone, Copy)]
struct Chunk {
    first: usize,
    n_down: usize,
    n_across: usize,
    /// Tiles from a channel to the next: whole vectors.
    pitch: usize,
}

/// `G g Gᵀ`, in f64.
fn transformed_kernel(kernel: &[f32]) -> [f32; N_PLACES] {
    const G: [[f64; 3]; IN] = [
        [1.0 / 4.0, 0.0, 0.0],
        [-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
        [-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0],
        [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
        [1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0],
        [0.0, 0.0, 1.0],
    ];
    std::array::from_fn(|place| {
        let (i, j) = (place / IN, place % IN);
        let products = (0..9).map(|k| G[i][k / 3] * f64::from(kernel[k]) * G[j][k % 3]);
        products.sum::<f64>() as f32
    })
}

/// `Bᵀ` of six values.
#[inline(always)]
fn forth([a, b, c, d, e, f]: [f32; IN]) -> [f32; IN] {
    let (even, odd) = (e - 4.0 * c, d - 4.0 * b);
    let (difference, twice) = (e - c, 2.0 * (d - b));
    [4.0 * a - 5.0 * c + e, even + odd, even - odd, difference + twice, difference - twice, 4.0 * b - 5.0 * d + f]
}

/// `Bᵀ` down the columns of six rows, in place.
#[inline(always)]
fn vertically(rows: &mut [f32], n_columns: usize) {
    let [a, b, c, d, e, f] = sixths(rows, n_columns);
    for x in 0..n_columns {
        [a[x], b[x], c[x], d[x], e[x], f[x]] = forth([a[x], b[x], c[x], d[x], e[x], f[x]]);
    }
}

#[inline(always)]
fn sixths(rows: &mut [f32], n: usize) -> [&mut [f32]; IN] {
    let mut rows = rows.chunks_exact_mut(n);
    std::array::from_fn(|_| rows.next().expect("there are six"))
}

/// Puts every fourth value together: `[n][4]` → `[4][n]`.
#[inline(always)]
fn apart(line: &[f32], phases: &mut [f32], n: usize) {
    let (a, rest) = phases.split_at_mut(n);
    let (b, rest) = rest.split_at_mut(n);
    let (c, d) = rest.split_at_mut(n);
    let (groups, _) = line.as_chunks::<OUT>();
    for (group, (((a, b), c), d)) in groups[..n].iter().zip(a.iter_mut().zip(b).zip(c).zip(d)) {
        [*a, *b, *c, *d] = *group;
    }
}

/// `Bᵀ` along a row, for all tiles of it: place `j` of the first tile goes to `at(j)`.
#[inline(always)]
fn horizontally(phases: &[f32], n: usize, n_tiles: usize, tiles: &mut [f32], at: impl Fn(usize) -> usize) {
    let phase = |j: usize, shift: usize| &phases[j * n + shift..j * n + shift + n_tiles];
    let (a, b, c, d, e, f) = (phase(0, 0), phase(1, 0), phase(2, 0), phase(3, 0), phase(0, 1), phase(1, 1));
    // The six places lie far apart, one channel's row in each.
    let stride = at(1) - at(0);
    let mut places = tiles[at(0)..].chunks_mut(stride);
    let [p0, p1, p2, p3, p4, p5]: [&mut [f32]; IN] =
        std::array::from_fn(|_| &mut places.next().expect("there are six places")[..n_tiles]);
    for x in 0..n_tiles {
        [p0[x], p1[x], p2[x], p3[x], p4[x], p5[x]] = forth([a[x], b[x], c[x], d[x], e[x], f[x]]);
    }
}

/// `Aᵀ` of six values each, then the bias and the clamp.
#[inline(always)]
fn back(rows: [&[f32]; IN], outputs: [&mut [f32]; OUT], bias: f32, clamp: Clamp) {
    let n = rows[0].len();
    let [a, b, c, d, e, f] = rows.map(|row| &row[..n]);
    let [p, q, r, s] = outputs.map(|output| &mut output[..n]);
    for x in 0..n {
        let (sum, difference) = (b[x] + c[x], b[x] - c[x]);
        let (far_sum, far_difference) = (d[x] + e[x], d[x] - e[x]);
        let outputs = [
            a[x] + sum + far_sum,
            difference + 2.0 * far_difference,
            sum + 4.0 * far_sum,
            difference + 8.0 * far_difference + f[x],
        ];
        [p[x], q[x], r[x], s[x]] = outputs.map(|value| {
            let value = value + bias;
            let value = if value < clamp.low { clamp.low } else { value };
            if value > clamp.high { clamp.high } else { value }
        });
    }
}

/// The products over the channels, for each of the 36 places.
struct Multiply<'a> {
    winograd: &'a Winograd,
    pitch: usize,
    buffers: &'a mut Buffers,
}

impl Tiled for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, const ROWS: usize>(self, simd: S) {
        let Winograd { n_in, n_out, rows, weights, .. } = self.winograd;
        assert_eq!(*rows, ROWS);
        let (pitch, n_block) = (self.pitch, n_in * ROWS);
        let n_blocks = n_out.div_ceil(ROWS);
        for place in 0..N_PLACES {
            let tiles = &self.buffers.tiles[place * n_in * pitch..(place + 1) * n_in * pitch];
            let products = &mut self.buffers.products[place * n_out * pitch..(place + 1) * n_out * pitch];
            for block in 0..n_blocks {
                let weights = &weights[(place * n_blocks + block) * n_block..][..n_block];
                let n_rows = ROWS.min(n_out - block * ROWS);
                let products = &mut products[block * ROWS * pitch..(block * ROWS + n_rows) * pitch];
                let mut at = 0;
                while at < pitch {
                    let from =
                        Products { weights, input: &tiles[at..], plane: pitch, n_channels: *n_in, offsets: &[0] };
                    at += match (pitch - at) / S::F32_LANES {
                        1 => tile::<S, ROWS, 1>(simd, from, products, pitch, at),
                        2 => tile::<S, ROWS, 2>(simd, from, products, pitch, at),
                        _ => tile::<S, ROWS, VECTORS>(simd, from, products, pitch, at),
                    };
                }
            }
        }
    }
}

/// Returns how many tiles it has done.
#[inline(always)]
fn tile<S: Simd, const ROWS: usize, const N: usize>(
    simd: S,
    from: Products<'_>,
    products: &mut [f32],
    pitch: usize,
    at: usize,
) -> usize {
    let sums: Sums<S, ROWS, N> = [[simd.splat_f32s(0.0); N]; ROWS];
    let sums = accumulate::<S, ROWS, N>(simd, from, sums);
    for (row, sums) in products.chunks_exact_mut(pitch).zip(&sums) {
        let (values, _) = S::as_mut_simd_f32s(&mut row[at..at + N * S::F32_LANES]);
        values.copy_from_slice(sums);
    }
    N * S::F32_LANES
}

/// Makes room; what was there before stays and does not matter.
fn resize(buffer: &mut Vec<f32>, len: usize) {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convolution::Convolution;
    use crate::map::Extent;
    use crate::window::Window;

    /// Against the direct convolution, whose sums are exact for whole numbers.
    #[test]
    fn tiles_of_any_map_give_what_a_direct_convolution_gives() {
        let mut buffers = Buffers::default();
        for (height, width, n_in, n_out) in
            [(4, 4, 8, 8), (9, 13, 5, 3), (18, 18, 16, 24), (37, 30, 3, 9), (3, 2, 7, 8), (5, 150, 2, 2)]
        {
            let whole = |i: usize| (i * 7 % 13) as f32 - 6.0;
            let x: Vec<f32> = (0..n_in * height * width).map(whole).collect();
            let kernel: Vec<f32> = (0..n_out * n_in * 9).map(|i| whole(3 * i + 1)).collect();
            let bias: Vec<f32> = (0..n_out).map(whole).collect();
            let clamp = Clamp { low: -200.0, high: 300.0 };
            let from = Extent { n_channels: n_in, height, width, border: 1 };
            let to = Extent { n_channels: n_out, ..from };
            let input = Map::from_planes(&x, from, vec![]);
            let planes = |map: &Map| {
                let mut planes = vec![0.0; n_out * height * width];
                map.write_planes(&mut planes);
                planes
            };
            let mut direct = Map::new(to, vec![]);
            let window = Window { kernel: 3, stride: 1 };
            Convolution::new(&kernel, &bias, n_in, window, clamp).run(&input, [1, 1], &mut direct, &mut vec![]);
            let mut output = Map::new(to, vec![f32::NAN; to.len()]);
            Winograd::new(&kernel, &bias, n_in, clamp).run(&input, &mut output, &mut buffers);
            for (found, expected) in planes(&output).iter().zip(planes(&direct)) {
                assert!((found - expected).abs() < 2e-3, "{height}×{width} {n_in} {n_out}: {found} {expected}");
            }
        }
    }
}
