//! Where the parts of a JPEG file lie.

use std::ops::RangeInclusive;

/// What follows a marker that has content: tables, a frame, the head of a scan, notes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    pub marker: u8,
    /// Without the two bytes that tell its length.
    pub content: &'a [u8],
}

pub const PROGRESSIVE_FRAME: u8 = 0xC2;
/// Later ones are lossless, hierarchical or arithmetically coded.
pub const LAST_USUAL_FRAME: u8 = PROGRESSIVE_FRAME;
pub const HUFFMAN_TABLES: u8 = 0xC4;
pub const BEGIN_OF_IMAGE: u8 = 0xD8;
pub const SCAN: u8 = 0xDA;
pub const QUANTIZATION_TABLES: u8 = 0xDB;
pub const RESTART_INTERVAL: u8 = 0xDD;
/// Those of programs; two tell the colours.
pub const NUMBERED_NOTES: RangeInclusive<u8> = 0xE0..=0xEF;
pub const JFIF: u8 = 0xE0;
pub const ADOBE: u8 = 0xEE;
pub const NOTE: u8 = 0xFE;

/// The segments up to the marker that ends the image; nothing when that marker stands nowhere where it can be: behind
/// the segments and the coded data.
pub fn segments(bytes: &[u8]) -> Option<Vec<Segment<'_>>> {
    let mut segments = Vec::new();
    let mut rest = bytes.get(2..)?;
    loop {
        match rest {
            // A coded 0xFF; a fill byte; a restart marker and others without a segment.
            [0xFF, 0x00 | 0x01 | 0xD0..=0xD7, tail @ ..] => rest = tail,
            [0xFF, BEGIN_OF_IMAGE, tail @ ..] => {
                segments.push(Segment { marker: BEGIN_OF_IMAGE, content: &[] });
                rest = tail;
            }
            [0xFF, 0xFF, ..] => rest = &rest[1..],
            [0xFF, 0xD9, ..] => return Some(segments),
            [0xFF, marker, high, low, ..] => {
                let end = 2 + usize::from(u16::from_be_bytes([*high, *low]));
                segments.push(Segment { marker: *marker, content: rest.get(4..end).unwrap_or_default() });
                rest = rest.get(end..)?;
            }
            [_, tail @ ..] => rest = &tail[tail.iter().position(|byte| *byte == 0xFF)?..],
            [] => return None,
        }
    }
}

/// Whether a marker begins a frame. Tables, an extension and conditions of arithmetic coding share the range.
pub fn is_frame(marker: u8) -> bool {
    matches!(marker, 0xC0..=0xCF) && !matches!(marker, HUFFMAN_TABLES | 0xC8 | 0xCC)
}
