mod formats;

use proptest::prelude::*;

use super::*;
use crate::data::golden;

const READABLE: [&str; 7] =
    ["cmyk.jpg", "gray16.png", "palette.png", "progressive.jpg", "rgba.png", "small.bmp", "small.webp"];

fn fixture(name: &str) -> Vec<u8> {
    golden::bytes(&format!("bad_images/{name}"))
}

#[test]
fn unusual_files_decode_as_pillow_decodes_them() {
    let expected = golden::json("bad_images/expected.json");
    let readable = expected["readable"].as_object().unwrap();
    assert_eq!(readable.len(), READABLE.len());
    for (name, expected) in readable {
        let image = decode(&fixture(name)).unwrap_or_else(|error| panic!("{name}: {error}")).image;
        assert_eq!((image.height, image.width), (24, 24), "{name}");
        let (largest, mean) = golden::differences(&image.pixels_hwc, &golden::base64(&expected["rgb"]));
        let (most, most_mean) = if expected["exact"].as_bool().unwrap() { (0, 0.0) } else { (3, 0.5) };
        assert!(largest <= most && mean <= most_mean, "{name}: {largest}, mean {mean}");
    }
}

#[test]
fn every_unreadable_file_is_an_error() {
    let expected = golden::json("bad_images/expected.json");
    for name in expected["unreadable"].as_array().unwrap() {
        let name = name.as_str().unwrap();
        let error = decode(&fixture(name)).unwrap_err();
        match name {
            "truncated.jpg" => assert_eq!(error, DecodeError::Truncated { format: Format::Jpeg }),
            "empty.png" => assert_eq!(error, DecodeError::Empty),
            _ => assert_eq!(error, DecodeError::UnknownFormat),
        }
    }
}

#[test]
fn a_jpeg_cut_anywhere_is_an_error() {
    for name in ["cmyk.jpg", "progressive.jpg"] {
        let whole = fixture(name);
        for n in 0..whole.len() {
            let error = decode(&whole[..n]).unwrap_err();
            assert!(n < 3 || error == DecodeError::Truncated { format: Format::Jpeg }, "{name} at {n}: {error}");
        }
    }
}

#[test]
fn a_cut_lossless_file_is_an_error_or_still_whole() {
    for name in ["gray16.png", "palette.png", "rgba.png", "small.bmp", "small.webp"] {
        let bytes = fixture(name);
        let whole = decode(&bytes).unwrap();
        for n in 0..bytes.len() {
            match decode(&bytes[..n]) {
                Ok(image) => assert_eq!(image, whole, "{name} at {n}"),
                Err(error) => assert!(!matches!(error, DecodeError::Panicked { .. }), "{name} at {n}: {error}"),
            }
        }
        assert!(decode(&bytes[..bytes.len() / 2]).is_err(), "{name}");
    }
}

#[test]
fn the_content_decides_the_format() {
    // `small.webp` under any other name is the same bytes; what counts is how they begin.
    assert_eq!(Format::of(&fixture("small.webp")), Ok(Format::Webp));
    assert_eq!(Format::of(b"GIF89a"), Ok(Format::Gif));
    assert_eq!(Format::of(b"MM\0\x2A"), Ok(Format::Tiff));
    assert_eq!(Format::of(b"GIF88a"), Err(DecodeError::UnknownFormat));
    assert_eq!(Format::of(b""), Err(DecodeError::Empty));
}

