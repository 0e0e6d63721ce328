//! JPEG: baseline and progressive, gray, YCbCr, RGB, CMYK and YCCK.
//!
//! Two libraries share the work. Gray and YCbCr go through libjpeg-turbo-rs, bit for bit as Pillow's libjpeg-turbo;
//! `Decode::Plain`, RGB, CMYK and YCCK through zune-jpeg, whose levels differ. Arithmetic coding and 12 bits are errors.

mod faults;
mod head;
mod segments;
mod turbo;
mod zune;

use crate::data::decode::jpeg::head::{Colors, Head};
use crate::data::decode::jpeg::segments::segments;
use crate::data::decode::{DecodeError, Decoded, Format};
use crate::spec::schema::data::Decode;

/// Largest side the format has.
const MAX_SIDE: usize = 65_535;

/// Most pixels that a byte can hold: each block of 8 x 8 takes at least a bit.
const MAX_PIXELS_A_BYTE: u64 = 8 * 64;

/// Most scans of a progressive file. Programs write about ten.
const MAX_SCANS: usize = 100;

pub fn decode(bytes: &[u8], how: Decode) -> Result<Decoded, DecodeError> {
    // Neither library reports a file that breaks off behind its last block.
    let Some(segments) = segments(bytes) else { return Err(DecodeError::Truncated { format: Format::Jpeg }) };
    let head = Head::of(&segments);
    if head.is_unusual() {
        return Err(Format::Jpeg.corrupt("not supported: it is lossless, hierarchical or arithmetically coded"));
    }
    match (how, head.colors()) {
        (Decode::LibjpegTurbo, Colors::GrayOrYcbcr) => turbo::decode(bytes, &segments),
        _ => zune::decode(bytes, &head),
    }
}

/// Refuses sizes that no image should have, and those that the file is too short for.
fn check_size(width: u32, height: u32, n_bytes: usize) -> Result<(), DecodeError> {
    Format::Jpeg.check_size(width, height)?;
    if u64::from(width) * u64::from(height) > MAX_PIXELS_A_BYTE * n_bytes as u64 {
        return Err(DecodeError::Truncated { format: Format::Jpeg });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
