//! Segments of a JPEG file that libjpeg-turbo refuses and libjpeg-turbo-rs does not.
//!
//! Something damaged such a file, and its pixels would be noise. Source: libjpeg-turbo, `jdmarker.c`, `jdhuff.c` and
//! `jdphuff.c`. A table that is left out is refused too, though libjpeg-turbo has one of its own for it.

use crate::data::decode::jpeg::segments::{
    HUFFMAN_TABLES, NOTE, NUMBERED_NOTES, PROGRESSIVE_FRAME, QUANTIZATION_TABLES, RESTART_INTERVAL, SCAN, Segment,
    is_frame,
};

/// Codes of Huffman tables are up to 16 bits long.
const N_LENGTHS: usize = 16;

/// Largest size, in bits, of a difference between the means of two blocks.
const MAX_MEAN_BITS: u8 = 15;

/// Place of the last detail of a block of 8 x 8.
const LAST_DETAIL: u8 = 63;

/// Most bits of a detail that a scan may leave to later ones.
const MAX_LATER_BITS: u8 = 13;

const DAMAGED_SEGMENT: &str = "a marker's segment is damaged";
const DAMAGED_SCAN: &str = "the head of a scan is damaged";
const DAMAGED_HUFFMAN_TABLE: &str = "a Huffman table is damaged";
const MISSING_HUFFMAN_TABLE: &str = "a Huffman table is missing";
const MISPLACED_MARKER: &str = "a marker stands where none can be";

/// What is known when a segment is reached.
#[derive(Default)]
struct Reached {
    /// The marker of the frame.
    frame: Option<u8>,
    has_scan: bool,
    /// The Huffman tables that exist, a bit for each place: of the means of blocks, and of their details.
    mean_tables: u8,
    detail_tables: u8,
}

/// The first fault, in words.
pub fn first_fault(segments: &[Segment]) -> Option<&'static str> {
    let mut reached = Reached::default();
    segments.iter().find_map(|segment| reached.take(segment).err())
}

impl Reached {
    fn take(&mut self, segment: &Segment) -> Result<(), &'static str> {
        let content = segment.content;
        match segment.marker {
            HUFFMAN_TABLES => self.take_huffman_tables(content),
            QUANTIZATION_TABLES => check(are_quantization_tables(content), DAMAGED_SEGMENT),
            RESTART_INTERVAL => check(content.len() == 2, DAMAGED_SEGMENT),
            SCAN => {
                self.has_scan = true;
                self.check_scan(content)
            }
            NOTE => Ok(()),
            marker if NUMBERED_NOTES.contains(&marker) => {
                if content.starts_with(b"AVI1") {
                    // An image of a motion picture, which may leave the usual tables out.
                    (self.mean_tables, self.detail_tables) = (u8::MAX, u8::MAX);
                }
                Ok(())
            }
            marker if is_frame(marker) => self.take_frame(marker, content),
            // Stray bytes between the first segments do no harm.
            _ => check(!self.has_scan, MISPLACED_MARKER),
        }
    }

    fn take_frame(&mut self, marker: u8, content: &[u8]) -> Result<(), &'static str> {
        check(self.frame.replace(marker).is_none(), MISPLACED_MARKER)?;
        let is_whole = match content {
            [_, _, _, _, _, n, components @ ..] => components.len() == 3 * usize::from(*n),
            _ => false,
        };
        check(is_whole, DAMAGED_SEGMENT)
    }

    fn take_huffman_tables(&mut self, mut rest: &[u8]) -> Result<(), &'static str> {
        check(!rest.is_empty(), DAMAGED_HUFFMAN_TABLE)?;
        while let [place, tail @ ..] = rest {
            let (lengths, tail) = tail.split_first_chunk::<N_LENGTHS>().ok_or(DAMAGED_HUFFMAN_TABLE)?;
            let n_codes = lengths.iter().map(|n| usize::from(*n)).sum();
            let (sizes, tail) = tail.split_at_checked(n_codes).ok_or(DAMAGED_HUFFMAN_TABLE)?;
            let tables = match place {
                0..=3 => &mut self.mean_tables,
                0x10..=0x13 => &mut self.detail_tables,
                _ => return Err(DAMAGED_HUFFMAN_TABLE),
            };
            let are_possible = *place > 3 || sizes.iter().all(|n_bits| *n_bits <= MAX_MEAN_BITS);
            check(are_possible && fit(lengths), DAMAGED_HUFFMAN_TABLE)?;
            *tables |= 1 << (place & 3);
            rest = tail;
        }
        Ok(())
    }

    fn check_scan(&self, content: &[u8]) -> Result<(), &'static str> {
        let (&n_components, rest) = content.split_first().ok_or(DAMAGED_SCAN)?;
        let Some((components, &[first, last, bits])) = rest.split_at_checked(2 * usize::from(n_components)) else {
            return Err(DAMAGED_SCAN);
        };
        let (earlier_bits, later_bits) = (bits >> 4, bits & 15);
        check((1..=4).contains(&n_components) && first <= LAST_DETAIL && last <= LAST_DETAIL, DAMAGED_SCAN)?;
        check(earlier_bits <= MAX_LATER_BITS && later_bits <= MAX_LATER_BITS, DAMAGED_SCAN)?;
        if self.frame == Some(PROGRESSIVE_FRAME) {
            let is_of_means = first == 0 && last == 0;
            check(is_of_means || 0 < first && first <= last && n_components == 1, DAMAGED_SCAN)?;
            check(earlier_bits == 0 || earlier_bits == later_bits + 1, DAMAGED_SCAN)?;
        }
        let needs_means = first == 0 && earlier_bits == 0;
        let has_tables = |component: &[u8]| {
            let (mean, detail) = (component[1] >> 4, component[1] & 15);
            (!needs_means || is_there(self.mean_tables, mean)) && (last == 0 || is_there(self.detail_tables, detail))
        };
        check(components.chunks_exact(2).all(has_tables), MISSING_HUFFMAN_TABLE)
    }
}

fn check(is_sound: bool, fault: &'static str) -> Result<(), &'static str> {
    if is_sound { Ok(()) } else { Err(fault) }
}

fn is_there(tables: u8, place: u8) -> bool {
    place < 4 && tables >> place & 1 == 1
}

fn are_quantization_tables(mut rest: &[u8]) -> bool {
    let has_any = !rest.is_empty();
    while let [place, tail @ ..] = rest {
        let n_bytes = match place {
            0..=3 => 64,
            0x10..=0x13 => 128,
            _ => return false,
        };
        let Some(tail) = tail.get(n_bytes..) else { return false };
        rest = tail;
    }
    has_any
}

/// Whether so many codes of each length can exist beside one another, none of which is of ones alone.
fn fit(lengths: &[u8; N_LENGTHS]) -> bool {
    let mut next_code = 0_u32;
    lengths.iter().zip(1..).all(|(n_codes, n_bits)| {
        next_code = (next_code << 1) + u32::from(*n_codes);
        *n_codes == 0 || next_code < 1 << n_bits
    })
}
