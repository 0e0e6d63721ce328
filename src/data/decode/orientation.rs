//! How an image is to be seen, by the note of the camera that took it.

use image::DynamicImage;
use image::metadata::Orientation;

use crate::data::decode::{Format, RgbImage};

/// The orientation in EXIF data; without any, or one that means nothing, the image is as it is to be seen.
pub fn of_exif(exif: Option<&[u8]>) -> Orientation {
    exif.and_then(Orientation::from_exif_chunk).unwrap_or(Orientation::NoTransforms)
}

/// The EXIF data of a PNG or WebP file; other formats have theirs elsewhere, or none.
pub fn exif_chunk(format: Format, bytes: &[u8]) -> Option<&[u8]> {
    match format {
        // A checksum follows each chunk.
        Format::Png => chunk(bytes.get(8..)?, |[a, b, c, d, kind @ ..]| {
            let n_bytes = u32::from_be_bytes([a, b, c, d]) as usize;
            (&kind == b"eXIf", n_bytes, n_bytes.saturating_add(4))
        }),
        // Some programs write what begins EXIF data in a JPEG here too.
        Format::Webp => chunk(bytes.get(12..)?, |[a, b, c, d, size @ ..]| {
            let n_bytes = u32::from_le_bytes(size) as usize;
            (&[a, b, c, d] == b"EXIF", n_bytes, n_bytes.saturating_add(n_bytes % 2))
        })
        .map(|exif| exif.strip_prefix(b"Exif\0\0").unwrap_or(exif)),
        Format::Jpeg | Format::Bmp | Format::Gif | Format::Tiff => None,
    }
}

/// Finds a chunk. `head` tells whether it is the one, how long it is and how far the next one is.
fn chunk(mut rest: &[u8], head: impl Fn([u8; 8]) -> (bool, usize, usize)) -> Option<&[u8]> {
    while let Some((first, tail)) = rest.split_first_chunk() {
        let (is_found, n_bytes, to_next) = head(*first);
        if is_found {
            return tail.get(..n_bytes);
        }
        rest = tail.get(to_next..)?;
    }
    None
}

/// The image turned and mirrored.
pub fn turned(image: RgbImage, orientation: Orientation) -> RgbImage {
    let RgbImage { height, width, pixels_hwc } = image;
    let image =
        image::RgbImage::from_raw(width, height, pixels_hwc).expect("an image has as many bytes as its size says");
    let mut image = DynamicImage::ImageRgb8(image);
    image.apply_orientation(orientation);
    RgbImage { height: image.height(), width: image.width(), pixels_hwc: image.into_bytes() }
}
