//! What the decoders of the `image` crate give, and RGB from it.

use std::error::Error;
use std::io::ErrorKind;

use image::error::UnsupportedErrorKind;
use image::{ColorType, ImageDecoder, ImageError};

use crate::data::decode::{DecodeError, Format, RgbImage};

/// Memory for what else is in a file, such as colour profiles, and for the rows being decoded.
pub const MAX_SIDE_DATA_BYTES: u64 = 256 << 20;

/// A decoded image before its conversion to RGB.
pub struct Samples {
    pub height: u32,
    pub width: u32,
    pub color: ColorType,
    /// Pixel by pixel; samples are 8-bit, or 16-bit in the machine's byte order.
    pub bytes: Vec<u8>,
}

/// Decodes an image after its size was checked.
pub fn read(format: Format, decoder: impl ImageDecoder) -> Result<Samples, DecodeError> {
    let (width, height) = decoder.dimensions();
    format.check_size(width, height)?;
    let color = decoder.color_type();
    if color.bytes_per_pixel() / color.channel_count() > 2 {
        return Err(format.corrupt("not supported: samples of more than 16 bits"));
    }
    let mut bytes = vec![0; decoder.total_bytes() as usize];
    decoder.read_image(&mut bytes).map_err(|error| corrupt(format, error))?;
    Ok(Samples { height, width, color, bytes })
}

impl Samples {
    /// Drops alpha, and the low half of 16-bit levels.
    pub fn into_rgb(self) -> RgbImage {
        let (height, width) = (self.height, self.width);
        if self.color == ColorType::Rgb8 {
            return RgbImage { height, width, pixels_hwc: self.bytes };
        }
        // Gray, alone or with alpha, is all three colours.
        let channels = if self.color.channel_count() < 3 { [0, 0, 0] } else { [0, 1, 2] };
        self.map(|pixel| channels.map(|channel| pixel[channel]))
    }

    /// Makes the colour of each pixel from its samples, of which there are at most four.
    pub fn map(&self, rgb: impl Fn([u8; 4]) -> [u8; 3]) -> RgbImage {
        let n_channels = usize::from(self.color.channel_count());
        let n_bytes = usize::from(self.color.bytes_per_pixel()) / n_channels;
        // The high byte of a 16-bit sample.
        let high = if n_bytes == 2 && cfg!(target_endian = "little") { 1 } else { 0 };
        let mut pixels_hwc = Vec::with_capacity(self.height as usize * self.width as usize * 3);
        for pixel in self.bytes.chunks_exact(n_channels * n_bytes) {
            let mut levels = [0; 4];
            for (level, sample) in levels.iter_mut().zip(pixel.chunks_exact(n_bytes)) {
                *level = sample[high];
            }
            pixels_hwc.extend(rgb(levels));
        }
        RgbImage { height: self.height, width: self.width, pixels_hwc }
    }
}

pub fn corrupt(format: Format, error: ImageError) -> DecodeError {
    match error {
        ImageError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => DecodeError::Truncated { format },
        error => format.corrupt(&reason(&error)),
    }
}

/// What is wrong, without the format, which the crate's own texts begin with.
fn reason(error: &ImageError) -> String {
    if let ImageError::Unsupported(unsupported) = error {
        match unsupported.kind() {
            UnsupportedErrorKind::GenericFeature(what) => return format!("not supported: {what}"),
            UnsupportedErrorKind::Color(color) => return format!("not supported: colours of type {color:?}"),
            _ => {}
        }
    }
    error.source().map_or_else(|| error.to_string(), ToString::to_string)
}
