//! JPEG through zune-jpeg: baseline and progressive, gray, YCbCr, RGB, CMYK and YCCK.
//!
//! Against Pillow's libjpeg-turbo: at most 3 of 255 levels without chroma subsampling; with it, up to some dozens in the
//! last column, where zune-jpeg interpolates with the padding behind the edge. Arithmetic coding, 12 bits, and RGB that
//! only an Adobe marker tells are errors.

use zune_jpeg::JpegDecoder;
use zune_jpeg::errors::DecodeErrors;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use crate::data::decode::{DecodeError, Format, RgbImage};

/// Largest side the format has.
const MAX_SIDE: usize = 65_535;

pub fn decode(bytes: &[u8]) -> Result<RgbImage, DecodeError> {
    // zune-jpeg does not notice the end of a file that breaks off in the last row of blocks.
    if !has_end_of_image(bytes) {
        return Err(DecodeError::Truncated { format: Format::Jpeg });
    }
    let options = DecoderOptions::default()
        .set_max_width(MAX_SIDE)
        .set_max_height(MAX_SIDE)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(corrupt)?;
    // Stray bytes between headers are common and harmless; faults in the image itself would come out gray.
    decoder.set_options(decoder.options().set_strict_mode(true));
    let (width, height) = decoder.dimensions().expect("the headers were decoded");
    let (width, height) = (width as u32, height as u32);
    Format::Jpeg.check_size(width, height)?;
    let pixels_hwc = decoder.decode().map_err(corrupt)?;
    Ok(RgbImage { height, width, pixels_hwc })
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

fn corrupt(error: DecodeErrors) -> DecodeError {
    let format = Format::Jpeg;
    match error {
        DecodeErrors::ExhaustedData => DecodeError::Truncated { format },
        error => DecodeError::Corrupt { format, reason: error.to_string() },
    }
}
