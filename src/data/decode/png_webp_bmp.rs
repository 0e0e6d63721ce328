//! PNG, WebP and BMP through the `image` crate.

use std::io::{Cursor, ErrorKind};

use image::codecs::bmp::BmpDecoder;
use image::codecs::png::PngDecoder;
use image::codecs::webp::WebPDecoder;
use image::{ColorType, ImageDecoder, ImageError, Limits};

use crate::data::decode::{DecodeError, Format, RgbImage};

/// Memory for what else is in a file, such as colour profiles, and for the rows being decoded.
const MAX_SIDE_DATA_BYTES: u64 = 256 << 20;

pub fn decode(format: Format, bytes: &[u8]) -> Result<RgbImage, DecodeError> {
    let reader = Cursor::new(bytes);
    let corrupt = |error| corrupt(format, error);
    match format {
        Format::Png => {
            let mut limits = Limits::no_limits();
            limits.max_alloc = Some(MAX_SIDE_DATA_BYTES);
            read(format, PngDecoder::with_limits(reader, limits).map_err(corrupt)?)
        }
        Format::Webp => read(format, WebPDecoder::new(reader).map_err(corrupt)?),
        Format::Bmp => read(format, BmpDecoder::new(reader).map_err(corrupt)?),
        Format::Jpeg => unreachable!("JPEG has its own decoder"),
    }
}

fn read(format: Format, decoder: impl ImageDecoder) -> Result<RgbImage, DecodeError> {
    let (width, height) = decoder.dimensions();
    format.check_size(width, height)?;
    let color = decoder.color_type();
    let mut samples = vec![0; decoder.total_bytes() as usize];
    decoder.read_image(&mut samples).map_err(|error| corrupt(format, error))?;
    Ok(RgbImage { height, width, pixels_hwc: rgb_from_samples(color, samples) })
}

/// Samples are 8-bit, or 16-bit in the machine's byte order.
fn rgb_from_samples(color: ColorType, samples: Vec<u8>) -> Vec<u8> {
    if color == ColorType::Rgb8 {
        return samples;
    }
    let n_channels = usize::from(color.channel_count());
    let n_bytes = usize::from(color.bytes_per_pixel()) / n_channels;
    let level = |pixel: &[u8], channel: usize| match n_bytes {
        1 => pixel[channel],
        _ => (u16::from_ne_bytes([pixel[2 * channel], pixel[2 * channel + 1]]) >> 8) as u8,
    };
    // Gray, alone or with alpha, is all three colours.
    let channels = if n_channels < 3 { [0, 0, 0] } else { [0, 1, 2] };
    let mut rgb = Vec::with_capacity(samples.len() / (n_channels * n_bytes) * 3);
    for pixel in samples.chunks_exact(n_channels * n_bytes) {
        rgb.extend(channels.map(|channel| level(pixel, channel)));
    }
    rgb
}

fn corrupt(format: Format, error: ImageError) -> DecodeError {
    match error {
        ImageError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => DecodeError::Truncated { format },
        error => DecodeError::Corrupt { format, reason: error.to_string() },
    }
}
