//! One file for each way to store an image, beside what Pillow makes of it.

use super::*;

/// How far decoders may be from Pillow's: the largest difference of a level, and the mean.
fn tolerance(name: &str) -> (u8, f64) {
    match name {
        "rgb16_555.bmp" | "rgb16_565.bmp" => (1, 0.5),
        // Gray and YCbCr are Pillow's to the bit.
        _ if name.ends_with(".jpg") && ["cmyk", "ycck", "rgb_"].iter().any(|kind| name.starts_with(kind)) => (3, 0.1),
        _ => (0, 0.0),
    }
}

#[test]
fn every_way_to_store_an_image_decodes_as_pillow_decodes_it() {
    let expected = golden::json("image_formats.json");
    let size = |key: &str| expected[key].as_u64().unwrap() as u32;
    let mut faults = Vec::new();
    for (name, file) in expected["files"].as_object().unwrap() {
        let pixels = |key: &str| golden::base64(&expected["pixels"][file[key].as_str().unwrap()]);
        let decoded = match decode(&golden::bytes(&format!("image_formats/{name}"))) {
            Ok(decoded) => decoded,
            Err(error) => {
                faults.push(format!("{name}: {error}"));
                continue;
            }
        };
        assert_eq!((decoded.image.height, decoded.image.width), (size("height"), size("width")), "{name}");
        let mut compare = |what: &str, found: &RgbImage, pixels: &[u8]| {
            let (largest, mean) = golden::differences(&found.pixels_hwc, pixels);
            let (most, most_mean) = tolerance(name);
            if largest > most || mean > most_mean {
                faults.push(format!("{name}, {what}: {largest}, mean {mean}"));
            }
        };
        compare("stored", &decoded.image, &pixels("stored"));
        let orientation = name.strip_prefix("exif_").map_or(b'1', |rest| rest.as_bytes()[0]);
        assert_eq!(decoded.is_turned(), (b'2'..=b'8').contains(&orientation), "{name}");
        let is_on_its_side = (b'5'..=b'8').contains(&orientation);
        let upright = decoded.upright();
        let (height, width) = if is_on_its_side { ("width", "height") } else { ("height", "width") };
        assert_eq!((upright.height, upright.width), (size(height), size(width)), "{name}");
        compare("upright", &upright, &pixels(if orientation == b'1' { "stored" } else { "upright" }));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn what_is_not_supported_says_what_it_is() {
    let expected = golden::json("image_formats.json");
    for name in expected["unreadable"].as_array().unwrap() {
        let name = name.as_str().unwrap();
        let error = decode(&golden::bytes(&format!("image_formats/{name}"))).unwrap_err();
        assert!(matches!(error, DecodeError::Corrupt { format: Format::Tiff, .. }), "{name}: {error}");
    }
}

#[test]
fn a_cut_file_is_an_error_or_still_whole() {
    let expected = golden::json("image_formats.json");
    for name in expected["files"].as_object().unwrap().keys() {
        let bytes = golden::bytes(&format!("image_formats/{name}"));
        let Ok(whole) = decode(&bytes) else { continue };
        for n in (0..bytes.len()).step_by(1 + bytes.len() / 50) {
            match decode(&bytes[..n]) {
                // An orientation may stand behind the image.
                Ok(cut) => assert_eq!(cut.image, whole.image, "{name} at {n}"),
                Err(error) => assert!(!matches!(error, DecodeError::Panicked { .. }), "{name} at {n}: {error}"),
            }
        }
        // The second page begins there.
        assert!(name == "pages.tif" || decode(&bytes[..bytes.len() / 2]).is_err(), "{name}");
    }
}
