//! Gray and YCbCr through libjpeg-turbo-rs.

use libjpeg_turbo_rs::{DecodeLimits, Decoder, JpegError, PixelFormat};

use crate::data::decode::jpeg::segments::Segment;
use crate::data::decode::jpeg::{MAX_SCANS, MAX_SIDE, check_size, faults};
use crate::data::decode::{DecodeError, Decoded, Format, MAX_PIXELS, RgbImage, orientation};

const LIMITS: DecodeLimits = DecodeLimits {
    max_width: MAX_SIDE,
    max_height: MAX_SIDE,
    max_pixels: MAX_PIXELS,
    max_scans: MAX_SCANS,
    // The size bounds it: 12 bytes a pixel at most.
    max_memory: None,
};

pub fn decode(bytes: &[u8], segments: &[Segment]) -> Result<Decoded, DecodeError> {
    if let Some(fault) = faults::first_fault(segments) {
        return Err(Format::Jpeg.corrupt(fault));
    }
    let mut decoder = Decoder::new_with_limits(bytes, LIMITS).map_err(corrupt)?;
    let (width, height) = (u32::from(decoder.header().width), u32::from(decoder.header().height));
    check_size(width, height, bytes.len())?;
    decoder.set_output_format(PixelFormat::Rgb);
    // Progressive files may leave the last details out; libjpeg-turbo then smooths the blocks.
    decoder.set_block_smoothing(true);
    let image = decoder.decode_image().map_err(corrupt)?;
    let orientation = orientation::of_exif(image.exif_data());
    Ok(Decoded { image: RgbImage { height, width, pixels_hwc: image.into_vec() }, orientation })
}

fn corrupt(error: JpegError) -> DecodeError {
    match error {
        JpegError::UnexpectedEof => DecodeError::Truncated { format: Format::Jpeg },
        error => Format::Jpeg.corrupt(&error.to_string()),
    }
}
