//! Dense layers of batches: the product with the weights, and the weights' gradient.
//!
//! A sum's order is fixed by its place among the features, or for a gradient among the images: neither batch nor threads
//! change an output's bits.

use pulp::Simd;
use rayon::prelude::*;

use super::product::{add_to, zeros};
use crate::tile::{Products, Sums, Tile, Tiled, VECTORS, accumulate, in_tiles};

/// Features that are summed before their sum is added to the output: their weights stay in the nearest cache.
const DEPTH: usize = 256;

/// Features of a line that are laid out at once: those of all lines of a block stay in the nearest cache.
const TURNED: usize = 64;

/// A dense layer's sizes: inputs `[n_images, n_in]`, weights `[n_in, n_out]`, outputs `[n_images, n_out]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Linear {
    pub n_images: usize,
    pub n_in: usize,
    pub n_out: usize,
}

impl Linear {
    /// `input · weights + bias`.
    pub fn output(self, input: &[f32], weights: &[f32], bias: &[f32]) -> Vec<f32> {
        let Self { n_images, n_in, n_out } = self;
        assert!(input.len() == n_images * n_in && weights.len() == n_in * n_out && bias.len() == n_out);
        let tile = Tile::here();
        let rows = in_blocks(input, n_images, n_in, tile.rows);
        let strips: Vec<Vec<f32>> = (0..n_out.div_ceil(tile.width))
            .into_par_iter()
            .map(|strip| in_tiles(Strip { shape: self, rows: &rows, weights, first: strip * tile.width }))
            .collect();
        let mut output = vec![0.0; n_images * n_out];
        for (image, line) in output.chunks_exact_mut(n_out).enumerate() {
            for ((strip, line), bias) in strips.iter().zip(line.chunks_mut(tile.width)).zip(bias.chunks(tile.width)) {
                let sums = &strip[image * tile.width..];
                line.iter_mut().zip(sums).zip(bias).for_each(|((value, sum), bias)| *value = sum + bias);
            }
        }
        output
    }

    /// The gradient of the weights, summed over the batch: `inputᵀ · output_gradient`.
    pub fn weight_gradient(self, input: &[f32], output_gradient: &[f32]) -> Vec<f32> {
        let Self { n_images, n_in, n_out } = self;
        assert!(input.len() == n_images * n_in && output_gradient.len() == n_images * n_out);
        let tile = Tile::here();
        let n_columns = n_out.next_multiple_of(tile.width);
        let mut columns = vec![0.0; n_images * n_columns];
        for (padded, line) in columns.chunks_exact_mut(n_columns).zip(output_gradient.chunks_exact(n_out)) {
            padded[..n_out].copy_from_slice(line);
        }
        let mut gradient = zeroed(n_in * n_out);
        gradient.par_chunks_mut(tile.rows * n_out).with_min_len(16).enumerate().for_each(|(block, gradient)| {
            in_tiles(Block { shape: self, input, first: block * tile.rows, columns: &columns, gradient });
        });
        gradient
    }

    /// The gradient of the bias, summed over the batch.
    pub fn bias_gradient(self, output_gradient: &[f32]) -> Vec<f32> {
        let mut sums = vec![0.0; self.n_out];
        for line in output_gradient.chunks_exact(self.n_out) {
            sums.iter_mut().zip(line).for_each(|(sum, value)| *sum += value);
        }
        sums
    }
}

/// Lines `[n_lines, n]` in blocks of rows, `[blocks][n][rows]`, with zeros where there are no more lines.
fn in_blocks(lines: &[f32], n_lines: usize, n: usize, n_rows: usize) -> Vec<f32> {
    let mut blocks = vec![0.0; n_lines.next_multiple_of(n_rows) * n];
    blocks.par_chunks_mut(n * n_rows).zip(lines.par_chunks(n * n_rows)).for_each(|(block, lines)| {
        for (part, block) in block.chunks_mut(TURNED * n_rows).enumerate() {
            for (row, line) in lines.chunks_exact(n).enumerate() {
                let line = &line[part * TURNED..];
                block[row..].iter_mut().step_by(n_rows).zip(line).for_each(|(to, from)| *to = *from);
            }
        }
    });
    blocks
}

/// Zeros, written by all threads: of a large gradient's time one alone would take a tenth for them.
fn zeroed(n: usize) -> Vec<f32> {
    let pieces: Vec<[f32; 1024]> =
        (0..n.div_ceil(1024)).into_par_iter().with_min_len(64).map(|_| [0.0; 1024]).collect();
    let mut values = pieces.into_flattened();
    values.truncate(n);
    values
}

/// Outputs of all images for a tile's width of units: `[images, padded to rows][width]`.
struct Strip<'a> {
    shape: Linear,
    /// See [`in_blocks`].
    rows: &'a [f32],
    weights: &'a [f32],
    first: usize,
}

