//! Made-up images for tests.

use std::path::Path;

use crate::data::folder::scan;
use crate::data::images::{Images, ReadSettings};
use crate::data::listing::Listing;
use crate::run::metric::Split;
use crate::run::stop::StopFlag;
use crate::spec::schema::data::{Decode, Exif, OnBadImage, Resize};

/// Resized to 6 x 8, all of it cached.
pub const SETTINGS: ReadSettings = ReadSettings {
    height: 6,
    width: 8,
    filter: Resize::Bilinear,
    on_bad_image: OnBadImage::Error,
    exif: Exif::Ignore,
    decode: Decode::LibjpegTurbo,
    cache_budget_bytes: u64::MAX,
    threads: 4,
};

/// Bytes of an image after resizing.
pub const IMAGE_BYTES: u64 = 6 * 8 * 3;

/// `n` images, each unlike the others, in turn in the classes a, b and c.
pub fn folder(n: u32) -> (tempfile::TempDir, Listing) {
    let root = tempfile::tempdir().unwrap();
    for i in 0..n {
        let class = root.path().join(["a", "b", "c"][i as usize % 3]);
        std::fs::create_dir_all(&class).unwrap();
        write_image(&class.join(format!("{i:04}.png")), i);
    }
    let folder = scan(root.path()).unwrap();
    (root, folder)
}

pub fn write_image(path: &Path, i: u32) {
    let (height, width) = (5 + i % 7, 9 + i % 4);
    let pixels: Vec<u8> = (0..height * width * 3).map(|j| (j * (i + 3) + i * 7) as u8).collect();
    image::save_buffer(path, &pixels, width, height, image::ExtendedColorType::Rgb8).unwrap();
}

pub fn read(folder: &Listing, settings: &ReadSettings) -> Images {
    Images::read(Split::Train, folder, settings, &StopFlag::default(), &|_| ()).unwrap()
}

/// The pixels of every image.
pub fn pixels(images: &Images) -> Vec<Vec<u8>> {
    let pixels = |index| {
        let mut out = vec![0; images.image_bytes()];
        images.pixels_into(index, &mut out).unwrap();
        out
    };
    (0..images.len()).map(pixels).collect()
}
