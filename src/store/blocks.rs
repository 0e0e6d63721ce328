//! The packed form of a series' points: blocks of up to 1,024.
//!
//! A block is one format byte, the number of points, then each point. Integers are written as the zigzag varint of
//! their difference from the point before, since epochs, steps and times climb slowly; values are eight raw bytes, so
//! NaN and infinities survive. A point takes about 13 bytes instead of 36.

use crate::run::metric::Point;

/// Points that one block holds before the next is begun.
pub(crate) const BLOCK_LEN: usize = 1024;

const FORMAT: u8 = 1;

/// The shortest a point can be: four one-byte differences and its value.
const MIN_POINT_BYTES: usize = 12;

/// Packs points, in their order.
pub(crate) fn encode(points: &[Point]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(16 + points.len() * 14);
    bytes.push(FORMAT);
    put_varint(&mut bytes, points.len() as u64);
    let mut before = [0; 4];
    for point in points {
        let now = integers(point);
        for (now, before) in now.into_iter().zip(before) {
            put_varint(&mut bytes, zigzag(now.wrapping_sub(before)));
        }
        bytes.extend_from_slice(&point.value.to_le_bytes());
        before = now;
    }
    bytes
}

/// Unpacks a block; says what is wrong with one that was not written by [`encode`].
pub(crate) fn decode(bytes: &[u8]) -> Result<Vec<Point>, String> {
    let Some((&format, mut rest)) = bytes.split_first() else {
        return Err("the block is empty".to_owned());
    };
    if format != FORMAT {
        return Err(format!("the block has format {format}, known is {FORMAT}"));
    }
    let n_points = usize::try_from(take_varint(&mut rest)?).unwrap_or(usize::MAX);
    if n_points > rest.len() / MIN_POINT_BYTES {
        return Err(format!("{n_points} points do not fit in {} bytes", rest.len()));
    }
    let mut points = Vec::with_capacity(n_points);
    let mut integers = [0_i64; 4];
    for _ in 0..n_points {
        for integer in &mut integers {
            *integer = integer.wrapping_add(unzigzag(take_varint(&mut rest)?));
        }
        points.push(point(integers, take_value(&mut rest)?)?);
    }
    if rest.is_empty() { Ok(points) } else { Err(format!("{} bytes are left over", rest.len())) }
}

fn integers(point: &Point) -> [i64; 4] {
    [i64::from(point.epoch), point.step.cast_signed(), point.at_ms, point.n_samples.cast_signed()]
}

fn point([epoch, step, at_ms, n_samples]: [i64; 4], value: f64) -> Result<Point, String> {
    let epoch = u32::try_from(epoch).map_err(|_| format!("{epoch} is no epoch"))?;
    let (step, n_samples) = (step.cast_unsigned(), n_samples.cast_unsigned());
    Ok(Point { epoch, step, at_ms, value, n_samples })
}

/// Folds the sign into the lowest bit, so that small differences of either sign are small numbers.
fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

fn put_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn take_varint(bytes: &mut &[u8]) -> Result<u64, String> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or("the block ends inside a number")?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err("a number is longer than 64 bits".to_owned())
}

fn take_value(bytes: &mut &[u8]) -> Result<f64, String> {
    let (value, rest) = bytes.split_first_chunk().ok_or("the block ends inside a value")?;
    *bytes = rest;
    Ok(f64::from_le_bytes(*value))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_point() -> impl Strategy<Value = Point> {
        (any::<u32>(), any::<u64>(), any::<i64>(), any::<u64>(), any::<u64>()).prop_map(
            |(epoch, step, at_ms, bits, n_samples)| Point {
                epoch,
                step,
                at_ms,
                value: f64::from_bits(bits),
                n_samples,
            },
        )
    }

    /// NaN differs from itself, so values are compared by their bits.
    fn bits(points: &[Point]) -> Vec<(u32, u64, i64, u64, u64)> {
        points.iter().map(|p| (p.epoch, p.step, p.at_ms, p.value.to_bits(), p.n_samples)).collect()
    }

    proptest! {
        #[test]
        fn points_survive_packing(points in prop::collection::vec(any_point(), 0..50)) {
            let unpacked = decode(&encode(&points)).unwrap();
            prop_assert_eq!(bits(&unpacked), bits(&points));
        }

        #[test]
        fn any_bytes_unpack_or_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = decode(&bytes);
        }

        #[test]
        fn a_block_cut_short_is_refused(points in prop::collection::vec(any_point(), 1..5), cut in 1_usize..12) {
            let bytes = encode(&points);
            prop_assert!(decode(&bytes[..bytes.len() - cut]).is_err());
        }
    }

    #[test]
    fn a_training_point_takes_about_thirteen_bytes() {
        let points: Vec<Point> = (0..1024)
            .map(|i| Point {
                epoch: 1 + (i / 100) as u32,
                step: 10 * i,
                at_ms: 1_790_000_000_000 + 1_234 * i as i64,
                value: 1.0 / (i + 1) as f64,
                n_samples: 32,
            })
            .collect();
        let n_bytes = encode(&points).len();
        assert!(n_bytes < 14 * points.len(), "{n_bytes}");
    }

    #[test]
    fn a_block_of_a_later_format_is_refused() {
        assert_eq!(decode(&[2, 0]).unwrap_err(), "the block has format 2, known is 1");
    }
}
