//! GIF through the `image` crate: the first frame, on a screen that is filled as Pillow fills it.

use std::io::Cursor;

use image::codecs::gif::GifDecoder;

use crate::data::decode::{DecodeError, Decoded, Format, RgbImage, samples};

const FORMAT: Format = Format::Gif;

/// Bytes of the file's header, without the palette behind it.
const HEADER_BYTES: usize = 13;

/// Bytes of what stands before a frame's own palette or its pixels.
const DESCRIPTOR_BYTES: usize = 10;

/// Decodes the first frame.
///
/// Where it covers only a part of the screen, the rest has the transparent colour, or the palette's first; where it
/// reaches over the screen, the screen grows.
pub fn decode(bytes: &[u8]) -> Result<Decoded, DecodeError> {
    let first = FirstFrame::find(bytes)?;
    let FirstFrame { frame, screen, .. } = first;
    let (height, width) = (screen.height.max(frame.bottom()), screen.width.max(frame.right()));
    FORMAT.check_size(frame.width, frame.height)?;
    FORMAT.check_size(width, height)?;
    let image = if frame == screen {
        pixels(bytes)?
    } else {
        let canvas = RgbImage { height, width, pixels_hwc: first.fill.repeat(height as usize * width as usize) };
        pasted(canvas, &pixels(&first.file_of_frame(bytes))?, frame)
    };
    Ok(image.into())
}

/// A rectangle on the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Area {
    left: u32,
    top: u32,
    width: u32,
    height: u32,
}

impl Area {
    fn right(self) -> u32 {
        self.left + self.width
    }

    fn bottom(self) -> u32 {
        self.top + self.height
    }
}

/// Where the first frame is in the file and on the screen.
#[derive(Clone, Copy, Debug)]
struct FirstFrame {
    /// Place of its descriptor in the file.
    at: usize,
    frame: Area,
    screen: Area,
    /// The colour of the screen around it.
    fill: [u8; 3],
}

impl FirstFrame {
    fn find(bytes: &[u8]) -> Result<Self, DecodeError> {
        let truncated = || DecodeError::Truncated { format: FORMAT };
        let header = bytes.get(..HEADER_BYTES).ok_or_else(truncated)?;
        let mut at = HEADER_BYTES + palette_bytes(header[10]);
        let mut transparent = 0;
        while *bytes.get(at).ok_or_else(truncated)? == b'!' {
            if let Some([0xF9, _, flags, _, _, index, ..]) = bytes.get(at + 1..)
                && flags & 1 == 1
            {
                transparent = usize::from(*index);
            }
            at = blocks_end(bytes, at + 2).ok_or_else(truncated)?;
        }
        if bytes[at] != b',' {
            return Err(FORMAT.corrupt("no image follows its header"));
        }
        let descriptor = bytes.get(at..at + DESCRIPTOR_BYTES).ok_or_else(truncated)?;
        let palette = match palette_bytes(descriptor[9]) {
            0 => bytes.get(HEADER_BYTES..HEADER_BYTES + palette_bytes(header[10])),
            n_bytes => bytes.get(at + DESCRIPTOR_BYTES..at + DESCRIPTOR_BYTES + n_bytes),
        };
        let palette = palette.ok_or_else(truncated)?;
        let number = |from: &[u8], at: usize| u32::from(u16::from_le_bytes([from[at], from[at + 1]]));
        let frame = Area {
            left: number(descriptor, 1),
            top: number(descriptor, 3),
            width: number(descriptor, 5),
            height: number(descriptor, 7),
        };
        let screen = Area { left: 0, top: 0, width: number(header, 6), height: number(header, 8) };
        let fill = palette.as_chunks().0.get(transparent).copied().unwrap_or_default();
        Ok(Self { at, frame, screen, fill })
    }

    /// The file with a screen that its first frame fills.
    fn file_of_frame(&self, bytes: &[u8]) -> Vec<u8> {
        let mut file = bytes.to_vec();
        file.copy_within(self.at + 5..self.at + 9, 6);
        file[self.at + 1..self.at + 5].fill(0);
        file
    }
}

/// Bytes of the palette that the flags of a header or a descriptor announce.
fn palette_bytes(flags: u8) -> usize {
    if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) }
}

/// Where a chain of blocks that begins at `at` ends.
fn blocks_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match bytes.get(at)? {
            0 => return Some(at + 1),
            n_bytes => at += 1 + usize::from(*n_bytes),
        }
    }
}

/// The pixels of a file whose first frame fills the screen.
fn pixels(bytes: &[u8]) -> Result<RgbImage, DecodeError> {
    let decoder = GifDecoder::new(Cursor::new(bytes)).map_err(|error| samples::corrupt(FORMAT, error))?;
    Ok(samples::read(FORMAT, decoder)?.into_rgb())
}

fn pasted(mut canvas: RgbImage, image: &RgbImage, area: Area) -> RgbImage {
    let n_bytes = area.width as usize * 3;
    for (y, row) in (area.top as usize..).zip(image.pixels_hwc.chunks_exact(n_bytes)) {
        let start = (y * canvas.width as usize + area.left as usize) * 3;
        canvas.pixels_hwc[start..start + n_bytes].copy_from_slice(row);
    }
    canvas
}
