//! PNG, WebP and BMP through the `image` crate.
//!
//! Against Pillow: the same, lossy WebP too; of BMP with 16 bits a pixel at most 1 of 255 levels, since Pillow rounds
//! down.

use std::io::Cursor;

use image::Limits;
use image::codecs::bmp::BmpDecoder;
use image::codecs::png::PngDecoder;
use image::codecs::webp::WebPDecoder;

use crate::data::decode::samples::{self, MAX_SIDE_DATA_BYTES};
use crate::data::decode::{DecodeError, Decoded, Format, orientation};

pub fn decode(format: Format, bytes: &[u8]) -> Result<Decoded, DecodeError> {
    let reader = Cursor::new(bytes);
    let corrupt = |error| samples::corrupt(format, error);
    let samples = match format {
        Format::Png => {
            check_png_size(bytes)?;
            let mut limits = Limits::no_limits();
            limits.max_alloc = Some(MAX_SIDE_DATA_BYTES);
            samples::read(format, PngDecoder::with_limits(reader, limits).map_err(corrupt)?)
        }
        Format::Webp => samples::read(format, WebPDecoder::new(reader).map_err(corrupt)?),
        Format::Bmp => samples::read(format, BmpDecoder::new(reader).map_err(corrupt)?),
        Format::Jpeg | Format::Gif | Format::Tiff => unreachable!("they have their own decoders"),
    }?;
    let orientation = orientation::of_exif(orientation::exif_chunk(format, bytes));
    Ok(Decoded { image: samples.into_rgb(), orientation })
}

/// Checks the size in the header, before the crate takes memory for a row.
fn check_png_size(bytes: &[u8]) -> Result<(), DecodeError> {
    let number = |at: usize| bytes.get(at..)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
    match (bytes.get(12..16), number(16), number(20)) {
        (Some(b"IHDR"), Some(width), Some(height)) => Format::Png.check_size(width, height),
        _ => Ok(()),
    }
}
