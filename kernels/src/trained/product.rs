//! The innermost loop.

use pulp::Simd;

use crate::tile::{Sums, VECTORS};

/// Sums of nothing.
#[inline(always)]
pub(super) fn zeros<S: Simd, const ROWS: usize, const N: usize>(simd: S) -> Sums<S, ROWS, N> {
    [[simd.splat_f32s(0.0); N]; ROWS]
}

/// Adds `rows · panel` to the sums: rows `[k][ROWS]`, panel `[k][VECTORS · lanes]`, of which the first `N` vectors count.
#[inline(always)]
pub(super) fn add<S: Simd, const ROWS: usize, const N: usize>(
    simd: S,
    rows: &[f32],
    panel: &[f32],
    sums: &mut Sums<S, ROWS, N>,
) {
    let (columns, _) = rows.as_chunks::<ROWS>();
    let (vectors, _) = S::as_simd_f32s(panel);
    let (vectors, _) = vectors.as_chunks::<VECTORS>();
    let mut local = *sums;
    for (column, vectors) in columns.iter().zip(vectors) {
        let vectors: [S::f32s; N] = std::array::from_fn(|i| vectors[i]);
        for (sums, weight) in local.iter_mut().zip(column) {
            let weight = simd.splat_f32s(*weight);
            for (sum, values) in sums.iter_mut().zip(vectors) {
                *sum = simd.mul_add_f32s(weight, values, *sum);
            }
        }
    }
    *sums = local;
}

/// Adds the sums to those that lie in memory as `[ROWS][VECTORS · lanes]`.
///
/// Long sums are sums of shorter ones so: their rounding errors grow less.
#[inline(always)]
pub(super) fn add_to<S: Simd, const ROWS: usize, const N: usize>(simd: S, sums: &Sums<S, ROWS, N>, memory: &mut [f32]) {
    let (vectors, _) = S::as_mut_simd_f32s(memory);
    let (rows, _) = vectors.as_chunks_mut::<VECTORS>();
    for (row, sums) in rows[..ROWS].iter_mut().zip(sums) {
        for (value, sum) in row.iter_mut().zip(sums) {
            *value = simd.add_f32s(*value, *sum);
        }
    }
}
