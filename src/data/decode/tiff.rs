//! TIFF through the `image` crate: strips and tiles, gray, RGB, CMYK and palettes of 256 colours.
//!
//! The crate refuses palettes and rounds CMYK otherwise than Pillow, so that such files are given to it under another
//! label, which brings their samples as they are. This looks only at the first directory, and not into BigTIFF files.

use std::io::Cursor;

use image::codecs::tiff::TiffDecoder;
use image::metadata::Orientation;
use image::{ColorType, ImageDecoder, Limits};

use crate::data::decode::samples::{self, MAX_SIDE_DATA_BYTES, Samples};
use crate::data::decode::{DecodeError, Decoded, Format, RgbImage};

const FORMAT: Format = Format::Tiff;

/// Tags. Source: TIFF revision 6.0, appendix A.
const PHOTOMETRIC_INTERPRETATION: u16 = 262;
const COLOR_MAP: u16 = 320;

/// What samples mean. Source: TIFF revision 6.0, section 8.
const BLACK_IS_ZERO: u16 = 1;
const RGB: u16 = 2;
const PALETTE: u16 = 3;
const CMYK: u16 = 5;

/// Decodes the first page.
pub fn decode(bytes: &[u8]) -> Result<Decoded, DecodeError> {
    let directory = Directory::first(bytes);
    let meaning = directory.as_ref().and_then(|directory| directory.short(PHOTOMETRIC_INTERPRETATION));
    let (image, orientation) = match (&directory, meaning) {
        (Some(directory), Some(PALETTE)) => {
            let (samples, orientation) = read(&directory.labelled(BLACK_IS_ZERO))?;
            (with_palette(&samples, directory.color_map())?, orientation)
        }
        (Some(directory), Some(CMYK)) => {
            let (samples, orientation) = read(&directory.labelled(RGB))?;
            if samples.color.channel_count() != 4 {
                return Err(FORMAT.corrupt("not supported: CMYK of other than four inks"));
            }
            (samples.map(rgb_from_cmyk), orientation)
        }
        _ => {
            let (samples, orientation) = read(bytes)?;
            (samples.into_rgb(), orientation)
        }
    };
    Ok(Decoded { image, orientation })
}

fn read(bytes: &[u8]) -> Result<(Samples, Orientation), DecodeError> {
    let corrupt = |error| samples::corrupt(FORMAT, error);
    let mut decoder = TiffDecoder::new(Cursor::new(bytes)).map_err(corrupt)?;
    let (width, height) = decoder.dimensions();
    FORMAT.check_size(width, height)?;
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(decoder.total_bytes() + MAX_SIDE_DATA_BYTES);
    decoder.set_limits(limits).map_err(corrupt)?;
    // A tag that makes no sense says nothing.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    Ok((samples::read(FORMAT, decoder)?, orientation))
}

fn with_palette(samples: &Samples, color_map: Option<Vec<[u8; 3]>>) -> Result<RgbImage, DecodeError> {
    match color_map {
        Some(colors) if samples.color == ColorType::L8 => Ok(samples.map(|[index, ..]| colors[usize::from(index)])),
        _ => Err(FORMAT.corrupt("not supported: a palette of other than 256 colours")),
    }
}

/// Source: Pillow's `cmyk2rgb`, whose products are divided by 255 and rounded to the nearest.
fn rgb_from_cmyk([cyan, magenta, yellow, black]: [u8; 4]) -> [u8; 3] {
    let light = u32::from(255 - black);
    [cyan, magenta, yellow].map(|ink| {
        let product = u32::from(ink) * light + 128;
        (light - ((product + (product >> 8)) >> 8)) as u8
    })
}

/// The first directory of a TIFF file that is no BigTIFF.
struct Directory<'a> {
    bytes: &'a [u8],
    is_big_endian: bool,
    /// Place of its first entry.
    at: usize,
    n_entries: usize,
}

impl<'a> Directory<'a> {
    fn first(bytes: &'a [u8]) -> Option<Self> {
        let is_big_endian = match bytes.first_chunk()? {
            [b'I', b'I', 42, 0] => false,
            [b'M', b'M', 0, 42] => true,
            _ => return None,
        };
        let mut directory = Self { bytes, is_big_endian, at: 0, n_entries: 0 };
        let at = directory.long_at(4)?;
        directory.n_entries = usize::from(directory.short_at(at)?);
        directory.at = at.checked_add(2)?;
        Some(directory)
    }

    fn short_at(&self, at: usize) -> Option<u16> {
        let bytes = *self.bytes.get(at..)?.first_chunk()?;
        Some(if self.is_big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    }

    fn long_at(&self, at: usize) -> Option<usize> {
        let bytes = *self.bytes.get(at..)?.first_chunk()?;
        let number = if self.is_big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) };
        Some(number as usize)
    }

    /// Place of a tag's value, or of the place of its values.
    fn value_at(&self, tag: u16) -> Option<usize> {
        let mut entries = (0..self.n_entries).map(|i| self.at + 12 * i);
        entries.find(|at| self.short_at(*at) == Some(tag)).map(|at| at + 8)
    }

    fn short(&self, tag: u16) -> Option<u16> {
        self.short_at(self.value_at(tag)?)
    }

    /// The file with another meaning of its samples.
    fn labelled(&self, meaning: u16) -> Vec<u8> {
        let mut file = self.bytes.to_vec();
        if let Some(at) = self.value_at(PHOTOMETRIC_INTERPRETATION) {
            let label = if self.is_big_endian { meaning.to_be_bytes() } else { meaning.to_le_bytes() };
            file[at..at + 2].copy_from_slice(&label);
        }
        file
    }

    /// 256 colours; their levels are stored with 16 bits, all red ones first.
    fn color_map(&self) -> Option<Vec<[u8; 3]>> {
        let value_at = self.value_at(COLOR_MAP)?;
        let (n_levels, at) = (self.long_at(value_at - 4)?, self.long_at(value_at)?);
        let level = |i: usize| Some((self.short_at(at.checked_add(2 * i)?)? >> 8) as u8);
        let color = |i: usize| Some([level(i)?, level(256 + i)?, level(512 + i)?]);
        (n_levels == 3 * 256).then(|| (0..256).map(color).collect())?
    }
}
