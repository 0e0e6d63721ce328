//! Bytes of a file to RGB pixels, as Pillow's `convert("RGB")` gives them.
//!
//! Alpha is dropped, not blended; 16-bit levels are divided by 256, where Pillow clips gray ones; palettes are
//! expanded. An orientation is told and not applied, in TIFF files too, which Pillow always turns. A file is all there
//! or an error: nothing is filled in.

mod gif;
mod jpeg;
mod orientation;
mod png_webp_bmp;
mod samples;
mod tiff;

use std::fmt;
use std::panic::catch_unwind;

use image::metadata::Orientation;

use crate::run::panic;
use crate::spec::schema::data::Decode;

/// Pixels an image may have: twice the limit at which Pillow begins to warn, where it refuses.
pub const MAX_PIXELS: u64 = 178_956_970;

/// An image in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RgbImage {
    /// Rows, at least 1.
    pub height: u32,
    /// Columns, at least 1.
    pub width: u32,
    /// `height * width * 3` bytes, row by row, red first.
    pub pixels_hwc: Vec<u8>,
}

/// What a file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// As it is stored.
    pub image: RgbImage,
    /// How the image is to be turned or mirrored by its EXIF data, or by its TIFF tag.
    orientation: Orientation,
}

/// Image formats that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Jpeg,
    Png,
    Webp,
    Bmp,
    Gif,
    Tiff,
}

/// Why bytes are no usable image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("recognize the image: the file is empty")]
    Empty,

    #[error("recognize the image: the file does not begin as JPEG, PNG, WebP, BMP, GIF or TIFF files do")]
    UnknownFormat,

    #[error("decode the {format} image: the file ends before the image does")]
    Truncated { format: Format },

    #[error("decode the {format} image: {width} x {height} pixels are more than {MAX_PIXELS}")]
    TooLarge { format: Format, width: u32, height: u32 },

    #[error("decode the {format} image: {reason}")]
    Corrupt { format: Format, reason: String },

    #[error("decode the {format} image: its decoder panicked: {reason}")]
    Panicked { format: Format, reason: String },
}

/// Decodes a whole image file; its content decides the format.
///
/// Of an animation the first image is taken, and of several pages the first. Memory: at most 16 bytes a pixel beside
/// the file, and for few kinds of JPEG, GIF and TIFF a copy of the file.
pub fn decode(bytes: &[u8]) -> Result<Decoded, DecodeError> {
    decode_as(bytes, Decode::default())
}

/// The same, with JPEG's levels as they are asked for.
pub fn decode_as(bytes: &[u8], how: Decode) -> Result<Decoded, DecodeError> {
    let format = Format::of(bytes)?;
    let decoded = catch_unwind(|| match format {
        Format::Jpeg => jpeg::decode(bytes, how),
        Format::Png | Format::Webp | Format::Bmp => png_webp_bmp::decode(format, bytes),
        Format::Gif => gif::decode(bytes),
        Format::Tiff => tiff::decode(bytes),
    });
    decoded.unwrap_or_else(|payload| Err(DecodeError::Panicked { format, reason: panic::text(&*payload) }))
}

impl Decoded {
    /// Whether the image is to be seen otherwise than it is stored.
    pub fn is_turned(&self) -> bool {
        self.orientation != Orientation::NoTransforms
    }

    /// The image as it is to be seen. Source: Pillow's `ImageOps.exif_transpose`.
    pub fn upright(self) -> RgbImage {
        orientation::turned(self.image, self.orientation)
    }
}

impl From<RgbImage> for Decoded {
    /// An image that is to be seen as it is stored.
    fn from(image: RgbImage) -> Self {
        Self { image, orientation: Orientation::NoTransforms }
    }
}

impl Format {
    fn of(bytes: &[u8]) -> Result<Self, DecodeError> {
        match bytes {
            [] => Err(DecodeError::Empty),
            [0xFF, 0xD8, 0xFF, ..] => Ok(Self::Jpeg),
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1A, b'\n', ..] => Ok(Self::Png),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Ok(Self::Webp),
            [b'B', b'M', ..] => Ok(Self::Bmp),
            [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Ok(Self::Gif),
            // Classic TIFF and BigTIFF, in either byte order.
            [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..] => Ok(Self::Tiff),
            _ => Err(DecodeError::UnknownFormat),
        }
    }

    /// Refuses sizes that no image should have, before memory is taken for them.
    fn check_size(self, width: u32, height: u32) -> Result<(), DecodeError> {
        if width == 0 || height == 0 {
            return Err(self.corrupt("it has no pixels"));
        }
        if u64::from(width) * u64::from(height) > MAX_PIXELS {
            return Err(DecodeError::TooLarge { format: self, width, height });
        }
        Ok(())
    }

    /// Decoders end their texts with full stops and line breaks, or quote them.
    fn corrupt(self, reason: &str) -> DecodeError {
        let reason = reason.trim_matches('"').trim_end_matches("\\n").trim_end_matches('.').trim();
        DecodeError::Corrupt { format: self, reason: reason.to_owned() }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
            Self::Webp => "WebP",
            Self::Bmp => "BMP",
            Self::Gif => "GIF",
            Self::Tiff => "TIFF",
        })
    }
}

#[cfg(test)]
mod tests;
