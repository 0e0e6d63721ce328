//! JPEG through zune-jpeg: baseline and progressive, gray, YCbCr, RGB, CMYK and YCCK.
//!
//! Against Pillow's libjpeg-turbo: at most 3 of 255 levels without chroma subsampling; with it, up to some dozens in
//! the last column, where zune-jpeg interpolates with the padding behind the edge. Arithmetic coding and 12 bits are
//! errors. Rows that are missing before the marker that ends the image are gray, as from libjpeg, unless very many are.

use std::borrow::Cow;

use zune_jpeg::JpegDecoder;
use zune_jpeg::errors::DecodeErrors;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use crate::data::decode::{DecodeError, Decoded, Format, RgbImage, orientation};

/// Largest side the format has.
const MAX_SIDE: usize = 65_535;

/// Most pixels that a byte can hold: each block of 8 x 8 takes at least a bit.
const MAX_PIXELS_A_BYTE: u64 = 8 * 64;

pub fn decode(bytes: &[u8]) -> Result<Decoded, DecodeError> {
    // zune-jpeg does not notice the end of a file that breaks off in the last row of blocks.
    if !has_end_of_image(bytes) {
        return Err(DecodeError::Truncated { format: Format::Jpeg });
    }
    let head = Head::of(bytes);
    if head.is_unusual() {
        return Err(Format::Jpeg.corrupt("not supported: it is lossless, hierarchical or arithmetically coded"));
    }
    let bytes = if head.is_unmarked_rgb() { Cow::Owned(marked_rgb(bytes)) } else { Cow::Borrowed(bytes) };
    let options = DecoderOptions::default()
        .set_max_width(MAX_SIDE)
        .set_max_height(MAX_SIDE)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(&*bytes), options);
    decoder.decode_headers().map_err(corrupt)?;
    // Stray bytes between headers are common and harmless; faults in the image itself would come out gray.
    decoder.set_options(decoder.options().set_strict_mode(true));
    let (width, height) = decoder.dimensions().expect("the headers were decoded");
    let (width, height) = (width as u32, height as u32);
    Format::Jpeg.check_size(width, height)?;
    if u64::from(width) * u64::from(height) > MAX_PIXELS_A_BYTE * bytes.len() as u64 {
        return Err(DecodeError::Truncated { format: Format::Jpeg });
    }
    let pixels_hwc = decoder.decode().map_err(corrupt)?;
    let orientation = orientation::of_exif(decoder.exif().map(Vec::as_slice));
    Ok(Decoded { image: RgbImage { height, width, pixels_hwc }, orientation })
}

/// Whether the marker that ends an image stands where one can be: behind the segments and the coded data.
fn has_end_of_image(bytes: &[u8]) -> bool {
    let mut rest = &bytes[2..];
    loop {
        match rest {
            // A coded 0xFF; a fill byte; a restart marker and others without a segment.
            [0xFF, 0x00 | 0x01 | 0xD0..=0xD8, tail @ ..] => rest = tail,
            [0xFF, 0xFF, ..] => rest = &rest[1..],
            [0xFF, 0xD9, ..] => return true,
            [0xFF, _, high, low, ..] => match rest.get(2 + usize::from(u16::from_be_bytes([*high, *low]))..) {
                Some(tail) => rest = tail,
                None => return false,
            },
            [_, tail @ ..] => match tail.iter().position(|byte| *byte == 0xFF) {
                Some(next) => rest = &tail[next..],
                None => return false,
            },
            [] => return false,
        }
    }
}

/// What stands before the first scan.
#[derive(Default)]
struct Head<'a> {
    /// Whether a marker says which colours the components are.
    says_colors: bool,
    /// The marker that begins the frame, and its content.
    frame: Option<(u8, &'a [u8])>,
}

impl<'a> Head<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        let mut head = Self::default();
        let mut rest = &bytes[2..];
        while let [0xFF, marker, high, low, ..] = rest {
            let n_bytes = usize::from(u16::from_be_bytes([*high, *low]));
            let Some(content) = rest.get(4..2 + n_bytes) else { break };
            match marker {
                0xE0 => head.says_colors |= content.starts_with(b"JFIF\0"),
                0xEE => head.says_colors |= content.starts_with(b"Adobe"),
                // Tables and an extension share the range of the frames.
                0xC4 | 0xC8 | 0xCC => {}
                0xC0..=0xCF => {
                    head.frame = Some((*marker, content));
                    break;
                }
                0xDA => break,
                _ => {}
            }
            rest = &rest[2 + n_bytes..];
        }
        head
    }

    /// Lossless, hierarchical or arithmetically coded; zune-jpeg would not find a frame.
    fn is_unusual(&self) -> bool {
        matches!(self.frame, Some((0xC3..=0xCF, _)))
    }

    /// Whether only the names of the components tell that they are RGB, which zune-jpeg does not look at.
    ///
    /// Source: libjpeg-turbo's `default_decompress_parms`.
    fn is_unmarked_rgb(&self) -> bool {
        !self.says_colors && matches!(self.frame, Some((_, [_, _, _, _, _, 3, b'R', _, _, b'G', _, _, b'B', ..])))
    }
}

/// The file with the marker that tells zune-jpeg that it is RGB.
fn marked_rgb(bytes: &[u8]) -> Vec<u8> {
    const ADOBE_RGB: &[u8] = b"\xFF\xEE\0\x0EAdobe\0\x64\0\0\0\0\0";
    [&bytes[..2], ADOBE_RGB, &bytes[2..]].concat()
}

fn corrupt(error: DecodeErrors) -> DecodeError {
    match error {
        DecodeErrors::ExhaustedData => DecodeError::Truncated { format: Format::Jpeg },
        error => Format::Jpeg.corrupt(&error.to_string()),
    }
}
