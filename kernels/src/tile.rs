//! The innermost loop: sums of products for some output channels and some pixels that follow each other.

use pulp::{Arch, Simd, WithSimd};

/// Output channels of a tile on vector units with 32 registers, and on others.
pub const WIDE_ROWS: usize = 8;
pub const NARROW_ROWS: usize = 4;

/// Vectors of pixels in a tile: with [`WIDE_ROWS`] 24 of 32 registers hold sums, with [`NARROW_ROWS`] 12 of 16.
pub const VECTORS: usize = 3;

/// Sizes of a tile on this machine.
#[derive(Clone, Copy, Debug)]
pub struct Tile {
    /// Values of a vector.
    pub lanes: usize,
    pub rows: usize,
    /// Columns: [`VECTORS`] vectors.
    pub width: usize,
}

impl Tile {
    pub fn here() -> Self {
        struct Sizes;
        impl Tiled for Sizes {
            type Output = Tile;

            #[inline(always)]
            fn run<S: Simd, const ROWS: usize>(self, _: S) -> Tile {
                Tile { lanes: S::F32_LANES, rows: ROWS, width: VECTORS * S::F32_LANES }
            }
        }
        in_tiles(Sizes)
    }
}

/// Work in tiles of as many rows as the machine's vector unit has registers for.
pub trait Tiled {
    type Output;

    /// Always inlined, so that it is compiled for the vector unit.
    fn run<S: Simd, const ROWS: usize>(self, simd: S) -> Self::Output;
}

/// Runs with this machine's vectors and rows.
#[inline]
pub fn in_tiles<T: Tiled>(work: T) -> T::Output {
    struct OnVectors<T>(T);
    impl<T: Tiled> WithSimd for OnVectors<T> {
        type Output = T::Output;

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> T::Output {
            if S::F32_LANES == 16 { self.0.run::<S, WIDE_ROWS>(simd) } else { self.0.run::<S, NARROW_ROWS>(simd) }
        }
    }
    Arch::new().dispatch(OnVectors(work))
}

/// The sums of a tile, an output channel a row.
pub type Sums<S, const ROWS: usize, const N: usize> = [[<S as Simd>::f32s; N]; ROWS];

/// Where a tile's products come from.
#[derive(Clone, Copy)]
pub struct Products<'a> {
    /// `[channels][offsets][rows]`.
    pub weights: &'a [f32],
    /// From the first pixel of the first channel on.
    pub input: &'a [f32],
    /// Values between a channel and the next.
    pub plane: usize,
    pub n_channels: usize,
    /// From an output pixel to the input pixels that it is made of, within a plane.
    pub offsets: &'a [usize],
}

/// Adds `weights · input` to the sums, channel after channel and offset after offset.
#[inline(always)]
pub fn accumulate<S: Simd, const ROWS: usize, const N: usize>(
    simd: S,
    products: Products<'_>,
    mut sums: Sums<S, ROWS, N>,
) -> Sums<S, ROWS, N> {
    let Products { weights, input, plane, n_channels, offsets } = products;
    let (mut columns, _) = weights.as_chunks::<ROWS>();
    for channel in 0..n_channels {
        let pixels = &input[channel * plane..];
        let (now, later) = columns.split_at(offsets.len());
        columns = later;
        for (column, offset) in now.iter().zip(offsets) {
            let (vectors, _) = S::as_simd_f32s(&pixels[*offset..*offset + N * S::F32_LANES]);
            let pixels: [S::f32s; N] = std::array::from_fn(|i| vectors[i]);
            for (row, weight) in sums.iter_mut().zip(column) {
                let weight = simd.splat_f32s(*weight);
                for (sum, pixels) in row.iter_mut().zip(pixels) {
                    *sum = simd.mul_add_f32s(weight, pixels, *sum);
                }
            }
        }
    }
    sums
}