#[test]
fn too_many_pixels_are_refused_before_they_are_decoded() {
    let mut png = fixture("rgba.png");
    png[16..24].copy_from_slice(&[0, 0, 0x50, 0, 0, 0, 0x50, 0]);
    let crc = png_crc(&png[12..29]);
    png[29..33].copy_from_slice(&crc.to_be_bytes());
    let error = decode(&png).unwrap_err();
    assert_eq!(error, DecodeError::TooLarge { format: Format::Png, width: 20_480, height: 20_480 });

    let mut jpeg = fixture("progressive.jpg");
    let start = jpeg.windows(2).position(|marker| marker == [0xFF, 0xC2]).unwrap();
    jpeg[start + 5..start + 9].copy_from_slice(&[0xFF, 0xFF, 0xFF, 0xFF]);
    let error = decode(&jpeg).unwrap_err();
    assert_eq!(error, DecodeError::TooLarge { format: Format::Jpeg, width: 65_535, height: 65_535 });

    let mut bmp = fixture("small.bmp");
    bmp[18..26].copy_from_slice(&[0, 0x50, 0, 0, 0, 0x50, 0, 0]);
    let error = decode(&bmp).unwrap_err();
    assert_eq!(error, DecodeError::TooLarge { format: Format::Bmp, width: 20_480, height: 20_480 });

    // The frame alone; then the screen alone.
    let gif = golden::bytes("image_formats/palette.gif");
    let descriptor = gif.windows(3).position(|bytes| bytes == b",\0\0").unwrap();
    for (at, width, height) in [(descriptor + 5, 65_535, 65_535), (6, 65_535, 65_535)] {
        let mut gif = gif.clone();
        gif[at..at + 4].fill(0xFF);
        assert_eq!(decode(&gif).unwrap_err(), DecodeError::TooLarge { format: Format::Gif, width, height });
    }

    let mut tiff = golden::bytes("image_formats/gray8_inverted.tif");
    for tag in [256_u16, 257] {
        let entry = [&tag.to_le_bytes()[..], &[3, 0, 1, 0, 0, 0]].concat();
        let at = tiff.windows(8).position(|bytes| bytes == entry).unwrap();
        tiff[at + 8..at + 10].fill(0xFF);
    }
    let error = decode(&tiff).unwrap_err();
    assert_eq!(error, DecodeError::TooLarge { format: Format::Tiff, width: 65_535, height: 65_535 });
}

#[test]
fn stray_bytes_between_jpeg_headers_do_no_harm() {
    let whole = fixture("progressive.jpg");
    let mut stray = whole.clone();
    let tables = whole.windows(2).position(|marker| marker == [0xFF, 0xDB]).unwrap();
    stray.splice(tables..tables, [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(decode(&stray), decode(&whole));
}

#[test]
fn bytes_after_the_end_of_a_jpeg_do_no_harm() {
    for name in ["cmyk.jpg", "progressive.jpg"] {
        let whole = fixture(name);
        let more = [&whole[..], &whole[..100]].concat();
        assert_eq!(decode(&more), decode(&whole), "{name}");
    }
}

/// Every fixture that can be read.
fn readable_files() -> Vec<String> {
    let formats = golden::json("image_formats.json");
    let formats = formats["files"].as_object().unwrap().keys().map(|name| format!("image_formats/{name}"));
    READABLE.iter().map(|name| format!("bad_images/{name}")).chain(formats).collect()
}

/// The checksum of a PNG chunk: W3C PNG specification, annex D.
fn png_crc(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { 0xEDB8_8320 ^ (crc >> 1) } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_never_panic(start in 0..8_usize, bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        let starts: [&[u8]; 8] = [
            b"",
            b"\xFF\xD8\xFF",
            b"\x89PNG\r\n\x1A\n",
            b"RIFF\0\x01\0\0WEBP",
            b"BM",
            b"GIF89a",
            b"II*\0\x08\0\0\0",
            b"MM\0*\0\0\0\x08",
        ];
        // A decoder's own panic is caught and told as an error, which is all that can be asked of random bytes.
        let _ = decode(&[starts[start], &bytes[..]].concat());
    }

    #[test]
    fn changed_files_never_panic_and_keep_their_promise(
        name in prop::sample::select(readable_files()),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = golden::bytes(&name);
        for (index, byte) in changes {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        if let Ok(decoded) = decode(&bytes) {
            let image = decoded.upright();
            prop_assert_eq!(image.pixels_hwc.len(), image.height as usize * image.width as usize * 3);
        }
    }
}
