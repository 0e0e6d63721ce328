//! Resampling of images in bytes along one axis, in the integers that Pillow computes in, so that every level is Pillow's.
//!
//! Source: Pillow 13.0.0, src/libImaging/Resample.c: weights in 22 bits of fraction, sums in 32 bits, halves rounded up.

use pulp::{Arch, Simd, WithSimd};

/// Bits of a weight behind the point: 8 stay for a level, 2 for overshoot.
const PRECISION: u32 = 32 - 8 - 2;

/// A function around 0 that says how much a pixel counts by its distance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// A triangle.
    Bilinear,
    /// Piecewise cubic, a = −0.5. Source: Keys 1981.
    Bicubic,
}

/// Which pixels make each pixel of a new length, and how much they count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taps {
    /// The first of them, for each new pixel.
    first: Vec<usize>,
    /// Their weights, for each new pixel.
    weights: Vec<Vec<i32>>,
}

impl Filter {
    /// Pixels on either side that count.
    fn support(self) -> f64 {
        match self {
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
        }
    }

    fn at(self, distance: f64) -> f64 {
        const A: f64 = -0.5;
        let x = distance.abs();
        match self {
            Self::Bilinear if x < 1.0 => 1.0 - x,
            Self::Bicubic if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
            Self::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
            _ => 0.0,
        }
    }
}

impl Taps {
    /// For an axis of `from` pixels that becomes one of `to`, both at least 1. The filter is widened where the axis shrinks.
    pub fn new(filter: Filter, from: usize, to: usize) -> Self {
        let scale = from as f64 / to as f64;
        let stretch = scale.max(1.0);
        let support = filter.support() * stretch;
        let (mut first, mut weights) = (Vec::with_capacity(to), Vec::with_capacity(to));
        for i in 0..to {
            let center = (i as f64 + 0.5) * scale;
            // Towards zero, as C converts.
            let begin = (center - support + 0.5).max(0.0) as usize;
            let end = ((center + support + 0.5) as usize).min(from);
            let inverse = 1.0 / stretch;
            let raw: Vec<f64> = (begin..end).map(|x| filter.at((x as f64 - center + 0.5) * inverse)).collect();
            let sum: f64 = raw.iter().sum();
            let fixed = |weight: f64| {
                let weight = if sum == 0.0 { weight } else { weight / sum } * f64::from(1 << PRECISION);
                (if weight < 0.0 { weight - 0.5 } else { weight + 0.5 }) as i32
            };
            first.push(begin);
            weights.push(raw.into_iter().map(fixed).collect());
        }
        Self { first, weights }
    }
}

/// Resamples rows: row `i` of what comes out is the weighted sum of some rows of what goes in.
///
/// Shape: `[from, row_bytes]` → `[to, row_bytes]`.
pub fn rows(pixels: &[u8], row_bytes: usize, taps: &Taps) -> Vec<u8> {
    let mut out = vec![0; taps.first.len() * row_bytes];
    Arch::new().dispatch(Rows { pixels, row_bytes, taps, out: &mut out });
    out
}

/// Bytes that are summed up at a time, so that the sums stay in registers.
const BLOCK: usize = 32;

struct Rows<'a> {
    pixels: &'a [u8],
    row_bytes: usize,
    taps: &'a Taps,
    out: &'a mut [u8],
}

impl WithSimd for Rows<'_> {
    type Output = ();

    /// Nothing is said of vectors here: the compiler makes them, for the unit that this is compiled for.
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { pixels, row_bytes, taps, out } = self;
        for ((row, first), weights) in out.chunks_exact_mut(row_bytes).zip(&taps.first).zip(&taps.weights) {
            let from = &pixels[first * row_bytes..][..weights.len() * row_bytes];
            let (blocks, rest) = row.as_chunks_mut::<BLOCK>();
            let n_whole = blocks.len() * BLOCK;
            for (i, block) in blocks.iter_mut().enumerate() {
                let mut sums = [1_i32 << (PRECISION - 1); BLOCK];
                for (line, weight) in from.chunks_exact(row_bytes).zip(weights) {
                    let levels: &[u8; BLOCK] = line[i * BLOCK..].first_chunk().expect("the block lies in the row");
                    for (sum, level) in sums.iter_mut().zip(levels) {
                        *sum += i32::from(*level) * weight;
                    }
                }
                for (out, sum) in block.iter_mut().zip(sums) {
                    *out = (sum >> PRECISION).clamp(0, 255) as u8;
                }
            }
            for (i, out) in rest.iter_mut().enumerate() {
                let levels = from.chunks_exact(row_bytes).map(|line| i32::from(line[n_whole + i]));
                let sum: i32 = levels.zip(weights).map(|(level, weight)| level * weight).sum();
                *out = ((sum + (1 << (PRECISION - 1))) >> PRECISION).clamp(0, 255) as u8;
            }
        }
    }
}

/// An image of pixels of three bytes with its axes in each other's place.
///
/// Shape: `[height, width, 3]` → `[width, height, 3]`.
pub fn transposed(pixels: &[u8], height: usize, width: usize) -> Vec<u8> {
    /// Pixels on either side of a part that stays in the cache.
    const SIDE: usize = 16;
    let mut out = vec![0; pixels.len()];
    for top in (0..height).step_by(SIDE) {
        let bottom = (top + SIDE).min(height);
        for left in (0..width).step_by(SIDE) {
            for x in left..(left + SIDE).min(width) {
                let column = &mut out[(x * height + top) * 3..(x * height + bottom) * 3];
                for (pixel, y) in column.as_chunks_mut::<3>().0.iter_mut().zip(top..bottom) {
                    pixel.copy_from_slice(&pixels[(y * width + x) * 3..][..3]);
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By hand: two pixels become one of their mean, one becomes two of itself.
    #[test]
    fn means_and_copies() {
        let half = Taps::new(Filter::Bilinear, 2, 1);
        assert_eq!(half.weights, [vec![1 << 21; 2]]);
        assert_eq!(rows(&[10, 21], 1, &half), [16]);
        let double = Taps::new(Filter::Bicubic, 1, 2);
        assert_eq!(rows(&[77], 1, &double), [77, 77]);
    }

    #[test]
    fn axes_change_places() {
        let image: Vec<u8> = (0..2 * 3 * 3).collect();
        assert_eq!(transposed(&image, 2, 3), [0, 1, 2, 9, 10, 11, 3, 4, 5, 12, 13, 14, 6, 7, 8, 15, 16, 17]);
        let large: Vec<u8> = (0..37 * 53 * 3).map(|i| (i * 7 % 251) as u8).collect();
        assert_eq!(transposed(&transposed(&large, 37, 53), 53, 37), large);
    }

    /// A row is the same whatever stands beside it.
    #[test]
    fn blocks_and_what_is_left_are_one() {
        let taps = Taps::new(Filter::Bicubic, 9, 5);
        let image: Vec<u8> = (0..9 * 70).map(|i| (i * 31 % 256) as u8).collect();
        let whole = rows(&image, 70, &taps);
        for column in [0, 31, 32, 63, 64, 69] {
            let alone: Vec<u8> = image.iter().skip(column).step_by(70).copied().collect();
            let expected: Vec<u8> = whole.iter().skip(column).step_by(70).copied().collect();
            assert_eq!(rows(&alone, 1, &taps), expected, "{column}");
        }
    }
}