impl Tiled for Strip<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn run<S: Simd, const ROWS: usize>(self, simd: S) -> Vec<f32> {
        let Self { shape: Linear { n_images, n_in, n_out }, rows, weights, first } = self;
        let width = VECTORS * S::F32_LANES;
        let n_here = width.min(n_out - first);
        let mut output = vec![0.0; n_images.next_multiple_of(ROWS) * width];
        let mut panel = vec![0.0; DEPTH * width];
        for from in (0..n_in).step_by(DEPTH) {
            let depth = DEPTH.min(n_in - from);
            let (vectors, _) = S::as_mut_simd_f32s(&mut panel);
            let (lines, _) = vectors.as_chunks_mut::<VECTORS>();
            for (line, weights) in lines.iter_mut().zip(weights[from * n_out..].chunks_exact(n_out)) {
                let (whole, rest) = S::as_simd_f32s(&weights[first..first + n_here]);
                // A length that is known needs no call to copy.
                if let Some(whole) = whole.first_chunk() {
                    *line = *whole;
                    continue;
                }
                line[..whole.len()].copy_from_slice(whole);
                if !rest.is_empty() {
                    line[whole.len()] = simd.partial_load_f32s(rest);
                }
            }
            for (rows, output) in rows.chunks_exact(n_in * ROWS).zip(output.chunks_exact_mut(ROWS * width)) {
                let weights = &rows[from * ROWS..(from + depth) * ROWS];
                let products = Products { weights, input: &panel, plane: width, n_channels: depth, offsets: &[0] };
                let sums: Sums<S, ROWS, VECTORS> = accumulate(simd, products, zeros(simd));
                add_to(simd, &sums, output);
            }
        }
        output
    }
}

/// The gradient of some input features' weights.
struct Block<'a> {
    shape: Linear,
    input: &'a [f32],
    /// The first of its features.
    first: usize,
    /// The output's gradient, its lines padded to whole tiles.
    columns: &'a [f32],
    gradient: &'a mut [f32],
}

impl Tiled for Block<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, const ROWS: usize>(self, simd: S) {
        let Self { shape: Linear { n_images, n_in, n_out }, input, first, columns, gradient } = self;
        let width = VECTORS * S::F32_LANES;
        let n_columns = n_out.next_multiple_of(width);
        let n_rows = gradient.len() / n_out;
        let mut weights = vec![[0.0; ROWS]; n_images];
        for (weights, line) in weights.iter_mut().zip(input.chunks_exact(n_in)) {
            let line = &line[first..first + n_rows];
            match line.first_chunk() {
                Some(line) => *weights = *line,
                None => weights[..n_rows].copy_from_slice(line),
            }
        }
        let weights = weights.as_flattened();
        for column in (0..n_out).step_by(width) {
            let products =
                Products { weights, input: &columns[column..], plane: n_columns, n_channels: n_images, offsets: &[0] };
            let sums: Sums<S, ROWS, VECTORS> = accumulate(simd, products, zeros(simd));
            for (line, sums) in gradient.chunks_exact_mut(n_out).zip(sums) {
                let n_here = width.min(n_out - column);
                let (vectors, rest) = S::as_mut_simd_f32s(&mut line[column..column + n_here]);
                let n_whole = vectors.len();
                match vectors.first_chunk_mut() {
                    Some(vectors) => *vectors = sums,
                    None => vectors.copy_from_slice(&sums[..n_whole]),
                }
                if !rest.is_empty() {
                    simd.partial_store_f32s(rest, sums[n_whole]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whole numbers small enough that every sum is exact in whatever order.
    fn wholes(n: usize, factor: usize) -> Vec<f32> {
        (0..n).map(|i| ((factor * i + 1) * 7 % 13) as f32 - 6.0).collect()
    }

    #[test]
    fn outputs_and_gradients_are_sums_of_products() {
        for (n_images, n_in, n_out) in [(1, 1, 1), (3, 7, 16), (8, 256, 48), (13, 300, 50), (32, 513, 256), (2, 40, 97)]
        {
            let shape = Linear { n_images, n_in, n_out };
            let (input, weights) = (wholes(n_images * n_in, 3), wholes(n_in * n_out, 5));
            let (bias, output_gradient) = (wholes(n_out, 11), wholes(n_images * n_out, 2));
            let output = shape.output(&input, &weights, &bias);
            let gradient = shape.weight_gradient(&input, &output_gradient);
            for (i, o) in (0..n_images).flat_map(|i| (0..n_out).map(move |o| (i, o))) {
                let products = (0..n_in).map(|k| input[i * n_in + k] * weights[k * n_out + o]);
                assert_eq!(output[i * n_out + o], products.sum::<f32>() + bias[o], "{shape:?}, output {i} {o}");
            }
            for (k, o) in (0..n_in).flat_map(|k| (0..n_out).map(move |o| (k, o))) {
                let products = (0..n_images).map(|i| input[i * n_in + k] * output_gradient[i * n_out + o]);
                assert_eq!(gradient[k * n_out + o], products.sum::<f32>(), "{shape:?}, weight {k} {o}");
            }
            let sums = shape.bias_gradient(&output_gradient);
            for (o, sum) in sums.iter().enumerate() {
                assert_eq!(*sum, (0..n_images).map(|i| output_gradient[i * n_out + o]).sum::<f32>());
            }
        }
    }

    #[test]
    fn an_output_depends_on_no_other_image() {
        let (n_in, n_out) = (700, 70);
        let values = |n: usize| (0..n).map(|i| (i * 7 % 101) as f32 / 37.0 - 1.0).collect::<Vec<f32>>();
        let (input, weights, bias) = (values(21 * n_in), values(n_in * n_out), values(n_out));
        let together = Linear { n_images: 21, n_in, n_out }.output(&input, &weights, &bias);
        for (image, line) in input.chunks_exact(n_in).enumerate() {
            let alone = Linear { n_images: 1, n_in, n_out }.output(line, &weights, &bias);
            assert!(alone == together[image * n_out..(image + 1) * n_out], "image {image}");
        }
    }
}
