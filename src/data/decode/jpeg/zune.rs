//! Every kind of JPEG through zune-jpeg.
//!
//! Rows that are missing before the marker that ends the image are gray, as from libjpeg, unless very many are.

use std::borrow::Cow;

use zune_jpeg::JpegDecoder;
use zune_jpeg::errors::DecodeErrors;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use crate::data::decode::jpeg::head::Head;
use crate::data::decode::jpeg::{MAX_SCANS, MAX_SIDE, check_size};
use crate::data::decode::{DecodeError, Decoded, Format, RgbImage, orientation};

pub fn decode(bytes: &[u8], head: &Head) -> Result<Decoded, DecodeError> {
    let bytes = if head.is_unmarked_rgb() { Cow::Owned(marked_rgb(bytes)) } else { Cow::Borrowed(bytes) };
    let options = DecoderOptions::default()
        .set_max_width(MAX_SIDE)
        .set_max_height(MAX_SIDE)
        .jpeg_set_max_scans(MAX_SCANS)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(&*bytes), options);
    decoder.decode_headers().map_err(corrupt)?;
    // Stray bytes between headers are common and harmless; faults in the image itself would come out gray.
    decoder.set_options(decoder.options().set_strict_mode(true));
    let (width, height) = decoder.dimensions().expect("the headers were decoded");
    let (width, height) = (width as u32, height as u32);
    check_size(width, height, bytes.len())?;
    let pixels_hwc = decoder.decode().map_err(corrupt)?;
    let orientation = orientation::of_exif(decoder.exif().map(Vec::as_slice));
    Ok(Decoded { image: RgbImage { height, width, pixels_hwc }, orientation })
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
